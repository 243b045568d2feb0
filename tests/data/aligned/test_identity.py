"""The identity changes with what makes results comparable, and with nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dhmd.data.aligned import Ragged, read_corpus
from tests.aligned_files import write_aligned
from tests.data.aligned.corpora import small_corpus


def identity(tmp_path: Path, **changes: Any) -> str:
    write_aligned(tmp_path / "x.h5", small_corpus(**changes))
    return read_corpus(tmp_path / "x.h5").identity


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"recipe": {"modalities": {"text": "bert"}}},
        {"ids": tuple(f"u{i}" for i in range(12))},
        {"labels_N": np.zeros(12)},
        {"folds": {"other": small_corpus().folds["standard"]}},
        {"folds": {"standard": small_corpus().folds["standard"][::-1].copy()}},
        {"sources": {"words.csd": "cd" * 32}},
    ],
)
def test_it_changes_with(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert identity(tmp_path, **changes) != identity(tmp_path)


def test_it_does_not_change_with_features_or_report(tmp_path: Path) -> None:
    data = small_corpus()
    nudged = {m: Ragged(r.values * 1.0001, r.offsets) for m, r in data.features.items()}
    assert identity(tmp_path, features=nudged, report={}) == identity(tmp_path)


def test_it_is_the_same_wherever_it_is_computed(tmp_path: Path) -> None:
    """A constant, so that a change of the definition cannot go unseen."""
    plain = {"labels_N": np.linspace(-3, 3, 12), "recipe": {}, "sources": {"a": "b"}}
    expected = "e5110329ea03c313e28700c1ff04cb451a3e0a8cbb09ff41d3a0d17335c609af"
    assert identity(tmp_path, **plain) == expected
