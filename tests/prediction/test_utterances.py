"""Features other than the model's are refused, and nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.csd import open_sequence, write_sequence
from dhmd.prediction import predict_folder
from tests.prediction.corpora import Pipeline, change


def no_words(folder: Path) -> None:
    change(folder / "words.csd", lambda _, rows, times: (np.ones((len(rows), 1)), times))


def words_as_audio(folder: Path) -> None:
    (folder / "words.csd").rename(folder / "w.csd")
    (folder / "acoustic.csd").write_bytes((folder / "w.csd").read_bytes())
    (folder / "w.csd").rename(folder / "words.csd")


def narrow(folder: Path) -> None:
    change(folder / "visual.csd", lambda _, rows, times: (rows[:, :5], times))


def renamed(folder: Path) -> None:
    with open_sequence(folder / "visual.csd") as sequence:
        names = sequence.dimension_names
        entries = [(video, sequence.read(video)) for video in sequence.ids]
    assert names is not None
    write_sequence(
        folder / "visual.csd",
        root_name="x",
        entries=[(video, entry.features, entry.intervals) for video, entry in entries],
        metadata=None,
        dimension_names=(names[0], "brow", *names[2:]),
    )


def cut(folder: Path) -> None:
    content = (folder / "vectors.csd").read_bytes()
    (folder / "vectors.csd").write_bytes(content[: len(content) // 2])


def uneven(folder: Path) -> None:
    change(
        folder / "visual.csd",
        lambda video, rows, times: (rows[:, :3] if video == "255224" else rows, times),
    )


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (no_words, r"words\.csd holds numbers where the model expects words"),
        (words_as_audio, r"acoustic\.csd holds words where the model expects numbers for audio"),
        (narrow, r"visual\.csd has 5 columns, but the model was trained on 28 of vision"),
        (renamed, r"visual\.csd has 'brow' as column 1, where the model was trained on '"),
        (cut, r"vectors\.csd: not a whole HDF5 file"),
        (uneven, r"visual\.csd: entry '255224' has 3 columns of numbers"),
    ],
)
def test_other_features_are_refused(
    trained: Pipeline, tmp_path: Path, spoil: Callable[[Path], Any], sentence: str
) -> None:
    folder = trained.inputs(tmp_path / "new")
    spoil(folder)
    with pytest.raises(DhmdError, match=sentence):
        predict_folder(trained.model, folder, tmp_path / "out" / "p.csv")
    assert not (tmp_path / "out").exists()


def test_columns_without_names_are_taken_and_said(trained: Pipeline, tmp_path: Path) -> None:
    folder = trained.inputs(tmp_path / "new")
    path = folder / "visual.csd"
    with open_sequence(path) as sequence:
        entries = [(video, sequence.read(video)) for video in sequence.ids]
    write_sequence(
        path,
        root_name="x",
        entries=[(video, entry.features, entry.intervals) for video, entry in entries],
        metadata=None,
    )
    predicted = predict_folder(trained.model, folder, tmp_path / "a.csv")
    assert predicted.notes[0] == f"{path} does not name its columns: their order is not checked"
    predict_folder(trained.model, trained.inputs(tmp_path / "named"), tmp_path / "b.csv")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_a_video_with_words_alone_is_left_out(trained: Pipeline, tmp_path: Path) -> None:
    folder = trained.inputs(tmp_path / "new", "words", "acoustic")
    change(
        folder / "acoustic.csd",
        lambda video, rows, times: None if video == "25522" else (rows, times),
    )
    predicted = predict_folder(trained.model, folder, tmp_path / "p.csv")
    assert "left out for want of any modality: 1 video: 25522" in predicted.notes
    assert "25522[0]" not in (tmp_path / "p.csv").read_text(encoding="utf-8")
