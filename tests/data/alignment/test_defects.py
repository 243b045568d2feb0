"""Each defect of the files is one clear sentence, and no file appears."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from tests.data.alignment.files import Entries, align, hand_entries, write_files


def error_message(tmp_path: Path, **arguments: Any) -> str:
    """The sentence, after checking that it is one and that nothing was written."""
    with pytest.raises(DhmdError) as caught:
        align(tmp_path, **arguments)
    sentence = str(caught.value)
    assert sentence
    assert "\n" not in sentence
    assert not (tmp_path / "aligned.h5").exists()
    assert not list(tmp_path.glob(".partial-*"))
    return sentence


def test_a_missing_sequence(tmp_path: Path) -> None:
    paths = write_files(tmp_path, hand_entries())
    paths["visual"].unlink()
    assert "visual.csd: no such computational sequence" in error_message(tmp_path, paths=paths)


def test_a_split_that_alignment_empties(tmp_path: Path) -> None:
    def silence(entries: Entries) -> None:
        entries["words"]["x"] = ([["one"]], [[8, 9]])

    assert "split 'test' of fold 'standard' has no segment" in error_message(
        tmp_path, change=silence
    )


@pytest.mark.parametrize(
    ("label", "shown"), [(3.2, "3.2"), (-7.0, "-7"), (np.nan, "nan"), (np.inf, "inf")]
)
def test_labels_out_of_the_recipes_range(tmp_path: Path, label: float, shown: str) -> None:
    def over(entries: Entries) -> None:
        entries["labels"]["v"][0][4][0] = label

    assert error_message(tmp_path, change=over) == (
        f"{tmp_path / 'labels.csd'}: the label of 'v[4]' is {shown},"
        " but recipes/random.yaml allows -3 to 3 (± 0.1)"
    )


def test_widths_and_kinds_that_change_between_videos(tmp_path: Path) -> None:
    def widen(entries: Entries) -> None:
        entries["acoustic"]["w"] = (np.ones((1, 3)), [[0, 1]])

    assert (
        "entry 'w' has 3 columns of numbers, but the sequence's first entry has 2"
        in error_message(tmp_path, change=widen)
    )

    def speak(entries: Entries) -> None:
        entries["acoustic"]["w"] = ([["a", "b"]], [[0, 1]])

    assert "entry 'w' has 2 columns of words" in error_message(tmp_path, change=speak)


def test_words_where_numbers_belong(tmp_path: Path) -> None:
    recipe: dict[str, object] = {"modalities": {"text": "words"}}
    assert "modality text needs numbers, but the sequence 'words' has words" in error_message(
        tmp_path, recipe=recipe
    )
    recipe = {"labels": {"sequence": "words", "low": -3.0, "high": 3.0}}
    assert "words.csd has words instead of numbers" in error_message(tmp_path, recipe=recipe)


@pytest.mark.parametrize(
    ("column", "expected"), [(1, "has 1 column"), ("happy", "has unnamed columns")]
)
def test_a_label_column_that_is_not_there(tmp_path: Path, column: int | str, expected: str) -> None:
    recipe = {"labels": {"sequence": "labels", "column": column, "low": -3.0, "high": 3.0}}
    assert f"labels.column is {column!r}, but the sequence {expected}" in error_message(
        tmp_path, recipe=recipe
    )


def test_labels_split_into_segments(tmp_path: Path) -> None:
    def split(entries: Entries) -> None:
        entries["labels"]["v[0]"] = entries["labels"].pop("v")

    assert "video 'v' is split into entries such as 'v[0]'" in error_message(tmp_path, change=split)
