"""How long does the pipeline take? `python -m benchmarks.pipeline --help`

In a fresh clone of the last commit: `dvc repro` of the demo from nothing, stage by stage, then with
nothing changed; and the commands that should answer at once. What is short is compared with a bare
interpreter, or with DVC's own start, timed by turns with it.
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
    by_turns,
    machine,
    markdown,
    ratio,
    rounded,
    row,
    scratch,
    write,
)

LIMITS = {"cold": 180.0, "unchanged": 3.0, "help": 0.3, "gate": 1.0}  # seconds
_STARTED = re.compile(r"Running stage '([^']+)'")


def environment() -> dict[str, str]:
    """Return the environment with this Python's commands first on PATH."""
    mine = Path(sys.executable).parent
    return {**os.environ, "PATH": f"{mine}{os.pathsep}{os.environ.get('PATH', '')}"}


def fresh_clone(folder: Path) -> Path:
    """Clone the last commit, without data, models and caches."""
    place = folder / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(place)], check=True)
    return place


def cold(place: Path, targets: Sequence[str]) -> dict[str, float]:
    """Return the seconds of each stage, from its announcement to the next one's, and of all."""
    command = [sys.executable, "-m", "dvc", "repro", *targets]
    start = last = time.perf_counter()
    name, found = "start", {}
    process = subprocess.Popen(
        command,
        cwd=place,
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
            found[name], name, last = now - last, match[1], now
    if process.wait():
        raise SystemExit("".join(output[-30:]) + "dvc repro failed")
    now = time.perf_counter()
    return {**found, name: now - last, "all": now - start}


def quick(
    place: Path, name: str, command: Sequence[str], rival: Sequence[str], limit: float, repeats: int
) -> dict[str, Any]:
    """One line: a command that should answer at once, by turns with the rival's start."""

    def run(arguments: Sequence[str]) -> None:
        found = subprocess.run(
            [sys.executable, *arguments], cwd=place, env=environment(), capture_output=True
        )
        if found.returncode not in (0, 1, 2):  # the gate's verdict may be any
            raise SystemExit(found.stderr.decode())

    sides = {"rival": lambda: run(rival), "ours": lambda: run(command)}
    times = by_turns(sides, repeats)
    return row(
        name,
        ratio(times["rival"], times["ours"]),
        limit_seconds=limit,
        seconds=Spread.of([t.wall for t in times["ours"]]).median,
    )


def table(rows: list[dict[str, Any]]) -> str:
    """Format the lines for docs/performance.md."""
    body = []
    for line in rows:
        limit = line.get("limit_seconds")
        verdict = ""
        if limit is not None:
            verdict = f"≤ {limit:g}: {'met' if line['seconds'] <= limit else 'not met'}"
        spread = str(Spread(**line["ratio"])) if "ratio" in line else ""
        body.append([line["name"], rounded(line["seconds"]), verdict, spread])
    return markdown(["what", "seconds", "target", "rival's time over ours (quartiles)"], body)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.pipeline")
    parser.add_argument("--targets", nargs="*", default=[], help="stages; default: all")
    parser.add_argument("--repeats", type=int, default=5, help="of the short commands")
    parser.add_argument("--json", type=Path, default=RESULTS / "pipeline.json")
    arguments = parser.parse_args()
    rows = []
    with scratch() as folder:
        place = fresh_clone(folder)
        seconds = cold(place, arguments.targets)
        whole = not arguments.targets
        for stage, value in seconds.items():
            if stage == "all":
                limit = {"limit_seconds": LIMITS["cold"]} if whole else {}
                rows.append(row("`dvc repro`, cold: all", None, seconds=value, **limit))
            elif stage != "start":
                rows.append(row(f"`dvc repro`, cold: {stage}", None, seconds=value))
        bare, dvc = ["-c", "pass"], ["-m", "dvc", "--version"]
        dhmd = ["-c", "from dhmd.cli import main; raise SystemExit(main())"]
        lines = [
            (
                "`dvc repro`, unchanged (rival: `dvc --version`)",
                ["-m", "dvc", "repro", *arguments.targets],
                dvc,
                "unchanged",
            ),
            ("`dhmd --help` (rival: a bare Python)", [*dhmd, "--help"], bare, "help"),
            ("`dhmd gate` (rival: a bare Python)", [*dhmd, "gate"], bare, "gate"),
        ]
        for name, command, rival, limit in lines:
            rows.append(quick(place, name, command, rival, LIMITS[limit], arguments.repeats))
    print(table(rows))
    write(arguments.json, "pipeline", {"machine": machine(), "rows": rows})


if __name__ == "__main__":
    main()
