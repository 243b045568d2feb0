"""`align_corpus` raises the first error and writes no file; `check_corpus` returns all errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.alignment import AlignConfig, CorpusJob, check_corpus
from tests.data.alignment.files import (
    FOLDS,
    align,
    generated_recipe,
    hand_entries,
    write_files,
    write_folds,
)


def error_message(tmp_path: Path, **arguments: Any) -> str:
    """Return the message of `align_corpus`; it must be one line, and no file may be left."""
    with pytest.raises(DhmdError) as caught:
        align(tmp_path, **arguments)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "aligned.h5").exists()
    assert not list(tmp_path.glob(".partial-*"))
    return str(caught.value)


def test_a_missing_sequence_is_an_error(tmp_path: Path) -> None:
    paths = write_files(tmp_path, hand_entries())
    paths["visual"].unlink()
    assert "visual.csd: no such computational sequence" in error_message(tmp_path, paths=paths)


@pytest.mark.parametrize(
    ("label", "text"), [(3.2, "3.2"), (-7.0, "-7"), (np.nan, "nan"), (np.inf, "inf")]
)
def test_labels_out_of_range_are_errors(tmp_path: Path, label: float, text: str) -> None:
    entries = hand_entries()
    entries["labels"]["v"][0][4][0] = label
    assert error_message(tmp_path, entries=entries) == (
        f"{tmp_path / 'labels.csd'}: the label of 'v[4]' is {text},"
        " but recipes/random.yaml allows -3 to 3 (± 0.1)"
    )


@pytest.mark.parametrize(
    ("sequence", "entry", "expected"),
    [
        ("words", ([["one"]], [[8, 9]]), "split 'test' of fold 'standard' has no segment"),
        (
            "acoustic",
            (np.ones((1, 3)), [[0, 1]]),
            "entry 'x' has 3 columns of numbers, but the sequence's first entry has 2",
        ),
        ("acoustic", ([["a", "b"]], [[0, 1]]), "entry 'x' has 2 columns of words"),
    ],
)
def test_inconsistent_entries_are_errors(
    tmp_path: Path, sequence: str, entry: Any, expected: str
) -> None:
    entries = hand_entries()
    entries[sequence]["x"] = entry
    assert expected in error_message(tmp_path, entries=entries)


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (
            {"modalities": {"text": "words"}},
            "modality text requires numbers, but the sequence 'words' has words",
        ),
        ({"labels": {"sequence": "words"}}, "words.csd has words instead of numbers"),
        (
            {"labels": {"sequence": "labels", "column": 1}},
            "labels.column is 1, but the sequence has 1 column",
        ),
        (
            {"labels": {"sequence": "labels", "column": "happy"}},
            "labels.column is 'happy', but the sequence has unnamed columns",
        ),
    ],
)
def test_recipes_that_contradict_the_files_are_errors(
    tmp_path: Path, recipe: dict[str, Any], expected: str
) -> None:
    if "labels" in recipe:
        recipe = {"labels": {"low": -3.0, "high": 3.0, **recipe["labels"]}}
    assert expected in error_message(tmp_path, recipe=recipe)


def test_labels_split_into_pieces_are_errors(tmp_path: Path) -> None:
    entries = hand_entries()
    entries["labels"]["v[0]"] = entries["labels"].pop("v")
    message = error_message(tmp_path, entries=entries)
    assert "video 'v' is split into entries such as 'v[0]'" in message


def problems(tmp_path: Path, paths: dict[str, Path], folds: Any) -> list[str]:
    """Return the problems that `check_corpus` lists."""
    job = CorpusJob(
        recipe=generated_recipe(),
        paths=paths,
        align=AlignConfig(),
        alignment="word",
        folds_path=write_folds(tmp_path, folds),
    )
    return check_corpus(job)


def test_the_problems_of_all_videos_are_listed(tmp_path: Path) -> None:
    entries = hand_entries()
    entries["labels"]["v"][0][1][0] = 9.0
    entries["labels"]["w"] = ([[-8.0]], [[0, 1]])
    features, intervals = entries["acoustic"]["v"]
    entries["acoustic"]["v"] = (features, intervals[:, ::-1])
    entries["visual"]["w"] = (np.ones((1, 4)), [[0, 1]])
    paths = write_files(tmp_path, entries)
    with h5py.File(paths["vectors"], "r+") as file:
        del file["vectors/data/x/features"]
    messages = problems(tmp_path, paths, {**FOLDS, "train": ["v", "x"]})
    assert len(messages) == 6
    for expected in (
        "video 'x' is in both train and test",
        "the label of 'v[1]' is 9",
        "the label of 'w[0]' is -8",
        "acoustic.csd: entry 'v', row 0: interval [0.5, 0.0] ends before it starts",
        "visual.csd: entry 'w' has 4 columns of numbers",
        "vectors.csd: entry 'x' has no dataset `features`",
    ):
        assert sum(expected in message for message in messages) == 1, expected


def test_all_files_that_cannot_be_opened_are_listed(tmp_path: Path) -> None:
    paths = write_files(tmp_path, hand_entries())
    paths["visual"].write_bytes(b"<html>")
    paths["acoustic"].unlink()
    messages = problems(tmp_path, paths, [])
    assert len(messages) == 3
    assert "folds.json" in messages[0]
    assert any("visual.csd: not a whole HDF5 file" in message for message in messages)
    assert any("acoustic.csd: no such computational sequence" in message for message in messages)
