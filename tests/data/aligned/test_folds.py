"""Folds: each video is in one split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.aligned import assign_splits, read_folds

SPLITS = {"train": ["a", "b"], "valid": ["25522"], "test": ["255224", "gone"]}


def folds_file(tmp_path: Path, content: object) -> Path:
    """Write a folds file, and return its path."""
    path = tmp_path / "folds.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_a_file_has_one_fold_or_several(tmp_path: Path) -> None:
    only = read_folds(folds_file(tmp_path, SPLITS))
    assert only == {"standard": {split: tuple(videos) for split, videos in SPLITS.items()}}
    assert list(read_folds(folds_file(tmp_path, {"1": SPLITS, "2": SPLITS}))) == ["1", "2"]


def test_each_segment_has_the_split_of_its_video() -> None:
    videos = ["25522", "255224", "a", "a", "b"]
    assigned = assign_splits({"standard": SPLITS}, videos, where="folds.json")
    assert assigned["standard"].tolist() == ["valid", "test", "train", "train", "train"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([], "folds are {train, valid, test}"),
        ({"train": ["a"], "valid": ["b"]}, "must have exactly train, valid and test"),
        ({"f": {"train": ["a"]}}, "fold 'f' must have exactly"),
        ({**SPLITS, "test": [3]}, "test must be a list of video ids"),
        ({**SPLITS, "test": ["a"]}, "video 'a' is in both train and test of fold 'standard'"),
    ],
)
def test_invalid_files_are_errors(tmp_path: Path, content: Any, sentence: str) -> None:
    path = folds_file(tmp_path, content)
    with pytest.raises(DhmdError) as caught:
        read_folds(path)
    assert str(caught.value).startswith(str(path))
    assert sentence in str(caught.value)


def test_an_absent_or_damaged_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DhmdError, match="cannot read the folds file: No such file"):
        read_folds(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(DhmdError, match="the folds file is not JSON"):
        read_folds(tmp_path / "bad.json")


@pytest.mark.parametrize(
    ("videos", "sentence"),
    [
        (["a", "25522", "255224", "c", "c"], "video 'c' is in no split of fold 'standard' (1 such"),
        (["a", "25522"], "split 'test' of fold 'standard' has no segment"),
    ],
)
def test_segments_without_a_split_are_errors(videos: list[str], sentence: str) -> None:
    with pytest.raises(DhmdError) as caught:
        assign_splits({"standard": SPLITS}, videos, where="folds.json")
    assert sentence in str(caught.value)
