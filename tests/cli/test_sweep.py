"""Test the table of `dhmd sweep`."""

from __future__ import annotations

import pytest

from dhmd.cli.sweep import _table


@pytest.mark.parametrize(
    ("metric", "best"), [("mae", "low"), ("f1", "high"), ("f1_weighted", "high")]
)
def test_the_table_is_sorted_by_validation_and_only_the_best_has_a_test_score(
    metric: str, best: str
) -> None:
    scores = {"low": 0.25, "high": 0.75}
    results = {n: {"valid": {metric: v}, "test": {metric: v}} for n, v in scores.items()}
    _, first, second = _table("demo", results).splitlines()
    assert first.split() == [best, f"{scores[best]:.4f}", f"{scores[best]:.4f}"]
    assert second.split()[-1] == "-"
