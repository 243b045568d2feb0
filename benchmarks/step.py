"""Time of a training step: `python -m benchmarks.step --help`.

The engine and the plain model take steps in turn in one process, with the same settings and
utterances at full length. The plain model trains one seed; a step of E seeds counts as E of its
steps. Both sides keep freed memory (`dhmd.training.device.keep_memory`).
"""

from __future__ import annotations

import argparse
from typing import Any

import torch

from benchmarks.engine import (
    MOSEI,
    MOSI,
    PHASES,
    TINY,
    EnsembleRun,
    PlainRun,
    Shape,
    add_common_arguments,
    device_name,
    largest_difference,
    prepared_device,
    random_corpus,
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

SHAPES = {shape.name: shape for shape in (MOSI, MOSEI, TINY)}
TARGET = 2.0  # a step of one seed at MOSI's shape
PHASE_ROUNDS = 3  # number of timings of the phases


def measure(shape: Shape, num_seeds: int, device: torch.device, repeats: int) -> dict[str, Any]:
    """Time E seeds at a shape and return a row."""
    with scratch_folder() as folder:
        fast = EnsembleRun(
            shape, random_corpus(shape, 2 * shape.batch, device), num_seeds, folder=folder
        )
        plain = PlainRun(fast)
        difference = largest_difference(fast, plain)
        times = time_interleaved({"plain": plain.step, "fast": fast.step}, repeats)
        phases = {"plain": _phases(plain), "fast": _phases(fast)}
    seconds = {name: Spread.of([t.wall for t in values]) for name, values in times.items()}
    target = TARGET if (shape, num_seeds, device.type) == (MOSI, 1, "cpu") else None
    return make_row(
        f"step, {shape.name}, {num_seeds} seed{'s' if num_seeds > 1 else ''}",
        ratio(times["plain"], times["fast"], num_seeds),
        target=target,
        seeds=num_seeds,
        samples_per_second=num_seeds * shape.batch / seconds["fast"].median,
        seed_steps_per_second=num_seeds / seconds["fast"].median,
        plain_samples_per_second=shape.batch / seconds["plain"].median,
        ratio_of_cpu_time=num_seeds
        * sum(t.cpu for t in times["plain"])
        / sum(t.cpu for t in times["fast"]),
        phase_seconds=phases,
        largest_difference_of_losses=difference,
    )


def _phases(side: EnsembleRun | PlainRun) -> dict[str, float]:
    rounds = [side.phases() for _ in range(PHASE_ROUNDS)]
    return {phase: Spread.of([times[phase] for times in rounds]).median for phase in PHASES}


def table(rows: list[dict[str, Any]]) -> str:
    """Format the rows for docs/performance.md."""
    columns = {
        "step": lambda row: row["name"].removeprefix("step, "),
        "times the plain model (quartiles)": "ratio",
        "target": "target",
        "seed-steps/s": "seed_steps_per_second",
    }
    return table_of(rows, columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.step")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["MOSI", "MOSEI"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument(
        "--repeats", type=int, default=7, help="timing rounds (a third of them for 8 or more seeds)"
    )
    add_common_arguments(parser, "step")
    arguments = parser.parse_args()
    rows = []
    with prepared_device(arguments.device, arguments.threads) as device:
        for name in arguments.shapes:
            for seeds in arguments.seeds:
                repeats = arguments.repeats if seeds < 8 else max(3, arguments.repeats // 3)
                rows.append(measure(SHAPES[name], seeds, device, repeats))
                print(f"{rows[-1]['name']}: {Spread(**rows[-1]['ratio'])}", flush=True)
        about = machine(device=device_name(device))
    print("\n" + table(rows))
    write(arguments.json, "step", {"machine": about, "rows": rows})


if __name__ == "__main__":
    main()
