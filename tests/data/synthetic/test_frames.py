"""The faults in the generated files."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from dhmd.data.csd import open_sequence
from dhmd.data.synthetic import GeneratorConfig, generate
from dhmd.data.synthetic.frames import absent_utterances


def covered(folder: Path, name: str) -> tuple[int, int]:
    """Return the number of utterances, and how many of them have no row of the sequence."""
    total = missing = 0
    with open_sequence(folder / "labels.csd") as labels, open_sequence(folder / name) as rows:
        for video in labels.ids:
            intervals = rows.read(video).intervals
            for start, end in labels.read(video).intervals:
                total += 1
                touching = (intervals[:, 0] < end + 1e-5) & (intervals[:, 1] > start - 1e-5)
                missing += not touching.any()
    return total, missing


def test_some_utterances_lack_audio_or_vision(demo_folder: Path) -> None:
    assert covered(demo_folder, "visual.csd") == (1120, 22)
    assert covered(demo_folder, "acoustic.csd") == (1120, 11)
    assert covered(demo_folder, "vectors.csd") == (1120, 0)


def test_no_utterance_lacks_audio_and_vision() -> None:
    missing = absent_utterances(GeneratorConfig())
    assert not missing["audio"] & missing["vision"]


def test_only_audio_has_values_that_are_not_finite(demo_folder: Path) -> None:
    counts = {}
    for name in ("acoustic", "visual", "vectors", "labels", "planted"):
        with open_sequence(demo_folder / f"{name}.csd") as file:
            values = np.concatenate([file.read(video).features.ravel() for video in file.ids])
        counts[name] = (int(np.isneginf(values).sum()), int(np.isnan(values).sum()))
        assert not np.isposinf(values).any()
        if name == "acoustic":
            frames = values.size // 36
    infinite, undefined = counts.pop("acoustic")
    assert infinite == pytest.approx(0.004 * frames, rel=0.3)
    assert undefined == pytest.approx(0.002 * frames, rel=0.4)
    assert set(counts.values()) == {(0, 0)}


def test_vision_has_gaps(demo_folder: Path) -> None:
    gaps = {}
    for name, rate in (("acoustic", 5.0), ("visual", 3.0)):
        with open_sequence(demo_folder / f"{name}.csd") as file:
            gaps[name] = sum(
                int((np.diff(file.read(video).intervals[:, 0]) > 1.5 / rate).sum())
                for video in file.ids
            )
    assert gaps["acoustic"] <= 11
    assert gaps["visual"] > 100


def test_words_have_pauses_and_words_of_zero_length(demo_folder: Path) -> None:
    pauses = empty = rows = 0
    with open_sequence(demo_folder / "words.csd") as file:
        for video in file.ids:
            entry = file.read(video)
            words = entry.features[:, 0]
            length = np.diff(entry.intervals, axis=1)[:, 0]
            pauses += int((words == "sp").sum())
            empty += int((length == 0).sum())
            rows += len(words)
            assert (length[words == "sp"] > 0).all()
    assert 0.1 < pauses / rows < 0.3
    assert 50 < empty < 200


def test_metadata_of_words_is_not_json(demo_folder: Path) -> None:
    with h5py.File(demo_folder / "words.csd") as file:
        (root,) = file.values()
        raw = {key: value[0].decode() for key, value in root["metadata"].items()}
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(raw["dataset name"])
    assert raw["md5"] == "None"
    assert raw["contact"].startswith("b'")


def test_the_smallest_corpus_has_one_fault_of_each_kind(tmp_path: Path) -> None:
    generate(GeneratorConfig(n_train=3, n_valid=1, n_test=1), tmp_path)
    assert covered(tmp_path, "visual.csd") == (5, 1)
    assert covered(tmp_path, "acoustic.csd") == (5, 1)
    with open_sequence(tmp_path / "acoustic.csd") as file:
        values = np.concatenate([file.read(video).features.ravel() for video in file.ids])
    assert np.isneginf(values).any()
    assert np.isnan(values).any()
