"""Ratios, their spread, and the comparison of results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.compare import compare, read_folder
from benchmarks.measure import (
    Spread,
    Time,
    make_row,
    markdown,
    ratio,
    rounded,
    time_interleaved,
    write,
)


def test_ratios_are_computed_per_round() -> None:
    rival = [Time(2.0, 0), Time(9.0, 0), Time(4.0, 0)]
    own = [Time(1.0, 0), Time(3.0, 0), Time(4.0, 0)]
    spread = ratio(rival, own)
    assert (spread.n, spread.median) == (3, 2.0)
    assert (spread.low, spread.high) == (1.5, 2.5)
    assert ratio(rival, own, work=4).median == 8.0


def test_the_spread_of_one_value_is_the_value() -> None:
    assert str(Spread.of([2.0])) == "2.00 (n=1)"


@pytest.mark.parametrize(
    ("value", "shown"), [(0.01234, "0.0123"), (1.5, "1.50"), (123.4, "123"), (0, "0")]
)
def test_numbers_have_three_significant_digits(value: float, shown: str) -> None:
    assert rounded(value) == shown


def test_rounds_alternate_their_order() -> None:
    calls: list[str] = []
    sides = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    times = time_interleaved(sides, 3)
    assert calls == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert [len(values) for values in times.values()] == [3, 3]


def result(**ratios: float) -> dict[str, Any]:
    return {"rows": [make_row(name, Spread.of([value])) for name, value in ratios.items()]}


def test_a_ratio_below_the_tolerance_is_a_regression(tmp_path: Path) -> None:
    write(tmp_path / "old" / "x.json", "x", result(step=2.0, epoch=4.0))
    write(tmp_path / "new" / "x.json", "x", result(step=1.7, epoch=4.4))
    old, new = read_folder(tmp_path / "old"), read_folder(tmp_path / "new")
    assert compare(old, new, 0.2)[0] == 0
    status, text = compare(old, new, 0.1)
    assert status == 1
    assert markdown(["a"], []).startswith("| a |")
    assert "| step | 2.00 | 1.70 | -15% | slower |" in text
    assert "| epoch | 4.00 | 4.40 | +10% | ok |" in text


def test_missing_rows_are_listed_and_results_without_common_rows_are_an_error() -> None:
    status, text = compare({"a": result(step=2.0)}, {"a": result(other=2.0)}, 0.2)
    assert status == 2
    assert "| step | 2.00 |  |  | not run |" in text
