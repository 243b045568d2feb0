"""Speed and memory of the alignment: `python -m benchmarks.align --help`.

It is compared with the CMU-MultimodalSDK on the same files, where the results must agree, and timed
on generated corpora of growing size, each in its own process for its peak memory.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.corpora import GeneratedCorpus, Size, write_corpus
from benchmarks.measure import RESULTS, Spread, Time, machine, make_row, table_of, write
from benchmarks.sdk_oracle import EPSILON, compare, sdk_align, sdk_available
from dhmd.data.aligned import read_corpus
from dhmd.data.alignment import AlignConfig, CorpusJob, align_corpus
from dhmd.recipes import Recipe, load_recipe

MOSEI_VIDEOS = 3228
TARGET = 50.0  # times as fast as the SDK, on the real files
UNCUT = AlignConfig(max_steps=1_000_000, incomplete_videos="drop")  # as the SDK does
WARM_UP = Size(num_videos=3, seconds=4.0, text_width=4, audio_width=4, vision_width=4)


def align_once(paths: Mapping[str, Path], recipe: Recipe, folds: Path, output: Path) -> Time:
    """Align with dhmd and return the time."""
    start = Time.now()
    options = {"align": UNCUT, "alignment": "word", "folds_path": folds, "epsilon": EPSILON}
    align_corpus(CorpusJob(recipe=recipe, paths=paths, **options), output)
    return Time.now() - start


def against_sdk(
    label: str, paths: Mapping[str, Path], recipe: Recipe, folds: Path, repeats: int
) -> dict[str, Any]:
    """Time the slow SDK once and dhmd `repeats` times after a warm-up, on the same files."""
    needed = {name: paths[name] for name in recipe.required_sequences}
    assert recipe.reference is not None
    assert recipe.labels.sequence is not None
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "aligned.h5"
        times = [align_once(needed, recipe, folds, output) for _ in range(repeats + 1)][1:]
        start = Time.now()
        oracle = sdk_align(needed, reference=recipe.reference, labels=recipe.labels.sequence)
        sdk = Time.now() - start
        agreement = compare(read_corpus(output, test_labels=True), recipe, oracle)
    row = make_row(
        f"align against the SDK, {label}",
        Spread.of([sdk.wall / t.wall for t in times]),
        target=TARGET if label == "mosi_real" else None,
        **asdict(agreement),
        seconds=statistics.mean(t.wall for t in times),
        sdk_seconds=sdk.wall,
        sdk_runs=1,
        ratio_of_cpu_time=sdk.cpu / statistics.mean(t.cpu for t in times),
    )
    print(
        f"{label}: {agreement.num_segments} segments, {Spread(**row['ratio'])} times the SDK "
        f"(its n=1), {row['ratio_of_cpu_time']:.0f} in CPU time; largest difference"
        f" {agreement.largest:.1e}, {agreement.border_rows} border rows",
        flush=True,
    )
    return row


def _measure(corpus: GeneratedCorpus, output: Path) -> tuple[float, float, float]:
    """Return the seconds, and the peak memory in MiB before and after."""
    with tempfile.TemporaryDirectory() as folder:  # imports and first calls are not measured
        small = write_corpus(Path(folder), WARM_UP)
        align_once(small.paths, small.recipe, small.folds, Path(folder) / "aligned.h5")
    before = _peak_mib()
    seconds = align_once(corpus.paths, corpus.recipe, corpus.folds, output)
    return seconds.wall, before, _peak_mib()


def _peak_mib() -> float:
    """Return the peak memory of this process (Linux); that of getrusage includes the parent's."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    [kib] = [row.split()[1] for row in status.splitlines() if row.startswith("VmHWM:")]
    return int(kib) / 1024


def measure_alone(num_videos: int, folder: Path) -> dict[str, Any]:
    """Align a generated corpus with MOSEI's rates in a separate process; return a row."""
    corpus = write_corpus(folder / "raw", Size(num_videos=num_videos))
    size = sum(path.stat().st_size for path in corpus.paths.values())
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        seconds, before, peak = pool.submit(_measure, corpus, folder / "aligned.h5").result()
    row = make_row(
        f"align alone, {num_videos} generated videos",
        None,
        videos=num_videos,
        raw_gb=size / 1e9,
        cache_gb=(folder / "aligned.h5").stat().st_size / 1e9,
        seconds=seconds,
        gb_per_second=size / 1e9 / seconds,
        peak_mib=peak,
        peak_mib_before=before,
    )
    print(
        f"{num_videos} videos, {size / 1e9:.2f} GB: {seconds:.1f} s"
        f" ({size / 1e9 / seconds:.2f} GB/s), peak memory {peak:.0f} MiB ({before:.0f} before)",
        flush=True,
    )
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Format the rows for docs/performance.md: against the SDK, then dhmd alone."""
    against_sdk = {
        "corpus": "name",
        "times the SDK (quartiles)": "ratio",
        "target": "target",
        "s": "seconds",
        "the SDK's s": "sdk_seconds",
        "difference": lambda row: f"{row['largest']:.1e}",
    }
    alone = {
        "corpus": "name",
        "GB read": "raw_gb",
        "s": "seconds",
        "GB/s": "gb_per_second",
        "peak memory, MiB": "peak_mib",
    }
    tables = []
    for key, columns in (("ratio", against_sdk), ("videos", alone)):
        if selected := [row for row in rows if key in row]:
            tables.append(table_of(selected, columns))
    return "\n\n".join(tables)


def main() -> None:
    """Run the benchmarks, print the tables and write the JSON file."""
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.align")
    parser.add_argument("--real", type=Path, help="folder with the files of dataset mosi_real")
    parser.add_argument("--repeats", type=int, default=5, help="number of runs of dhmd, at least 2")
    parser.add_argument(
        "--sdk-videos",
        type=int,
        nargs="*",
        default=[3, 6],
        help="numbers of videos in the generated corpora that are compared with the SDK",
    )
    parser.add_argument(
        "--videos",
        type=int,
        nargs="*",
        default=[8, 16, 32],
        help="numbers of videos in the generated corpora on which dhmd is timed",
    )
    parser.add_argument(
        "--mosei",
        action="store_true",
        help="also time a corpus of MOSEI's size (15 GB of disk space, several minutes)",
    )
    parser.add_argument("--scratch", type=Path, help="folder for temporary files")
    parser.add_argument("--json", type=Path, default=RESULTS / "align.json")
    arguments = parser.parse_args()
    rows = []
    if sdk_available():
        if arguments.real is not None:
            recipe = load_recipe("mosi_real", Path.cwd())
            paths = {
                name: arguments.real / file.path for name, file in recipe.required_sequences.items()
            }
            folds = arguments.real / "folds.json"
            rows.append(against_sdk("mosi_real", paths, recipe, folds, arguments.repeats))
        for videos in arguments.sdk_videos:
            with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
                corpus = write_corpus(Path(folder), Size(num_videos=videos))
                label = f"generated, {videos} videos"
                rows.append(
                    against_sdk(label, corpus.paths, corpus.recipe, corpus.folds, arguments.repeats)
                )
    else:
        print("the SDK is not installed: no comparison (pip install cmu-multimodal-sdk==0.0.6)")
    for videos in [*arguments.videos, *([MOSEI_VIDEOS] if arguments.mosei else [])]:
        with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
            rows.append(measure_alone(videos, Path(folder)))
    print("\n" + table(rows))
    write(
        arguments.json, "align", {"machine": {**machine(), "numpy": np.__version__}, "rows": rows}
    )


if __name__ == "__main__":
    main()
