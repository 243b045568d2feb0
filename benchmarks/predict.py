"""Time of prediction: `python -m benchmarks.predict --help`.

Forward passes of all seeds over utterances of MOSI's lengths: the engine with length buckets, the
plain model padded to full length, one seed after another. Both are timed in turn in one process.
"""

from __future__ import annotations

import argparse
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
    synchronise,
)
from benchmarks.measure import (
    Spread,
    machine,
    markdown,
    ratio,
    rounded,
    row,
    scratch_folder,
    time_interleaved,
    write,
)
from dhmd.training.device_corpus import EVALUATION_BATCH
from dhmd.training.trainer import predictions


def measure(
    shape: Shape, count: int, seeds: int, device: torch.device, *, full: bool, repeats: int
) -> dict[str, Any]:
    """Time all seeds of the engine and one seed of the plain model, and return a row."""
    corpus = random_corpus(shape, count, device, full=full)
    rows = np.arange(count)
    with scratch_folder() as folder:
        fast = EnsembleRun(shape, corpus, seeds, folder=folder)
        plain = PlainRun(fast)

    def ours() -> torch.Tensor:
        output_EN = torch.zeros(seeds, count, device=device)
        for index, output_EBO in predictions(fast.model, fast.members, corpus, rows, 4):
            output_EN[:, index] = output_EBO[..., 0]
        synchronise(device)
        return output_EN

    @torch.no_grad()
    def theirs() -> torch.Tensor:
        batches = [rows[i : i + EVALUATION_BATCH] for i in range(0, count, EVALUATION_BATCH)]
        output_N = torch.cat([plain.model(plain.padded(batch))[:, 0] for batch in batches])
        synchronise(device)
        return output_N

    fast.model.eval()
    plain.model.eval()
    difference = (ours()[0] - theirs()).abs().max()
    times = time_interleaved({"plain": theirs, "fast": ours}, repeats)
    seconds = {name: Spread.of([t.wall for t in values]).median for name, values in times.items()}
    lengths = "full length" if full else "MOSI's lengths"
    return row(
        f"predict, {shape.name}, {lengths}, {seeds} seed{'s' if seeds > 1 else ''}",
        ratio(times["plain"], times["fast"], seeds),
        utterances=count,
        utterances_per_second=count / seconds["fast"],
        plain_utterances_per_second=count / seconds["plain"] / seeds,
        largest_difference=float(difference),
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Format the rows for docs/performance.md."""
    header = [
        "prediction",
        "times the plain model (quartiles)",
        "utterances/s by all seeds",
        "the plain model's",
    ]
    body = [
        [
            line["name"],
            str(Spread(**line["ratio"])),
            rounded(line["utterances_per_second"]),
            rounded(line["plain_utterances_per_second"]),
        ]
        for line in rows
    ]
    return markdown(header, body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.predict")
    parser.add_argument("--utterances", type=int, default=128)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 5])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tiny", action="store_true", help="a tiny shape instead of MOSI's")
    add_common_arguments(parser, "predict")
    arguments = parser.parse_args()
    shape = TINY if arguments.tiny else MOSI
    rows = []
    with prepared_device(arguments.device, arguments.threads) as device:
        for full in (False, True):
            for seeds in arguments.seeds:
                line = measure(
                    shape,
                    arguments.utterances,
                    seeds,
                    device,
                    full=full,
                    repeats=arguments.repeats,
                )
                rows.append(line)
                print(f"{line['name']}: {Spread(**line['ratio'])}", flush=True)
        about = machine(device=device_name(device))
    print("\n" + table(rows))
    write(arguments.json, "predict", {"machine": about, "rows": rows})


if __name__ == "__main__":
    main()
