"""`python -m tests.faults.page`: the last passes of `make faults`, into docs/reliability.md."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SUMMARY = ROOT / ".dhmd" / "fault-passes.json"  # a list, oldest first; `tests.faults` adds to it
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- table:faults -->\n", "<!-- /table -->"
SHOWN = 2  # passes


def table(passes: list[dict[str, Any]]) -> str:
    """What became of each pass, and rows area, what, how often in each."""
    lines = [
        "| pass | began (UTC) | minutes | commit | passed | failed | skipped | not run |",
        "|---|---|---:|---|---:|---:|---:|---:|",
    ]
    for number, one in enumerate(passes, 1):
        tests = " | ".join(
            str(len(one["tests"].get(outcome, ())))
            for outcome in ("passed", "failed", "skipped", "not run")
        )
        lines.append(
            f"| {number} | {one['began']} | {one['minutes']:.0f} | {one['commit']} | {tests} |"
        )
    lines += ["", f"With Python {passes[-1]['python']} on {passes[-1]['system']}."]
    for number, one in enumerate(passes, 1):
        for outcome in ("failed", "skipped", "not run"):
            if names := one["tests"].get(outcome):
                lines += ["", f"Pass {number}, {outcome}:", "", *(f"- `{name}`" for name in names)]
    heads = [f"pass {number}" for number in range(1, len(passes) + 1)]
    lines += ["", f"| area | what | {' | '.join(heads)} |", "|---|---|" + "---:|" * len(passes)]
    kinds = {
        (area, what) for one in passes for area, found in one["counts"].items() for what in found
    }
    for area, what in sorted(kinds):
        numbers = [one["counts"].get(area, {}).get(what, 0) for one in passes]
        lines.append(f"| {area} | {what} | {' | '.join(f'{number:,}' for number in numbers)} |")
    return "\n".join(lines) + "\n"


def written(page: str, passes: list[dict[str, Any]]) -> str:
    """The page with the table between its markers replaced."""
    before, _, rest = page.partition(BEGIN)
    _, marker, after = rest.partition(END)
    assert marker, f"{PAGE} has lost its markers"
    return f"{before}{BEGIN}{table(passes[-SHOWN:])}{END}{after}"


def main() -> int:
    if not SUMMARY.is_file():
        print(f"{SUMMARY} does not exist: run `make faults` first", file=sys.stderr)
        return 1
    passes = json.loads(SUMMARY.read_text(encoding="utf-8"))
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), passes), encoding="utf-8")
    print(f"wrote the tables of {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
