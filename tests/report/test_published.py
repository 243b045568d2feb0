"""Which published numbers stand beside a run: none that is not comparable."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from dhmd.report.inputs import Inputs
from dhmd.report.published import Published, published_for


def run(name: str, width: int, modalities: tuple[str, ...] = ("text", "audio", "vision")) -> Inputs:
    values = SimpleNamespace(values=np.zeros((1, width)))
    corpus = SimpleNamespace(features={"text": values})
    return cast(
        Inputs,
        SimpleNamespace(name=name, task="regression", modalities=modalities, corpus=corpus),
    )


def comparable(entries: list[Published]) -> set[str]:
    return {entry.model for entry in entries if entry.comparable}


def test_rows_of_the_same_features_alone_are_comparable() -> None:
    assert comparable(published_for(run("mosi_mmsa", 768))) == {"DMD (BERT)", "DLF", "DecAlign"}
    assert comparable(published_for(run("mosei", 300))) == {"DMD (GloVe)"}
    assert comparable(published_for(run("mosi_real", 50))) == set()


def test_a_row_whose_features_are_unknown_is_never_comparable() -> None:
    for width in (50, 300, 768):
        for entry in published_for(run("mosi", width)):
            assert entry.why
            if entry.features is None:
                assert not entry.comparable
                assert entry.why.startswith("no: ")


def test_fewer_modalities_compare_with_nothing() -> None:
    entries = published_for(run("mosi_mmsa", 768, ("text", "audio")))
    assert comparable(entries) == set()
    assert entries[0].why == "no: this run reads text, audio only"


def test_a_guess_is_called_one() -> None:
    (guess,) = [e for e in published_for(run("mosi", 300)) if e.model.startswith("DHMD")]
    assert guess.source.startswith("guess")
    assert not guess.comparable


@pytest.mark.parametrize("name", ["demo", "mosix", "urfunny", "sims_mmsa"])
def test_other_corpora_have_none(name: str) -> None:
    assert published_for(run(name, 768)) == []


def test_accuracies_are_shares() -> None:
    for name in ("mosi", "mosei"):
        for entry in published_for(run(name, 300)):
            for low, high in entry.values.values():
                assert 0.3 < low <= high < 1
