"""Effect of threads and processes on training steps: `python -m benchmarks.threads --help`.

Compares one process of one thread with one process that has a thread per core, and with two
concurrent processes, as under `dvc queue start -j 2`. The runs alternate. Threads wait passively,
as in the stages; `--spinning` also times OpenMP's default waiting, which can take minutes.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.measure import (
    RESULTS,
    ROOT,
    Spread,
    Time,
    machine,
    make_row,
    ratio,
    table_of,
    write,
)


class Workers:
    """Identical worker processes that run training steps on request."""

    def __init__(
        self, shape: str, num_processes: int, num_threads: int, passive: bool, num_steps: int
    ) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(num_threads)}
        for variable, value in (("OMP_WAIT_POLICY", "PASSIVE"), ("KMP_BLOCKTIME", "0")):
            environment.pop(variable, None)
            if passive:
                environment[variable] = value
        self.processes = [
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "benchmarks.worker",
                    shape,
                    str(num_threads),
                    str(num_steps),
                ],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(num_processes)
        ]

    def turn(self) -> Time:
        """Train the steps of all processes at once; return the time of the slowest."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        times = []
        for process in self.processes:
            assert process.stdout is not None
            words = process.stdout.readline().split()
            if not words:
                raise SystemExit("a training process ended early")
            times.append(Time(float(words[0]), float(words[1])))
        return max(times, key=lambda time: time.wall)

    def close(self) -> None:
        """End the processes."""
        for process in self.processes:
            process.communicate()


def measure(
    shape: str, cases: list[tuple[int, int, bool]], num_steps: int, repeats: int
) -> list[Any]:
    """Time cases (processes, threads per process, passive waiting); return a row for each."""
    rows = []
    one = Workers(shape, 1, 1, True, num_steps)
    for num_processes, num_threads, passive in cases:
        side = Workers(shape, num_processes, num_threads, passive, num_steps)
        times: dict[str, list[Time]] = {"one": [], "side": []}
        side.turn()
        one.turn()
        for _ in range(repeats):
            times["one"].append(one.turn())
            times["side"].append(side.turn())
        side.close()
        waiting = "passive" if passive else "OpenMP's default"
        seconds = Spread.of([t.wall for t in times["side"]]).median / num_steps
        rows.append(
            make_row(
                f"{num_processes} process{'es' if num_processes > 1 else ''} of {num_threads} "
                f"thread{'s' if num_threads > 1 else ''}, {waiting} waiting",
                ratio(times["one"], times["side"], num_processes),
                seconds_per_step=seconds,
                steps_per_second=num_processes / seconds,
            )
        )
        print(f"{rows[-1]['name']}: {Spread(**rows[-1]['ratio'])}", flush=True)
    one.close()
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Format the rows for docs/performance.md."""
    columns = {
        "MOSI's shape, one seed per process": "name",
        "steps/s of one thread alone (quartiles)": lambda row: f"× {Spread(**row['ratio'])}",
        "steps/s": "steps_per_second",
    }
    return table_of(rows, columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.threads")
    parser.add_argument("--shape", choices=("MOSI", "tiny"), default="MOSI")
    parser.add_argument("--steps", type=int, default=2, help="training steps per timing run")
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument(
        "--spinning", action="store_true", help="also time OpenMP's default waiting"
    )
    parser.add_argument("--cases", type=int, help="number of cases (default: all)")
    parser.add_argument("--json", type=Path, default=RESULTS / "threads.json")
    arguments = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    cases = [(1, cores, True), (2, max(1, cores // 2), True), (2, cores, True)]
    cases += [(2, cores, False)] if arguments.spinning else []
    rows = measure(arguments.shape, cases[: arguments.cases], arguments.steps, arguments.repeats)
    print("\n" + table(rows))
    write(arguments.json, "threads", {"machine": machine(), "rows": rows})


if __name__ == "__main__":
    main()
