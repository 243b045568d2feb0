"""The long form's own bookkeeping: no test file is left out, and the page shows what was found."""

from __future__ import annotations

from pathlib import Path

from tests.faults.__main__ import HERE, joined, parts
from tests.faults.page import BEGIN, END, written


def one_pass(failed: list[str]) -> dict[str, object]:
    first = {
        "tests": {"passed": ["a.py::x"], "failed": failed, "skipped": [], "not run": []},
        "seconds": {"a.py::x": 1.5},
        "counts": {"kill": {"train": 2}},
    }
    second = {
        "tests": {"passed": ["b.py::y"], "failed": [], "skipped": ["b.py::z"], "not run": []},
        "seconds": {"b.py::y": 2.0, "b.py::z": 0.0},
        "counts": {"kill": {"train": 3}, "data": {"mutants": 1200}},
    }
    whole = joined([first, second])
    assert whole["seconds"] == {"a.py::x": 1.5, "b.py::y": 2.0, "b.py::z": 0.0}
    return whole | {
        "began": "2026-11-24 13:00",
        "minutes": 35.4,
        "commit": "0123456789",
        "python": "3.11.7",
        "system": "Linux x86_64",
    }


def test_every_file_of_tests_is_in_one_part() -> None:
    names = [path for part in parts() for path in part]
    assert all(isinstance(path, Path) and path.is_file() for path in names)
    assert sorted(names) == sorted(HERE.glob("test_*.py"))


def test_the_page_shows_both_passes() -> None:
    page = f"before\n{BEGIN}old\n{END}\nafter\n"
    passes = [one_pass([]), one_pass(["a.py::w"]), one_pass([])]
    text = written(page, passes)
    assert text.startswith("before\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "old" not in text
    assert "| 1 | 2026-11-24 13:00 | 35 | 0123456789 | 2 | 1 | 1 | 0 |" in text
    assert "| 2 | 2026-11-24 13:00 | 35 | 0123456789 | 2 | 0 | 1 | 0 |" in text
    assert "Pass 1, failed:\n\n- `a.py::w`" in text
    assert "| kill | train | 5 | 5 |" in text
    assert "| data | mutants | 1,200 | 1,200 |" in text
