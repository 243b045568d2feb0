"""Every problem at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dhmd.data.alignment import AlignConfig, CorpusJob, check_corpus
from tests.data.alignment.files import (
    FOLDS,
    generated_recipe,
    hand_entries,
    write_files,
    write_folds,
)


def problems(tmp_path: Path, paths: dict[str, Path], folds: Any = FOLDS) -> list[str]:
    job = CorpusJob(
        recipe=generated_recipe(),
        paths=paths,
        align=AlignConfig(),
        alignment="word",
        folds_path=write_folds(tmp_path, folds),
    )
    return check_corpus(job)


def test_problems_of_videos_are_listed_together(tmp_path: Path) -> None:
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
    for part in (
        "video 'x' is in both train and test",
        "the label of 'v[1]' is 9",
        "the label of 'w[0]' is -8",
        "acoustic.csd: entry 'v', row 0: interval [0.5, 0.0] ends before it starts",
        "visual.csd: entry 'w' has 4 columns of numbers",
        "vectors.csd: entry 'x' has no dataset `features`",
    ):
        assert sum(part in sentence for sentence in messages) == 1, part


def test_files_that_cannot_be_opened_are_all_named(tmp_path: Path) -> None:
    paths = write_files(tmp_path, hand_entries())
    paths["visual"].write_bytes(b"<html>")
    paths["acoustic"].unlink()
    messages = problems(tmp_path, paths, [])
    assert len(messages) == 3
    assert "folds.json" in messages[0]
    assert any("visual.csd: not a whole HDF5 file" in sentence for sentence in messages)
    assert any("acoustic.csd: no such computational sequence" in sentence for sentence in messages)
