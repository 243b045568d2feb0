"""`python -m tests.faults`: the whole long form, in three processes at once.

What became of it is added to .dhmd/fault-passes.json, from which `python -m tests.faults.page`
writes the tables of docs/reliability.md.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from threading import Thread
from typing import Any

from tests.faults.page import SUMMARY

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# The files of all processes but the last, which has the others; about as long as each other.
SOME = (
    ("test_kill.py",),
    ("test_concurrency.py", "test_environments.py", "test_numbers.py", "test_security.py"),
)


def parts() -> list[list[Path]]:
    """The test files of each process."""
    named = [[HERE / name for name in names] for names in SOME]
    left = set(HERE.glob("test_*.py")).difference(*named)
    return [*named, sorted(left)]


def run(parts: list[list[Path]], folder: Path) -> list[dict[str, Any]]:
    """Run each part in a process of its own, and show what they say; their summaries."""
    summaries = [folder / f"part-{number}.json" for number in range(len(parts))]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "pytest", "--run-slow", "-v", "-rs", f"--counts={summary}"]
            + [str(path) for path in files],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for files, summary in zip(parts, summaries, strict=True)
    ]
    listeners = [
        Thread(target=_show, args=(number, process)) for number, process in enumerate(processes, 1)
    ]
    for listener in listeners:
        listener.start()
    for listener in listeners:
        listener.join()
    for process in processes:
        process.wait()
    return [json.loads(path.read_text(encoding="utf-8")) for path in summaries if path.is_file()]


def _show(number: int, process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip():
            sys.stdout.write(f"{number}| {line}")
            sys.stdout.flush()


def joined(summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """One summary of all: tests by outcome, seconds of each, counts by area and kind."""
    whole: dict[str, Any] = {"tests": {}, "seconds": {}, "counts": {}}
    for summary in summaries:
        for outcome, names in summary["tests"].items():
            whole["tests"].setdefault(outcome, []).extend(names)
        whole["seconds"] |= summary["seconds"]
        for area, counts in summary["counts"].items():
            found = whole["counts"].setdefault(area, {})
            for what, number in counts.items():
                found[what] = found.get(what, 0) + number
    return whole


def _commit() -> str:
    """The commit that is tested, and whether files differ from it."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    return f"{git('rev-parse', '--short=10', 'HEAD')}{' with changes' if changed else ''}"


def main() -> int:
    SUMMARY.parent.mkdir(exist_ok=True)
    began, commit = time.time(), _commit()
    with tempfile.TemporaryDirectory() as folder:
        summaries = run(parts(), Path(folder))
    if len(summaries) < len(parts()):
        print("a part of the tests ended without a summary: see above", file=sys.stderr)
        return 1
    whole = joined(summaries)
    whole |= {
        "began": time.strftime("%Y-%m-%d %H:%M", time.gmtime(began)),
        "minutes": round((time.time() - began) / 60, 1),
        "commit": commit,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    passes = json.loads(SUMMARY.read_text(encoding="utf-8")) if SUMMARY.is_file() else []
    SUMMARY.write_text(json.dumps([*passes, whole], indent=1) + "\n", encoding="utf-8")
    numbers = {outcome: len(names) for outcome, names in whole["tests"].items()}
    print(f"{numbers} in {whole['minutes']} minutes; counts in {SUMMARY.relative_to(ROOT)}")
    return 1 if whole["tests"]["failed"] or whole["tests"]["not run"] else 0


if __name__ == "__main__":
    sys.exit(main())
