"""Speed of training compared with DMD's public code: `python -m benchmarks.rival --help`.

DMD runs a step of its public configuration for aligned MOSI: batches of 16 utterances padded to 50
steps. It needs a clone of DMD and a script that runs it without BERT; neither is part of this
repository. The rows add one feature after another: attention and products in C (`compute.kernels`),
bfloat16, several seeds, and trimmed batches of MOSI's lengths. All batches of DMD take the same
time, so its epoch is estimated from some steps. On a CPU the ratios are of CPU seconds, which vary
less on a busy machine.
"""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.engine import (
    MOSI,
    TINY,
    EnsembleRun,
    Shape,
    add_common_arguments,
    device_name,
    prepared_device,
    random_corpus,
    synchronise,
)
from benchmarks.measure import (
    ROOT,
    Spread,
    machine,
    make_row,
    scratch_folder,
    table_of,
    time_interleaved,
    write,
)
from dhmd.models.stacked import kernels
from dhmd.training.config import Precision

SCRIPT = ROOT.parent / "shared" / "rivals" / "dmd_step.py"
TARGETS = {
    "1 seed, full length": 2.0,
    "1 seed, full length, native": 2.0,
    "1 seed, MOSI's lengths, 4 buckets": 5.0,
    "1 seed, MOSI's lengths, 4 buckets, native": 5.0,
}


def load(script: Path, clone: Path, device: torch.device) -> Callable[[], object]:
    """Return a function that makes one update of DMD."""
    spec = importlib.util.spec_from_file_location("rival", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    step: Callable[[], object] = module.dmd(clone.resolve(), device)
    return step


class Case:
    """A training to time: an epoch on MOSI's lengths, or a step at full length without buckets."""

    def __init__(
        self,
        name: str,
        num_seeds: int,
        *,
        num_buckets: int | None = None,
        precision: Precision = "float32",
        native: bool = False,
    ) -> None:
        self.name, self.num_seeds, self.num_buckets = name, num_seeds, num_buckets
        self.precision, self.native = precision, native

    def measure(
        self,
        dmd: Callable[[], object],
        shape: Shape,
        device: torch.device,
        num_batches: int,
        repeats: int,
    ) -> dict[str, Any]:
        """Time the training in turn with DMD's step, and return a row of the table."""
        with scratch_folder() as folder, kernels.using(native=self.native):
            corpus = random_corpus(
                shape, shape.batch * num_batches, device, full=self.num_buckets is None
            )
            fast = EnsembleRun(
                shape, corpus, self.num_seeds, folder=folder, num_buckets=self.num_buckets or 1
            )
            settings = replace(fast.trainer.settings, precision=self.precision)
            fast.trainer.settings = settings

            def rival() -> None:
                torch.set_deterministic_debug_mode("default")
                dmd()
                synchronise(device)
                torch.set_deterministic_debug_mode("error")

            sides = {"dmd": rival, "ours": fast.epoch if self.num_buckets else fast.step}
            times = time_interleaved(sides, repeats)
        work = self.num_seeds * (num_batches if self.num_buckets else 1)
        seconds = Spread.of([t.wall for t in times["ours"]]).median
        by_wall, by_cpu = (
            Spread.of(
                [
                    work * getattr(theirs, clock) / getattr(ours, clock)
                    for theirs, ours in zip(times["dmd"], times["ours"], strict=True)
                ]
            )
            for clock in ("wall", "cpu")
        )
        return make_row(
            f"DMD, {self.name}",
            by_cpu if device.type == "cpu" else by_wall,
            target=TARGETS.get(self.name) if device.type == "cpu" else None,
            mean_steps=float(corpus.lengths_MN.max(0).mean()),
            seed_steps_per_second=work / seconds,
            dmd_steps_per_second=1 / Spread.of([t.wall for t in times["dmd"]]).median,
            ratio_of_wall_time=by_wall.median,
        )


CASES = (
    Case("1 seed, full length", 1),
    Case("1 seed, full length, native", 1, native=True),
    Case("1 seed, full length, bfloat16", 1, precision="bfloat16"),
    Case("2 seeds, full length, native", 2, native=True),
    Case("1 seed, MOSI's lengths, 4 buckets", 1, num_buckets=4),
    Case("1 seed, MOSI's lengths, 4 buckets, native", 1, num_buckets=4, native=True),
    Case("1 seed, MOSI's lengths, 8 buckets, native", 1, num_buckets=8, native=True),
    Case("5 seeds, MOSI's lengths, 4 buckets, native", 5, num_buckets=4, native=True),
    Case("5 seeds, MOSI's lengths, 8 buckets, native", 5, num_buckets=8, native=True),
)


def table(rows: list[dict[str, Any]]) -> str:
    """Format the rows for docs/performance.md."""
    columns = {
        "training": lambda row: row["name"].removeprefix("DMD, "),
        "times DMD (quartiles)": "ratio",
        "target": "target",
        "steps: mean of padded": lambda row: f"{row['mean_steps']:.1f} of {MOSI.steps}",
    }
    return table_of(rows, columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.rival")
    parser.add_argument(
        "--dmd", type=Path, required=True, help="folder with a clone of DMD's public code"
    )
    parser.add_argument("--rival", type=Path, default=SCRIPT, help="script that runs a step of DMD")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batches", type=int, default=12, help="batches per epoch of our model")
    parser.add_argument("--tiny", action="store_true", help="use a tiny model on our side")
    add_common_arguments(parser, "rival")
    arguments = parser.parse_args()
    rows = []
    with prepared_device(arguments.device, arguments.threads) as device:
        torch.set_deterministic_debug_mode("default")
        dmd = load(arguments.rival, arguments.dmd, device)
        torch.set_deterministic_debug_mode("error")
        for case in CASES:
            shape = TINY if arguments.tiny else MOSI
            rows.append(case.measure(dmd, shape, device, arguments.batches, arguments.repeats))
            print(f"{rows[-1]['name']}: {Spread(**rows[-1]['ratio'])}", flush=True)
            about = machine(device=device_name(device))
            write(arguments.json, "rival", {"machine": about, "rows": rows})
    print("\n" + table(rows))


if __name__ == "__main__":
    main()
