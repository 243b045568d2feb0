"""Time of an epoch on utterances of real lengths: `python -m benchmarks.epoch --help`.

The engine sorts utterances into length buckets and trims each batch; the plain model pads to the
longest length of the dataset config, as most code does. All its batches take the same time, so only
a fraction of its epoch is timed. The corpora are the demo and, if their folder is given, the real
files of CMU-MOSI with DMD's published settings and with those of the dataset config.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.engine import (
    MOSI,
    TINY,
    EnsembleRun,
    PlainRun,
    Shape,
    add_common_arguments,
    device_name,
    prepared_device,
    random_corpus,
)
from benchmarks.measure import (
    ROOT,
    Spread,
    machine,
    make_row,
    ratio,
    scratch_folder,
    table_of,
    time_interleaved,
    write,
)
from dhmd.config.schema import load_section
from dhmd.data.aligned import read_corpus
from dhmd.data.aligned.corpus import Array
from dhmd.data.alignment import CorpusJob, align_corpus
from dhmd.data.synthetic import GeneratorConfig, generate
from dhmd.settings import Settings, load_params
from dhmd.training.device_corpus import DeviceCorpus

TARGET = 4.0  # real files, DMD's settings
MORE_BUCKETS = 8  # to show the effect of more buckets than params.yaml has


def aligned(settings: Settings, raw: Path, folder: Path) -> Path:
    """Align the files in `raw` as the pipeline does, and return the aligned file."""
    recipe = settings.recipe
    folds = raw / "folds.json" if recipe.folds is None else ROOT / "recipes" / recipe.folds.file
    job = CorpusJob(
        recipe=recipe,
        paths={name: raw / file.path for name, file in recipe.required_sequences.items()},
        align=settings.align,
        alignment="word",
        folds_path=folds,
    )
    align_corpus(job, folder / "aligned.h5")
    return folder / "aligned.h5"


def corpus_of(
    settings: Settings, aligned_file: Path, device: torch.device
) -> tuple[DeviceCorpus, Array, Shape]:
    """Return the corpus on the device, its train rows, and the shape of its model."""
    corpus = read_corpus(aligned_file)
    data = DeviceCorpus.of(corpus, settings.modalities, device)
    shape = Shape(
        name=settings.dataset,
        model=settings.model,
        inputs={name: len(corpus.feature_names[name]) for name in settings.modalities},
        steps=settings.align.max_steps,
        batch=settings.train.batch_size,
        num_codes=settings.kd.dictionary.codes,
    )
    return data, corpus.index("train"), shape


def measure(
    name: str,
    shape: Shape,
    corpus: DeviceCorpus,
    rows: Array,
    num_seeds: int,
    *,
    repeats: int,
    num_buckets: int = 4,
    fraction: float = 1.0,
    target: float | None = None,
) -> dict[str, Any]:
    """Time an epoch of both sides, a fraction of it for the plain model; return a row."""
    batches = -(-len(rows) // shape.batch)
    timed = max(1, round(fraction * batches))
    with scratch_folder() as folder:
        fast = EnsembleRun(
            shape, corpus, num_seeds, folder=folder, rows=rows, num_buckets=num_buckets
        )
        plain = PlainRun(fast)
        sides = {"plain": lambda: plain.epoch(timed / batches), "fast": fast.epoch}
        times = time_interleaved(sides, repeats)
    work = num_seeds * batches / timed
    lengths = corpus.lengths_MN[:, rows].max(0)
    seconds = Spread.of([t.wall for t in times["fast"]]).median
    return make_row(
        f"epoch, {name}, {num_seeds} seed{'s' if num_seeds > 1 else ''}",
        ratio(times["plain"], times["fast"], work),
        target=target,
        utterances=len(rows),
        mean_steps=float(lengths.mean()),
        padded_steps=shape.steps,
        samples_per_second=num_seeds * len(rows) / seconds,
        plain_samples_per_second=timed
        * shape.batch
        / Spread.of([t.wall for t in times["plain"]]).median,
        ratio_of_cpu_time=work
        * sum(t.cpu for t in times["plain"])
        / sum(t.cpu for t in times["fast"]),
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Format the rows for docs/performance.md."""
    columns = {
        "epoch": "name",
        "times the plain model (quartiles)": "ratio",
        "target": "target",
        "samples/s": "samples_per_second",
        "the plain model's": "plain_samples_per_second",
        "steps: mean of padded": lambda row: f"{row['mean_steps']:.1f} of {row['padded_steps']}",
    }
    return table_of(rows, columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.epoch")
    parser.add_argument("--real", type=Path, help="folder with the files of dataset mosi_real")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--share", type=float, default=0.15, help="fraction of the plain model's epoch to time"
    )
    parser.add_argument("--buckets", type=int, default=4)
    parser.add_argument("--tiny", action="store_true", help="time only a tiny model on random data")
    add_common_arguments(parser, "epoch")
    arguments = parser.parse_args()
    options = {"repeats": arguments.repeats, "num_buckets": arguments.buckets}
    rows = []

    def add(row: dict[str, Any]) -> None:
        rows.append(row)
        print(f"{row['name']}: {Spread(**row['ratio'])}", flush=True)

    with (
        prepared_device(arguments.device, arguments.threads) as device,
        scratch_folder() as folder,
    ):
        if arguments.tiny:
            corpus = random_corpus(TINY, 24, device, full=False)
            add(measure("random", TINY, corpus, np.arange(24), 2, **options))
        else:
            params = load_params(ROOT)
            if arguments.real is not None:
                settings = params.for_dataset("mosi_real")
                path = aligned(settings, arguments.real, folder)
                corpus, train, shape = corpus_of(settings, path, device)
                published = replace(MOSI, inputs=shape.inputs)
                fraction = arguments.share
                for buckets in sorted({arguments.buckets, MORE_BUCKETS}):
                    row = measure(
                        f"real pieces of MOSI, DMD's settings, {buckets} buckets",
                        published,
                        corpus,
                        train,
                        1,
                        repeats=arguments.repeats,
                        num_buckets=buckets,
                        fraction=fraction,
                        target=TARGET,
                    )
                    add(row)
                name, seeds = "real pieces of MOSI, the recipe's", len(settings.train.seeds)
                add(measure(name, shape, corpus, train, seeds, fraction=2 * fraction, **options))
            settings = params.for_dataset("demo")
            config = load_section(GeneratorConfig, settings.recipe.generator, source="demo")
            generate(config, folder)
            corpus, train, shape = corpus_of(settings, aligned(settings, folder, folder), device)
            add(measure("demo", shape, corpus, train, len(settings.train.seeds), **options))
        about = machine(device=device_name(device))
    print("\n" + table(rows))
    write(arguments.json, "epoch", {"machine": about, "rows": rows})


if __name__ == "__main__":
    main()
