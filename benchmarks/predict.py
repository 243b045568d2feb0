"""How fast is prediction? `python -m benchmarks.predict --help`

The forward pass over utterances of MOSI's lengths, all seeds: the engine in length buckets, the
plain model padded to full length, a seed after the other. By turns in one process.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch

from benchmarks.engine import (
    MOSI,
    TINY,
    Fast,
    Plain,
    Shape,
    add_common,
    computing,
    named,
    random_corpus,
    synchronise,
)
from benchmarks.measure import (
    Spread,
    by_turns,
    machine,
    markdown,
    ratio,
    rounded,
    row,
    scratch,
    write,
)
from dhmd.training.device_corpus import EVALUATION_BATCH
from dhmd.training.trainer import predictions


def measure(
    shape: Shape, count: int, seeds: int, device: torch.device, *, full: bool, repeats: int
) -> dict[str, Any]:
    """Time `count` utterances, all seeds, against one seed of the plain model; return a line."""
    corpus = random_corpus(shape, count, device, full=full)
    rows = np.arange(count)
    with scratch() as folder:
        fast = Fast(shape, corpus, seeds, folder=folder)
        plain = Plain(fast)

    def ours() -> torch.Tensor:
        found = torch.zeros(seeds, count, device=device)
        for some, output_EBO in predictions(fast.model, fast.members, corpus, rows, 4):
            found[:, some] = output_EBO[..., 0]
        synchronise(device)
        return found

    @torch.no_grad()
    def theirs() -> torch.Tensor:
        parts = [rows[i : i + EVALUATION_BATCH] for i in range(0, count, EVALUATION_BATCH)]
        found = torch.cat([plain.model(plain.padded(part))[:, 0] for part in parts])
        synchronise(device)
        return found

    fast.model.eval()
    plain.model.eval()
    difference = (ours()[0] - theirs()).abs().max()
    times = by_turns({"plain": theirs, "fast": ours}, repeats)
    seconds = {name: Spread.of([t.wall for t in values]).median for name, values in times.items()}
    what = "full length" if full else "MOSI's lengths"
    return row(
        f"predict, {shape.name}, {what}, {seeds} seed{'s' if seeds > 1 else ''}",
        ratio(times["plain"], times["fast"], seeds),
        utterances=count,
        utterances_per_second=count / seconds["fast"],
        plain_utterances_per_second=count / seconds["plain"] / seeds,
        largest_difference=float(difference),
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Format the lines for docs/performance.md."""
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
    add_common(parser, "predict")
    arguments = parser.parse_args()
    shape = TINY if arguments.tiny else MOSI
    rows = []
    with computing(arguments.device, arguments.threads) as device:
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
        about = machine(device=named(device))
    print("\n" + table(rows))
    write(arguments.json, "predict", {"machine": about, "rows": rows})


if __name__ == "__main__":
    main()
