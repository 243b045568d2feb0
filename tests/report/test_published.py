"""Published results: each has a source, and is called comparable only if its features are ours."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from dhmd.report.data import ReportData
from dhmd.report.published import Published, published_results


def rows(name: str, width: int, *modalities: str) -> list[Published]:
    corpus = SimpleNamespace(features={"text": SimpleNamespace(values=np.zeros((1, width)))})
    used = modalities or ("text", "audio", "vision")
    run = SimpleNamespace(name=name, task="regression", modalities=used, corpus=corpus)
    return published_results(cast(ReportData, run))


@pytest.mark.parametrize(
    ("name", "width", "expected"),
    [
        ("mosi_mmsa", 768, {"DMD", "DLF", "DecAlign"}),
        ("mosei", 300, set()),
        ("mosi_real", 50, set()),
    ],
)
def test_only_rows_with_the_same_features_are_comparable(
    name: str, width: int, expected: set[str]
) -> None:
    found = rows(name, width)
    assert {entry.model for entry in found if entry.comparable.startswith("with")} == expected
    for entry in found:
        assert entry.source
        assert entry.model in expected or entry.comparable.startswith("no: ")


def test_fewer_modalities_compare_with_nothing() -> None:
    found = rows("mosi_mmsa", 768, "text", "audio")
    assert {entry.comparable for entry in found} == {"no: this run uses other modalities"}


@pytest.mark.parametrize("name", ["demo", "mosix", "urfunny", "sims_mmsa"])
def test_other_corpora_have_none(name: str) -> None:
    assert rows(name, 768) == []


@pytest.mark.parametrize("name", ["mosi", "mosei"])
def test_published_numbers_are_published(name: str) -> None:
    found = rows(name, 300)
    assert "DHMD" not in " ".join(entry.model for entry in found)
    for entry in found:
        assert all(0.3 < value < 1 for value in entry.values.values())
