"""`python -m tests.faults.page`: the counts of the last `make faults`, into docs/reliability.md."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SUMMARY = ROOT / ".dhmd" / "faults.json"
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- table:faults -->\n", "<!-- /table -->"


def table(summary: dict[str, Any]) -> str:
    """Rows area, what, how often; under them which tests did not pass, and how long it took."""
    lines = ["| area | what | how often |", "|---|---|---:|"]
    for area, counts in sorted(summary["counts"].items()):
        lines += [f"| {area} | {what} | {number:,} |" for what, number in sorted(counts.items())]
    tests = summary["tests"]
    numbers = ", ".join(f"{len(names)} {outcome}" for outcome, names in tests.items())
    lines += [
        "",
        f"Tests: {numbers}; in {summary['seconds'] / 60:.0f} minutes, with Python "
        f"{summary['python']} on {summary['system']}.",
    ]
    for outcome in ("failed", "skipped", "not run"):
        if tests[outcome]:
            lines += ["", f"{outcome.capitalize()}:", ""]
            lines += [f"- `{name}`" for name in tests[outcome]]
    return "\n".join(lines) + "\n"


def written(page: str, summary: dict[str, Any]) -> str:
    """The page with the table between its markers replaced."""
    before, _, rest = page.partition(BEGIN)
    _, marker, after = rest.partition(END)
    assert marker, f"{PAGE} has lost its markers"
    return f"{before}{BEGIN}{table(summary)}{END}{after}"


def main() -> int:
    if not SUMMARY.is_file():
        print(f"{SUMMARY} does not exist: run `make faults` first", file=sys.stderr)
        return 1
    summary = json.loads(SUMMARY.read_text(encoding="utf-8"))
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), summary), encoding="utf-8")
    print(f"wrote the table of {PAGE.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
