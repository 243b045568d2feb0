"""How fast and how big is the alignment? `python -m benchmarks.align --help`

Against the CMU-MultimodalSDK on the same files (the results must agree), and alone on generated
corpora of growing size, each in its own process so that peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.corpora import GeneratedCorpus, Size, write_corpus
from benchmarks.sdk_oracle import EPSILON, compare, sdk_align, sdk_available
from dhmd.alignment import AlignConfig, align_corpus
from dhmd.cache import read_corpus
from dhmd.recipes import Recipe, load_recipe

MOSEI_VIDEOS = 3228
UNCUT = AlignConfig(max_steps=1_000_000)  # the SDK cuts nothing
WARM_UP = Size(videos=3, seconds=4.0, text_width=4, audio_width=4, vision_width=4)


@dataclass(frozen=True)
class Time:
    """Seconds on the clock, and of this process's CPU: the second is steady on a busy machine."""

    wall: float
    cpu: float

    @classmethod
    def since(cls, start: Time | None = None) -> Time:
        """Now, or what passed since `start`."""
        wall, cpu = time.perf_counter(), time.process_time()
        return cls(wall, cpu) if start is None else cls(wall - start.wall, cpu - start.cpu)


def ours(paths: Mapping[str, Path], recipe: Recipe, folds: Path, output: Path) -> Time:
    """Align once."""
    start = Time.since()
    align_corpus(
        paths,
        recipe,
        UNCUT,
        alignment="word",
        sources={},
        folds_path=folds,
        output=output,
        epsilon=EPSILON,
    )
    return Time.since(start)


def against_sdk(
    label: str, paths: Mapping[str, Path], recipe: Recipe, folds: Path, repeats: int
) -> dict[str, object]:
    """The SDK once (it is slow), ours `repeats` times after a warm-up, on the same files."""
    needed = {name: paths[name] for name in recipe.needed}
    assert recipe.reference is not None
    assert recipe.labels.sequence is not None
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "aligned.h5"
        times = [ours(needed, recipe, folds, output) for _ in range(repeats + 1)][1:]
        start = Time.since()
        oracle = sdk_align(needed, reference=recipe.reference, labels=recipe.labels.sequence)
        sdk = Time.since(start)
        agreement = compare(read_corpus(output, test_labels=True), recipe, oracle)
    wall, cpu = [t.wall for t in times], [t.cpu for t in times]
    row: dict[str, object] = {
        "corpus": label,
        **asdict(agreement),
        "sdk": asdict(sdk),
        "sdk_runs": 1,
        "ours": {"wall": statistics.mean(wall), "cpu": statistics.mean(cpu)},
        "ours_sd": {"wall": statistics.stdev(wall), "cpu": statistics.stdev(cpu)},
        "runs": repeats,
        "ratio": {"wall": sdk.wall / statistics.mean(wall), "cpu": sdk.cpu / statistics.mean(cpu)},
    }
    print(
        f"{label}: {agreement.segments} segments, SDK {sdk.wall:.2f} s (n=1), ours"
        f" {statistics.mean(wall):.3f} ± {statistics.stdev(wall):.3f} s (n={repeats}):"
        f" {sdk.wall / statistics.mean(wall):.0f} times faster,"
        f" {sdk.cpu / statistics.mean(cpu):.0f} in CPU time;"
        f" largest difference {agreement.largest:.1e}, {agreement.border_rows} border rows"
    )
    return row


def _measure(corpus: GeneratedCorpus, output: Path, queue: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:  # imports and first calls are not the aligner's
        small = write_corpus(Path(folder), WARM_UP)
        ours(small.paths, small.recipe, small.folds, Path(folder) / "aligned.h5")
    before = _peak_mib()
    seconds = ours(corpus.paths, corpus.recipe, corpus.folds, output)
    queue.put((seconds.wall, before, _peak_mib()))


def _peak_mib() -> float:
    """Peak memory of this process alone (Linux): getrusage's would be inherited from the parent."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    [kib] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(kib) / 1024


def grow(videos: int, folder: Path) -> dict[str, object]:
    """Align a generated corpus of MOSEI's rates in a process of its own."""
    corpus = write_corpus(folder / "raw", Size(videos=videos))
    size = sum(path.stat().st_size for path in corpus.paths.values())
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_measure, args=(corpus, folder / "aligned.h5", queue))
    process.start()
    seconds, before, peak = queue.get()
    process.join()
    row: dict[str, object] = {
        "videos": videos,
        "raw_gb": size / 1e9,
        "cache_gb": (folder / "aligned.h5").stat().st_size / 1e9,
        "seconds": seconds,
        "gb_per_second": size / 1e9 / seconds,
        "peak_mib": peak,
        "peak_mib_before": before,
    }
    print(
        f"{videos} videos, {size / 1e9:.2f} GB: {seconds:.1f} s"
        f" ({size / 1e9 / seconds:.2f} GB/s), peak memory {peak:.0f} MiB ({before:.0f} before)"
    )
    return row


def main() -> None:
    """Run what the flags ask for; print it and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.align")
    parser.add_argument("--real", type=Path, help="folder with the files of recipe mosi_real")
    parser.add_argument("--repeats", type=int, default=5, help="runs of ours, 2 or more")
    parser.add_argument(
        "--sdk-videos", type=int, nargs="*", default=[3, 6], help="generated, against the SDK"
    )
    parser.add_argument(
        "--videos", type=int, nargs="*", default=[8, 16, 32], help="generated, ours alone"
    )
    parser.add_argument(
        "--mosei", action="store_true", help="also all of MOSEI's size (15 GB of disk, minutes)"
    )
    parser.add_argument("--scratch", type=Path, help="where generated files go for a while")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/align.json"))
    arguments = parser.parse_args()
    result: dict[str, object] = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "numpy": np.__version__,
    }
    comparisons, growth = [], []
    if sdk_available():
        if arguments.real is not None:
            recipe = load_recipe("mosi_real", Path.cwd())
            paths = {name: arguments.real / file.path for name, file in recipe.needed.items()}
            folds = arguments.real / "folds.json"
            comparisons.append(against_sdk("mosi_real", paths, recipe, folds, arguments.repeats))
        for videos in arguments.sdk_videos:
            with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
                corpus = write_corpus(Path(folder), Size(videos=videos))
                label = f"generated, {videos} videos"
                comparisons.append(
                    against_sdk(label, corpus.paths, corpus.recipe, corpus.folds, arguments.repeats)
                )
    else:
        print("the SDK is not installed: no comparison (pip install cmu-multimodal-sdk==0.0.6)")
    for videos in [*arguments.videos, *([MOSEI_VIDEOS] if arguments.mosei else [])]:
        with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
            growth.append(grow(videos, Path(folder)))
    result.update(against_sdk=comparisons, growth=growth)
    arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written to {arguments.json}")


if __name__ == "__main__":
    main()
