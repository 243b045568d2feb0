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
    make_row,
    ratio,
    scratch_folder,
    table_of,
    time_interleaved,
    write,
)
from dhmd.training.device_corpus import EVALUATION_BATCH
from dhmd.training.trainer import predictions


def measure(
    shape: Shape,
    num_utterances: int,
    num_seeds: int,
    device: torch.device,
    *,
    full: bool,
    repeats: int,
) -> dict[str, Any]:
    """Time all seeds of the engine and one seed of the plain model, and return a row."""
    corpus = random_corpus(shape, num_utterances, device, full=full)
    rows = np.arange(num_utterances)
    with scratch_folder() as folder:
        fast = EnsembleRun(shape, corpus, num_seeds, folder=folder)
        plain = PlainRun(fast)

    def ours() -> torch.Tensor:
        output_EN = torch.zeros(num_seeds, num_utterances, device=device)
        for index, output_EBO in predictions(fast.model, fast.members, corpus, rows, 4):
            output_EN[:, index] = output_EBO[..., 0]
        synchronise(device)
        return output_EN

    @torch.no_grad()
    def theirs() -> torch.Tensor:
        batches = [
            rows[i : i + EVALUATION_BATCH] for i in range(0, num_utterances, EVALUATION_BATCH)
        ]
        output_N = torch.cat([plain.model(plain.padded(batch))[:, 0] for batch in batches])
        synchronise(device)
        return output_N

    fast.model.eval()
    plain.model.eval()
    difference = (ours()[0] - theirs()).abs().max()
    times = time_interleaved({"plain": theirs, "fast": ours}, repeats)
    seconds = {name: Spread.of([t.wall for t in values]).median for name, values in times.items()}
    lengths = "full length" if full else "MOSI's lengths"
    return make_row(
        f"predict, {shape.name}, {lengths}, {num_seeds} seed{'s' if num_seeds > 1 else ''}",
        ratio(times["plain"], times["fast"], num_seeds),
        utterances=num_utterances,
        utterances_per_second=num_utterances / seconds["fast"],
        plain_utterances_per_second=num_utterances / seconds["plain"] / num_seeds,
        largest_difference=float(difference),
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Format the rows for docs/performance.md."""
    columns = {
        "prediction": "name",
        "times the plain model (quartiles)": "ratio",
        "utterances/s by all seeds": "utterances_per_second",
        "the plain model's": "plain_utterances_per_second",
    }
    return table_of(rows, columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.predict")
    parser.add_argument("--utterances", type=int, default=128)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 5])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--tiny", action="store_true", help="time a tiny model instead of one of MOSI's size"
    )
    add_common_arguments(parser, "predict")
    arguments = parser.parse_args()
    shape = TINY if arguments.tiny else MOSI
    rows = []
    with prepared_device(arguments.device, arguments.threads) as device:
        for full in (False, True):
            for seeds in arguments.seeds:
                row = measure(
                    shape,
                    arguments.utterances,
                    seeds,
                    device,
                    full=full,
                    repeats=arguments.repeats,
                )
                rows.append(row)
                print(f"{row['name']}: {Spread(**row['ratio'])}", flush=True)
        about = machine(device=device_name(device))
    print("\n" + table(rows))
    write(arguments.json, "predict", {"machine": about, "rows": rows})


if __name__ == "__main__":
    main()
