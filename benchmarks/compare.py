"""Compare the results with those of a Git revision: `python -m benchmarks.compare --help`.

It compares speed-ups over a rival that ran on the same machine (the plain model, the SDK, a bare
interpreter) instead of seconds, so that results of different machines are comparable. Exit status
0: no speed-up fell by more than the tolerance; 1: some did; 2: nothing could be compared.
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


def read_folder(folder: Path) -> Results:
    """Read all results of a folder by file name."""
    return {
        path.name: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.json"))
    }


def read_revision(revision: str) -> Results:
    """Read all results that are committed at a Git revision by file name."""
    folder = RESULTS.relative_to(ROOT).as_posix()
    listed = _git("ls-tree", "--name-only", revision, f"{folder}/")
    return {
        Path(path).name: json.loads(_git("show", f"{revision}:{path}"))
        for path in listed.splitlines()
        if path.endswith(".json")
    }


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def ratios(results: Results) -> dict[str, float]:
    """Return the median ratio of each row that has one, by its name."""
    return {
        row["name"]: row["ratio"]["median"]
        for result in results.values()
        for row in result["rows"]
        if "ratio" in row
    }


def compare(old: Results, new: Results, tolerance: float) -> tuple[int, str]:
    """Return the exit status and the table."""
    before, after = ratios(old), ratios(new)
    common = [name for name in before if name in after]
    body, verdicts = [], []
    for name in common:
        change = after[name] / before[name] - 1
        verdict = "slower" if change < -tolerance else "ok"
        verdicts.append(verdict)
        body.append([name, rounded(before[name]), rounded(after[name]), f"{change:+.0%}", verdict])
    body += [
        [name, rounded(before[name]), "", "", "not run"] for name in before if name not in after
    ]
    body += [[name, "", rounded(after[name]), "", "new"] for name in after if name not in before]
    text = markdown(["ratio to the rival", "before", "now", "change", ""], body)
    if not common:
        return 2, text
    return int("slower" in verdicts), text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m benchmarks.compare")
    parser.add_argument("--base", default="HEAD", help="Git revision of the old results")
    parser.add_argument(
        "--old", type=Path, help="folder with the old results (default: those of --base)"
    )
    parser.add_argument("--new", type=Path, default=RESULTS, help="folder with the new results")
    parser.add_argument(
        "--tolerance", type=float, default=TOLERANCE, help="fraction by which a ratio may fall"
    )
    arguments = parser.parse_args()
    old = read_revision(arguments.base) if arguments.old is None else read_folder(arguments.old)
    status, text = compare(old, read_folder(arguments.new), arguments.tolerance)
    print(text)
    sys.exit(status)


if __name__ == "__main__":
    main()
