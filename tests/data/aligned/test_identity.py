"""The identity changes with everything that comparable results share, and only then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dhmd.data.aligned import Ragged, read_corpus
from tests.aligned_files import write_aligned
from tests.data.aligned.corpora import small_corpus


def identity(tmp_path: Path, **changes: Any) -> str:
    """Return the identity of a small corpus with changes."""
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
def test_the_identity_depends_on_what_comparable_results_share(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    assert identity(tmp_path, **changes) != identity(tmp_path)


def test_features_and_report_do_not_change_the_identity(tmp_path: Path) -> None:
    data = small_corpus()
    scaled = {m: Ragged(r.values * 1.0001, r.offsets) for m, r in data.features.items()}
    assert identity(tmp_path, features=scaled, report={}) == identity(tmp_path)


def test_the_definition_of_the_identity_has_not_changed(tmp_path: Path) -> None:
    changes = {"labels_N": np.linspace(-3, 3, 12), "recipe": {}, "sources": {"a": "b"}}
    expected = "e5110329ea03c313e28700c1ff04cb451a3e0a8cbb09ff41d3a0d17335c609af"
    assert identity(tmp_path, **changes) == expected
