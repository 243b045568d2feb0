"""Folds: assignments of videos to splits. No video is in two splits of a fold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.data.aligned.corpus import SPLITS

# The name of the only fold of a file of the form {train, valid, test}.
ONLY_FOLD = "standard"

Folds = dict[str, dict[str, tuple[str, ...]]]  # fold: split: videos


def read_folds(path: Path) -> Folds:
    """Read a folds file: {train: [video, …], valid, test}, or {fold: {train: …}, …}.

    Raises:
        DhmdError: the file is absent, has another form, or has a video in two splits of a fold.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DhmdError(f"{path}: cannot read the folds file: {error.strerror}") from error
    except ValueError as error:
        raise DhmdError(f"{path}: the folds file is not JSON: {error}") from error
    if isinstance(content, dict) and set(content) & set(SPLITS):
        content = {ONLY_FOLD: content}
    if not isinstance(content, dict) or not content:
        raise DhmdError(f"{path}: folds are {{train, valid, test}} or {{fold: {{train, …}}, …}}")
    folds: Folds = {}
    for fold, splits in content.items():
        if not isinstance(splits, dict) or set(splits) != set(SPLITS):
            raise DhmdError(f"{path}: fold {fold!r} must have exactly train, valid and test")
        for split, videos in splits.items():
            if not isinstance(videos, list) or not all(isinstance(v, str) for v in videos):
                raise DhmdError(f"{path}: fold {fold!r}, {split} must be a list of video ids")
        folds[str(fold)] = {split: tuple(splits[split]) for split in SPLITS}
        _split_of_video(folds[str(fold)], str(fold), str(path))
    return folds


def assign_splits(
    folds: Mapping[str, Mapping[str, Sequence[str]]], videos: Sequence[str], *, where: str
) -> dict[str, np.ndarray[Any, Any]]:
    """Return the split of each segment, `[N]` str per fold.

    Args:
        folds: the videos of each split of each fold.
        videos: the video of each of the N segments.
        where: the folds file, for messages.

    Raises:
        DhmdError: a segment's video is in no split of a fold, or in two, or a split is empty.
    """
    result: dict[str, np.ndarray[Any, Any]] = {}
    for fold, splits in folds.items():
        split_of = _split_of_video(splits, fold, where)
        unassigned = sorted({video for video in videos if video not in split_of})
        if unassigned:
            raise DhmdError(
                f"{where}: video {unassigned[0]!r} is in no split of fold {fold!r}"
                f" ({len(unassigned)} such {'video' if len(unassigned) == 1 else 'videos'});"
                " put it into train, valid or test"
            )
        result[fold] = np.array([split_of[video] for video in videos], dtype="U5")
        for split in SPLITS:
            if split not in result[fold]:
                raise DhmdError(f"{where}: split {split!r} of fold {fold!r} has no segment")
    return result


def _split_of_video(splits: Mapping[str, Sequence[str]], fold: str, where: str) -> dict[str, str]:
    """Return the split of each video; a video in two splits is an error."""
    split_of: dict[str, str] = {}
    for split in SPLITS:
        for video in splits[split]:
            first = split_of.setdefault(video, split)
            if first != split:
                raise DhmdError(
                    f"{where}: video {video!r} is in both {first} and {split} of fold {fold!r};"
                    " a video must be in one split"
                )
    return split_of
