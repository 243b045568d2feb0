"""Time of the pipeline and of short commands: `python -m benchmarks.pipeline --help`.

In a fresh clone of the last commit, `dvc repro` runs all stages of the demo, then again without
changes. Then short commands are timed in turn with a bare interpreter, or with DVC's start.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import (
    RESULTS,
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

LIMITS = {"cold": 180.0, "unchanged": 3.0, "help": 0.3, "gate": 1.0}  # seconds
_STARTED = re.compile(r"Running stage '([^']+)'")


def environment() -> dict[str, str]:
    """Return the environment with this Python's commands first on PATH."""
    scripts = Path(sys.executable).parent
    return {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}"}


def fresh_clone(folder: Path) -> Path:
    """Clone the last commit, without data, models and caches, and return the clone."""
    clone = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    return clone


def time_stages(clone: Path, targets: Sequence[str]) -> dict[str, float]:
    """Return the seconds of each stage, from its first message to the next stage's, and of all."""
    command = [sys.executable, "-m", "dvc", "repro", *targets]
    start = last = time.perf_counter()
    name, seconds = "start", {}
    process = subprocess.Popen(
        command,
        cwd=clone,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    output = []
    for line in process.stdout:
        output.append(line)
        if match := _STARTED.search(line):
            now = time.perf_counter()
            seconds[name], name, last = now - last, match[1], now
    if process.wait():
        raise SystemExit("".join(output[-30:]) + "dvc repro failed")
    now = time.perf_counter()
    return {**seconds, name: now - last, "all": now - start}


def time_command(
    clone: Path, name: str, command: Sequence[str], rival: Sequence[str], limit: float, repeats: int
) -> dict[str, Any]:
    """Time a short command in turn with a rival command, and return a row."""

    def run(arguments: Sequence[str]) -> None:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=clone, env=environment(), capture_output=True
        )
        if done.returncode not in (0, 1, 2):  # the gate may have any verdict
            raise SystemExit(done.stderr.decode())

    sides = {"rival": lambda: run(rival), "ours": lambda: run(command)}
    times = time_interleaved(sides, repeats)
    return make_row(
        name,
        ratio(times["rival"], times["ours"]),
        limit_seconds=limit,
        seconds=Spread.of([t.wall for t in times["ours"]]).median,
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Format the rows for docs/performance.md."""

    def verdict(row: dict[str, Any]) -> str:
        limit = row.get("limit_seconds")
        if limit is None:
            return ""
        return f"≤ {limit:g}: {'met' if row['seconds'] <= limit else 'not met'}"

    columns = {
        "what": "name",
        "seconds": "seconds",
        "target": verdict,
        "rival's time over ours (quartiles)": "ratio",
    }
    return table_of(rows, columns)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.pipeline")
    parser.add_argument("--targets", nargs="*", default=[], help="stages to run (default: all)")
    parser.add_argument("--repeats", type=int, default=5, help="repeats of the short commands")
    parser.add_argument("--json", type=Path, default=RESULTS / "pipeline.json")
    arguments = parser.parse_args()
    rows = []
    with scratch_folder() as folder:
        clone = fresh_clone(folder)
        seconds = time_stages(clone, arguments.targets)
        for stage, value in seconds.items():
            if stage == "all":
                limit = {} if arguments.targets else {"limit_seconds": LIMITS["cold"]}
                rows.append(make_row("`dvc repro`, cold: all", None, seconds=value, **limit))
            elif stage != "start":
                rows.append(make_row(f"`dvc repro`, cold: {stage}", None, seconds=value))
        bare, dvc = ["-c", "pass"], ["-m", "dvc", "--version"]
        dhmd = ["-c", "from dhmd.cli import main; raise SystemExit(main())"]
        commands = [
            (
                "`dvc repro`, unchanged (rival: `dvc --version`)",
                ["-m", "dvc", "repro", *arguments.targets],
                dvc,
                "unchanged",
            ),
            ("`dhmd --help` (rival: a bare Python)", [*dhmd, "--help"], bare, "help"),
            ("`dhmd gate` (rival: a bare Python)", [*dhmd, "gate"], bare, "gate"),
        ]
        for name, command, rival, limit in commands:
            rows.append(time_command(clone, name, command, rival, LIMITS[limit], arguments.repeats))
    print(table(rows))
    write(arguments.json, "pipeline", {"machine": machine(), "rows": rows})


if __name__ == "__main__":
    main()
