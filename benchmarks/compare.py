"""Did anything become slower? `python -m benchmarks.compare --help`

Compares the results in benchmarks/results with those committed at a revision, as ratios to the
rival that ran beside (the plain model, the SDK, a bare interpreter), never as seconds: so that
another machine's results can be compared too. Exit 0: none fell by more than the tolerance;
1: some did; 2: nothing could be compared.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.measure import RESULTS, ROOT, markdown, rounded

TOLERANCE = 0.2

Results = dict[str, Mapping[str, Any]]


def in_folder(folder: Path) -> Results:
    """Read every result of a folder, by file name."""
    return {
        path.name: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.json"))
    }


def at_revision(revision: str) -> Results:
    """Read every result that was committed at a Git revision."""
    inside = RESULTS.relative_to(ROOT).as_posix()
    listed = _git("ls-tree", "--name-only", revision, f"{inside}/")
    return {
        Path(path).name: json.loads(_git("show", f"{revision}:{path}"))
        for path in listed.splitlines()
        if path.endswith(".json")
    }


def _git(*arguments: str) -> str:
    found = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    if found.returncode:
        raise SystemExit(f"git {' '.join(arguments)}: {found.stderr.strip()}")
    return found.stdout


def ratios(results: Results) -> dict[str, float]:
    """Return the median ratio of every line that has one."""
    return {
        line["name"]: line["ratio"]["median"]
        for result in results.values()
        for line in result["rows"]
        if "ratio" in line
    }


def compare(old: Results, new: Results, tolerance: float) -> tuple[int, str]:
    """Return the exit status and the table."""
    before, after = ratios(old), ratios(new)
    both = [name for name in before if name in after]
    body, slower = [], 0
    for name in both:
        change = after[name] / before[name] - 1
        fell = change < -tolerance
        slower += fell
        verdict = "slower" if fell else "ok"
        body.append([name, rounded(before[name]), rounded(after[name]), f"{change:+.0%}", verdict])
    body += [
        [name, rounded(before[name]), "", "", "not run"] for name in before if name not in after
    ]
    body += [[name, "", rounded(after[name]), "", "new"] for name in after if name not in before]
    text = markdown(["ratio to the rival", "before", "now", "change", ""], body)
    if not both:
        return 2, text
    return (1 if slower else 0), text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.compare")
    parser.add_argument("--base", default="HEAD", help="Git revision of the old results")
    parser.add_argument("--old", type=Path, help="a folder with the old results instead")
    parser.add_argument("--new", type=Path, default=RESULTS, help="a folder with the new results")
    parser.add_argument(
        "--tolerance", type=float, default=TOLERANCE, help="share by which a ratio may fall"
    )
    arguments = parser.parse_args()
    old = at_revision(arguments.base) if arguments.old is None else in_folder(arguments.old)
    status, text = compare(old, in_folder(arguments.new), arguments.tolerance)
    print(text)
    sys.exit(status)


if __name__ == "__main__":
    main()
