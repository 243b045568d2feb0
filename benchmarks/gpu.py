"""Correctness and speed of training on a GPU: `python -m benchmarks.gpu --help`.

Correctness compares losses and gradients on the GPU with those on the CPU, a CUDA graph with direct
calls, a seed trained alone with the same seed among others, and a resumed training with one that
was not interrupted. Speed is the number of updates per second of all seeds together: of the stacked
engine directly, as a CUDA graph, in other precisions and with `torch.compile`; of the plain model
under `torch.func.vmap`; and of DMD's public code, if a clone and a script that runs it are given.

Every part runs in its own process with a time limit. A measurement that fails is recorded with its
error, and the others continue. All parts take at most eight minutes.

Requirements: Python 3.11 or later, torch, numpy, h5py, pandas, scipy, PyYAML, filelock, tqdm and
safetensors; and of the packages that a machine with PyTorch may lack: pydantic, pydantic-core,
annotated-types and typing-inspection (pip install pydantic, or four wheels). DVC and MLflow are not
needed, and no other package of the pipeline.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from benchmarks.engine import (
    MOSEI,
    MOSI,
    TINY,
    EnsembleRun,
    Shape,
    device_name,
    prepared_device,
    random_corpus,
    synchronise,
)
from benchmarks.measure import (
    RESULTS,
    ROOT,
    Spread,
    Time,
    machine,
    markdown,
    rounded,
    scratch_folder,
)
from benchmarks.measure import write as write_result
from benchmarks.rival import SCRIPT, load
from dhmd.base.errors import DhmdError, first_line
from dhmd.training.config import Precision

SHAPES = {shape.name: shape for shape in (MOSI, MOSEI, TINY)}
TOTAL = 470  # time limit of all parts in seconds
TURNS = 5  # timing runs per measurement

Row = dict[str, Any]


class Part:
    """A part of the benchmark, which prints one row per measurement."""

    def __init__(self, arguments: argparse.Namespace, device: torch.device) -> None:
        self.arguments, self.device, self.name = arguments, device, arguments.part

    @contextmanager
    def row(self, name: str) -> Iterator[Row]:
        """Yield a row to fill, then print it, with the error if there was one."""
        row: Row = {"part": self.name, "name": name}
        try:
            yield row
        except Exception as error:
            row["error"] = f"{type(error).__name__}: {first_line(error)}"
        print(json.dumps(row), flush=True)

    def fast(self, shape: Shape, seeds: Any, folder: Path, **options: Any) -> EnsembleRun:
        """Build a training on random utterances, which are the same on every device."""
        device = options.pop("device", self.device)
        corpus = random_corpus(shape, 2 * shape.batch, device)
        return EnsembleRun(shape, corpus, seeds, folder=folder, **options)


# ---- correctness ---------------------------------------------------------------------------------


def difference(actual: Tensor, expected: Tensor) -> float:
    """Return the norm of the difference, divided by the norm of the expected value."""
    actual, expected = actual.double().cpu(), expected.double().cpu()
    return float((actual - expected).norm() / expected.norm().clamp_min(1e-12))


def check(row: Row, actual: Tensor, expected: Tensor, limit: float) -> None:
    """Add the difference to the row, and whether it is within the limit."""
    value = difference(actual, expected)
    row |= {"difference": value, "limit": limit, "passed": value <= limit}


def gradients(fast: EnsembleRun, precision: Precision = "float32") -> tuple[Tensor, Tensor]:
    """Return the losses and gradients of one batch, without dropout."""
    fast.trainer.settings = replace(fast.trainer.settings, precision=precision)
    fast.model.eval()
    fast.trainer.optimiser.zero_grad()
    losses = fast.trainer.backward(fast.planned_batch())
    return torch.stack(list(losses.values())), fast.trainer.optimiser.grads_P.clone()


def steps(fast: EnsembleRun) -> tuple[Tensor, Tensor]:
    """Make three updates with dropout; return their losses `[3, E]` and the weights."""
    losses = torch.stack([fast.step().clone() for _ in range(3)])
    return losses, fast.trainer.optimiser.values_P


def checks(part: Part) -> None:
    """Check correctness at the first shape, with few seeds."""
    shape, cpu = SHAPES[part.arguments.shapes[0]], torch.device("cpu")
    with scratch_folder() as folder:
        expected = gradients(part.fast(shape, 2, folder, device=cpu))
        for index, name in enumerate(("losses", "gradients")):
            with part.row(f"{name}: device against CPU") as row:
                check(row, gradients(part.fast(shape, 2, folder))[index], expected[index], 1e-3)
        precisions: tuple[Precision, ...] = ("tf32", "bfloat16")
        for precision in precisions:
            with part.row(f"losses: {precision} against float32") as row:
                losses, _ = gradients(part.fast(shape, 2, folder), precision)
                check(row, losses, expected[0], 3e-2)
        with part.row("three updates: repeated") as row:
            once, again = (steps(part.fast(shape, 2, folder))[1] for _ in range(2))
            check(row, again, once, 0.0)
        with part.row("three updates: CUDA graph against direct calls") as row:
            direct = steps(part.fast(shape, 2, folder))[1]
            check(row, steps(part.fast(shape, 2, folder, cuda_graph=True))[1], direct, 1e-5)
        with part.row("three updates: a seed alone against among others") as row:
            together, _ = steps(part.fast(shape, [1, 2, 3], folder))
            alone, _ = steps(part.fast(shape, [2], folder))
            check(row, alone[:, 0], together[:, 1], 1e-4)
        for graph in (False, True):
            with part.row(f"resumed training, {'CUDA graph' if graph else 'direct'}") as row:
                check(row, *resumed(part, shape, folder / str(graph), graph), 0.0)
        with part.row("plain model under vmap: a seed alone against among others") as row:
            pair, one = (part.fast(shape, seeds, folder, engine="plain") for seeds in ([1, 2], [2]))
            check(row, gradients(one)[0][:, 0], gradients(pair)[0][:, 1], 1e-4)


def resumed(part: Part, shape: Shape, folder: Path, graph: bool) -> tuple[Tensor, Tensor]:
    """Return the weights of a training that is resumed after an epoch, and of one that is not."""
    weights = []
    for name, epochs in (("interrupted", (1, 2)), ("whole", (2,))):
        (run_folder := folder / name).mkdir(parents=True)
        for last_epoch in epochs:
            fast = part.fast(shape, 2, run_folder, cuda_graph=graph)
            fast.trainer.settings = replace(fast.trainer.settings, epochs=last_epoch)
            fast.trainer.run()
        weights.append(fast.trainer.average_P)
    return weights[0], weights[1]


# ---- speed ---------------------------------------------------------------------------------------


def timed(step: Callable[[], object], device: torch.device, seconds: float) -> Spread:
    """Return the seconds of one update, from turns of about `seconds` without synchronisation."""
    for _ in range(2):
        step()
    synchronise(device)
    one = Time.of(lambda: (step(), synchronise(device))).wall
    count = max(1, round(seconds / max(one, 1e-6)))

    def turn() -> None:
        for _ in range(count):
            step()
        synchronise(device)

    return Spread.of([Time.of(turn).wall / count for _ in range(TURNS)])


def measure(part: Part, row: Row, fast: EnsembleRun, num_seeds: int) -> None:
    """Add to the row the seed-steps per second, and the peak GPU memory per seed."""
    gpu = fast.device.type == "cuda"
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    spread = timed(fast.update, fast.device, part.arguments.seconds)
    row |= {
        "seeds": num_seeds,
        "seconds": spread.median,
        "seed_steps_per_second": num_seeds / spread.median,
    }
    if gpu:
        row["mib_per_seed"] = torch.cuda.max_memory_allocated() / num_seeds / 2**20


def kernels(fast: EnsembleRun) -> int:
    """Return the number of kernels of one direct update; on a CPU, of operations."""
    activities = [torch.profiler.ProfilerActivity.CPU]
    if gpu := fast.device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    fast.update()
    with torch.profiler.profile(activities=activities) as profile:
        fast.update()
        synchronise(fast.device)
    kind = torch.autograd.DeviceType.CUDA if gpu else torch.autograd.DeviceType.CPU
    return sum(event.device_type == kind for event in profile.events() or [])


def engine(part: Part, shape: Shape) -> None:
    """Time the stacked engine: direct calls, a CUDA graph, and the graph in other precisions."""
    with scratch_folder() as folder:
        with part.row(f"{shape.name}, kernels of an update") as row:
            row["kernels"] = kernels(part.fast(shape, 1, folder))
        most = max(part.arguments.seeds)
        for seeds in part.arguments.seeds:
            for graph in (False, True):
                name = "CUDA graph" if graph else "direct"
                with part.row(f"{shape.name}, {name}") as row:
                    measure(part, row, part.fast(shape, seeds, folder, cuda_graph=graph), seeds)
                _free()
        for precision in ("tf32", "bfloat16"):
            with part.row(f"{shape.name}, CUDA graph, {precision}") as row:
                fast = part.fast(shape, most, folder, cuda_graph=True)
                fast.trainer.settings = replace(fast.trainer.settings, precision=precision)
                measure(part, row, fast, most)
            _free()


def vmapped(part: Part, shape: Shape) -> None:
    """Time the plain model under vmap: direct calls and a CUDA graph."""
    with scratch_folder() as folder:
        for seeds in part.arguments.seeds:
            for graph in (False, True):
                name = "plain model under vmap" + ", CUDA graph" * graph
                with part.row(f"{shape.name}, {name}") as row:
                    fast = part.fast(shape, seeds, folder, cuda_graph=graph, engine="plain")
                    fast.model.capturable = graph
                    measure(part, row, fast, seeds)
                    row["members"] = cast(Any, fast.model).mode
                _free()


def compiled(part: Part, shape: Shape) -> None:
    """Time the stacked engine with `torch.compile`, with dropout bits that it can compile."""
    with scratch_folder() as folder:
        for seeds in (min(part.arguments.seeds), max(part.arguments.seeds)):
            with part.row(f"{shape.name}, torch.compile") as row:
                fast = part.fast(shape, seeds, folder)
                fast.members.bits = partial(_bits, seeds, part.device)  # type: ignore[method-assign]
                losses = torch.compile(fast.model.losses, dynamic=False)
                fast.model.losses = losses  # type: ignore[method-assign]
                start = time.perf_counter()
                fast.step()
                row["compile_seconds"] = time.perf_counter() - start
                measure(part, row, fast, seeds)
            _free()


def _bits(num_seeds: int, device: torch.device, *shape: int) -> Tensor:
    return torch.randint(-32768, 32768, (num_seeds, *shape), dtype=torch.int16, device=device)


def _free() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def rival(part: Part) -> None:
    """Time one seed of DMD's public code at MOSI's shape, with the script `--rival`."""
    with part.row("MOSI, DMD's public code") as row:
        torch.set_deterministic_debug_mode("default")
        step = load(part.arguments.rival, part.arguments.dmd, part.device)
        spread = timed(step, part.device, part.arguments.seconds)
        row |= {"seeds": 1, "seconds": spread.median, "seed_steps_per_second": 1 / spread.median}


def list_parts(arguments: argparse.Namespace) -> dict[str, tuple[Callable[[Part], None], int]]:
    """Return the parts by name: function and time limit in seconds, which is longer on a CPU."""
    parts: dict[str, tuple[Callable[[Part], None], int]] = {"checks": (checks, 100)}
    for work, seconds in ((engine, 75), (vmapped, 60), (compiled, 90)):
        for name in arguments.shapes:
            parts[f"{work.__name__} {name}"] = (partial(work, shape=SHAPES[name]), seconds)
        if work is engine and arguments.dmd is not None:
            parts["rival"] = (rival, 30)
    factor = 4 if arguments.device == "cpu" else 1
    return {name: (work, factor * seconds) for name, (work, seconds) in parts.items()}


def run_parts(arguments: argparse.Namespace) -> list[Row]:
    """Run every part in its own process, and return all rows."""
    rows: list[Row] = []
    start = time.perf_counter()
    for name, (_, limit) in list_parts(arguments).items():
        if arguments.only and not name.startswith(tuple(arguments.only)):
            continue
        left = arguments.total - (time.perf_counter() - start)
        if left < 5:
            rows.append({"part": name, "name": name, "error": "not started: no time is left"})
            continue
        command = [sys.executable, "-m", "benchmarks.gpu", *sys.argv[1:], "--part", name]
        environment = {**os.environ, "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
                timeout=min(limit, left),
                check=False,
            )
            output, error = done.stdout, f"exit status {done.returncode}" * (done.returncode != 0)
        except subprocess.TimeoutExpired as expired:
            output = expired.stdout.decode() if expired.stdout else ""
            error = f"stopped after {min(limit, left):.0f} s"
        lines = [json.loads(text) for text in output.splitlines() if text.startswith("{")]
        if error:
            lines.append({"part": name, "name": name, "error": error})
        rows += lines
        for row in lines:
            print(_terminal_line(row), flush=True)
    return rows


def _terminal_line(row: Row) -> str:
    """Format a row for the terminal."""
    if "error" in row:
        return f"FAILED  {row['name']}: {row['error']}"
    if "passed" in row:
        verdict = "ok    " if row["passed"] else "WRONG "
        return f"{verdict}  {row['name']}: {row['difference']:.1e} (at most {row['limit']:g})"
    if "kernels" in row:
        return f"        {row['name']}: {row['kernels']}"
    rate = rounded(row["seed_steps_per_second"])
    return f"        {row['name']}, {row['seeds']} seeds: {rate} seed-steps/s"


def table(rows: list[Row]) -> str:
    """Format the rows for docs/performance.md: checks, then seed-steps by number of seeds."""
    checks = [
        [row["name"], row.get("error") or f"{row['difference']:.1e} of {row['limit']:g}"]
        for row in rows
        if row["part"] == "checks"
    ]
    speeds = [row for row in rows if "seeds" in row]
    seeds = sorted({row["seeds"] for row in speeds})
    by_name: dict[str, dict[int, Row]] = {}
    for row in speeds:
        by_name.setdefault(row["name"], {})[row["seeds"]] = row
    body = []
    for name, by_seeds in by_name.items():
        memory = [
            rounded(row["mib_per_seed"]) for row in by_seeds.values() if "mib_per_seed" in row
        ]
        cells = [
            rounded(by_seeds[s]["seed_steps_per_second"]) if s in by_seeds else "" for s in seeds
        ]
        body.append([name, *cells, memory[-1] if memory else ""])
    header = ["seed-steps/s", *(f"{s} seed{'s' * (s > 1)}" for s in seeds), "MiB per seed"]
    failed = [f"- {row['name']}: {row['error']}" for row in rows if "error" in row]
    counted = [f"- {row['name']}: {row['kernels']}" for row in rows if "kernels" in row]
    pieces = [markdown(["check", "difference of limit"], checks), markdown(header, body)]
    return "\n\n".join([*pieces, *(["\n".join([*counted, *failed])] if counted or failed else [])])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        prog="python -m benchmarks.gpu",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["MOSI", "MOSEI"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument(
        "--only", nargs="+", help="run only the parts whose names start with one of these strings"
    )
    parser.add_argument("--dmd", type=Path, help="folder with a clone of DMD's public code")
    parser.add_argument("--rival", type=Path, default=SCRIPT, help="script that runs a step of DMD")
    parser.add_argument(
        "--seconds",
        type=float,
        default=0.4,
        help="duration of each timing run in seconds (five per measurement)",
    )
    parser.add_argument(
        "--total", type=float, default=TOTAL, help="time limit in seconds for all parts together"
    )
    parser.add_argument("--json", type=Path, default=RESULTS / "gpu.json")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    try:
        with prepared_device(arguments.device, None) as device:
            if arguments.part is not None:
                work, _ = list_parts(arguments)[arguments.part]
                work(Part(arguments, device))
                return
            about = machine(device=device_name(device))
    except DhmdError as error:
        raise SystemExit(str(error)) from error
    rows = run_parts(arguments)
    print("\n" + table(rows))
    write_result(arguments.json, "gpu", {"machine": about, "rows": rows})
    if any(row.get("passed") is False for row in rows):
        raise SystemExit("a check failed: see the lines marked WRONG")


if __name__ == "__main__":
    main()
