"""Run all benchmarks, write docs/performance.md: `python -m benchmarks.all --help`.

The benchmarks run one after another, each in its own process, and take about fifteen minutes on two
cores that do nothing else. The tables are between `<!-- table:NAME -->` and `<!-- /table -->`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import align, epoch, gpu, pipeline, rival, step
from benchmarks.measure import RESULTS, ROOT
from dhmd.base.files import write_text
from dhmd.cli.readme import replace_tables

PAGE = ROOT / "docs" / "performance.md"
TABLES: dict[str, Callable[[list[dict[str, Any]]], str]] = {
    "step": step.table,
    "rival": rival.table,
    "epoch": epoch.table,
    "align": align.table,
    "pipeline": pipeline.table,
    "gpu": gpu.table,
}


def table_text(name: str, results: Path) -> str:
    """Return the machine and the table of a result, or a note that there is no result."""
    path = results / f"{name}.json"
    if name not in TABLES or not path.exists():
        return "Not measured."
    result = json.loads(path.read_text(encoding="utf-8"))
    machine = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    return f"Measured with: {machine}.\n\n{TABLES[name](result['rows'])}"


def refresh(page: Path, results: Path) -> None:
    """Write the tables of the results into the page."""
    text = page.read_text(encoding="utf-8")
    write_text(page, replace_tables(text, lambda name: table_text(name, results), page.name))


def commands(real: Path | None) -> dict[str, list[str]]:
    """Return the arguments of each benchmark by module.

    Not included: `gpu`, `rival`, which needs a clone of DMD, and MOSEI's size, which needs 30 GB.
    """
    with_real = [] if real is None else ["--real", str(real)]
    return {
        "step": [],
        "kernels": [],
        "epoch": with_real,
        "predict": [],
        "threads": [],
        "align": [*with_real, "--repeats", "5"],
        "pipeline": [],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.all")
    parser.add_argument("--real", type=Path, help="folder with the files of dataset mosi_real")
    parser.add_argument("--only", nargs="+", choices=commands(None), help="run these only")
    parser.add_argument("--page-only", action="store_true", help="only write the tables")
    arguments = parser.parse_args()
    benchmarks = commands(arguments.real)
    failed = []
    for name in [] if arguments.page_only else arguments.only or benchmarks:
        start = time.perf_counter()
        print(f"\n== {name}", flush=True)
        module = [sys.executable, "-m", f"benchmarks.{name}", *benchmarks[name]]
        if subprocess.run(module, cwd=ROOT, check=False).returncode:
            failed.append(name)
        print(f"== {name}: {time.perf_counter() - start:.0f} s", flush=True)
    refresh(PAGE, RESULTS)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}; the page has their previous results")


if __name__ == "__main__":
    main()
