"""Alignment of a corpus whose results are calculated by hand (files.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.alignment import AlignConfig
from tests.data.alignment.files import align, hand_entries

NO_SP = AlignConfig(drop_words=("sp",))


def test_results_equal_those_calculated_by_hand(tmp_path: Path) -> None:
    corpus, report = align(tmp_path, config=NO_SP)
    assert corpus.ids == ("v[0]", "v[1]", "v[4]", "w[0]", "x[0]")
    assert corpus.videos == ("v", "v", "v", "w", "x")
    assert corpus.modalities == ("text", "audio", "vision")
    assert corpus.words is not None
    assert corpus.words[:3] == (("good",), ("oh",), ("oh", "good", "bad"))
    np.testing.assert_array_equal(corpus.labels_N, [1, -0.5, 3, 1, 1])
    for modality in corpus.modalities:
        assert corpus.features[modality].lengths.tolist() == [1, 1, 3, 1, 1]
    np.testing.assert_array_equal(corpus.features["text"][2], [[1], [4], [5]])
    # oh [0,1]: rows at 0 and .5; good [2,4]: rows at 3 and 3.5; bad [5,6]: none.
    np.testing.assert_array_equal(corpus.features["audio"][2], [[0.5, -0.25], [6.5, -3.25], [0, 0]])
    np.testing.assert_array_equal(corpus.features["vision"][2], [[7], [7], [0]])
    np.testing.assert_array_equal(corpus.features["audio"][0], [[6.5, -3.25]])
    assert corpus.word_intervals is not None
    np.testing.assert_array_equal(corpus.word_intervals[2], [[0, 1], [2, 4], [5, 6]])
    assert corpus.present_NM.all()
    assert report["empty_segments"] == {"v[2]": "no words", "v[3]": "no length"}
    assert report["counts"] == {
        "labels_clipped": 0,
        "steps_truncated": 0,
        "words": 7,
        "words_dropped": 1,
        "words_short": 1,
    }
    assert report["segments"] == 5
    assert report["videos"] == 3
    assert corpus.report == report


def test_pauses_stay_unless_dropped(tmp_path: Path) -> None:
    corpus, report = align(tmp_path)
    assert corpus.words is not None
    assert corpus.words[2] == ("oh", "sp", "good", "bad")
    assert report["counts"]["words_dropped"] == 0


def test_empty_segments_may_be_kept(tmp_path: Path) -> None:
    corpus, report = align(tmp_path, config=AlignConfig(empty_segments="keep"))
    assert corpus.ids[:5] == tuple(f"v[{i}]" for i in range(5))
    assert corpus.features["text"].lengths[:5].tolist() == [1, 2, 0, 0, 4]
    assert not corpus.present_NM[2:4].any()
    assert report["empty_segments"] == {"v[2]": "no words", "v[3]": "no length"}
    assert report["modalities"]["audio"]["segments_absent"] == 2


@pytest.mark.parametrize(("which", "words"), [("first", ("oh", "sp")), ("last", ("good", "bad"))])
def test_long_segments_are_cut(tmp_path: Path, which: Any, words: tuple[str, ...]) -> None:
    corpus, report = align(tmp_path, config=AlignConfig(max_steps=2, truncate=which))
    assert corpus.words is not None
    assert corpus.words[2] == words
    assert corpus.features["vision"].lengths.max() == 2
    assert report["counts"]["steps_truncated"] == 2


def test_a_modality_is_present_where_a_row_is_real(tmp_path: Path) -> None:
    entries = hand_entries()
    entries["visual"]["v"] = ([[7.0]], [[4.9, 5.5]])
    entries["visual"]["w"] = (np.zeros((0, 1)), np.zeros((0, 2)))
    corpus, report = align(tmp_path, entries)
    assert corpus.present_NM[:, 2].tolist() == [False, False, True, False, True]
    assert corpus.present_NM[:, :2].all()
    np.testing.assert_array_equal(corpus.features["vision"][1], [[0], [0]])
    assert report["modalities"]["vision"]["segments_absent"] == 3


def test_a_segment_without_any_row_is_empty(tmp_path: Path) -> None:
    entries = hand_entries()
    for name in ("vectors", "acoustic", "visual"):
        features, intervals = entries[name]["v"]
        late = np.asarray(intervals)[:, 0] >= 2
        entries[name]["v"] = (np.asarray(features)[late], np.asarray(intervals)[late])
    corpus, report = align(tmp_path, entries)
    assert "v[1]" not in corpus.ids
    assert report["empty_segments"]["v[1]"] == "no rows"


def test_values_that_are_not_finite_are_missing(tmp_path: Path) -> None:
    entries = hand_entries()
    entries["acoustic"]["v"][0][0, 0] = -np.inf  # oh: one of two rows
    entries["acoustic"]["v"][0][4:6, 1] = np.nan  # good: both rows
    corpus, report = align(tmp_path, entries, config=NO_SP)
    np.testing.assert_array_equal(corpus.features["audio"][2], [[1, -0.25], [6.5, 0], [0, 0]])
    assert report["modalities"]["audio"]["values_cleaned"] == 3
    assert report["modalities"]["text"]["values_cleaned"] == 0


def test_unaligned_modalities_keep_their_rates(tmp_path: Path) -> None:
    caps = {"text": 2, "audio": 3, "vision": 1}
    config = AlignConfig(drop_words=("sp",), max_steps_unaligned=caps)
    corpus, report = align(tmp_path, alignment="none", config=config)
    # Segment 2 has no words, but it has audio, so it is not empty.
    assert corpus.ids[:4] == ("v[0]", "v[1]", "v[2]", "v[4]")
    assert corpus.alignment == "none"
    assert corpus.words is not None
    assert corpus.words[:4] == (("good",), ("oh",), (), ("oh", "good"))
    assert corpus.features["text"].lengths[:4].tolist() == [1, 1, 0, 2]
    assert corpus.features["audio"].lengths[:4].tolist() == [3, 3, 2, 3]
    assert corpus.features["vision"].lengths[:4].tolist() == [1, 1, 0, 1]
    np.testing.assert_array_equal(corpus.features["audio"][0], [[6, -3], [7, -3.5], [8, -4]])
    np.testing.assert_array_equal(corpus.features["audio"][2], [[8, -4], [9, -4.5]])
    assert corpus.present_NM[2].tolist() == [False, True, False]
    assert report["empty_segments"] == {"v[3]": "no length"}


def test_a_recipe_may_have_one_or_two_modalities(tmp_path: Path) -> None:
    whole, _ = align(tmp_path / "all")
    for subset in (["text"], ["audio", "vision"], ["vision", "text"]):
        names = {"text": "vectors", "audio": "acoustic", "vision": "visual"}
        recipe: dict[str, object] = {
            "modalities": {modality: names[modality] for modality in subset}
        }
        corpus, _ = align(tmp_path / "-".join(subset), recipe=recipe)
        assert corpus.modalities == tuple(sorted(subset, key=list(names).index))
        assert corpus.ids == whole.ids
        for modality in subset:
            np.testing.assert_array_equal(
                corpus.features[modality].values, whole.features[modality].values
            )


def test_a_reference_of_numbers_has_no_words(tmp_path: Path) -> None:
    recipe: dict[str, object] = {"reference": "vectors"}
    corpus, _ = align(tmp_path, recipe=recipe)
    assert corpus.words is None
    np.testing.assert_array_equal(corpus.features["text"][2], [[1], [3], [4], [5]])
    with pytest.raises(DhmdError, match=r"align.drop_words is \['sp'\], but the reference"):
        align(tmp_path, recipe=recipe, config=NO_SP)


def test_rows_out_of_order_are_sorted_and_counted(tmp_path: Path) -> None:
    entries = hand_entries()
    for name in ("words", "vectors", "acoustic"):
        features, intervals = (np.asarray(part) for part in entries[name]["v"])
        order = np.random.default_rng(3).permutation(len(features))
        entries[name]["v"] = (features[order], intervals[order])
    whole, _ = align(tmp_path / "whole")
    shuffled, report = align(tmp_path / "shuffled", entries)
    assert shuffled.words == whole.words
    for modality in whole.modalities:
        np.testing.assert_array_equal(
            shuffled.features[modality].values, whole.features[modality].values
        )
    assert set(report["rows_sorted"]) == {"words", "vectors", "acoustic"}
    assert min(report["rows_sorted"].values()) >= 1


def test_the_ground_truth_keeps_its_names(tmp_path: Path) -> None:
    entries = hand_entries()
    truth = np.arange(10.0).reshape(5, 2)
    entries["truth"] = {"v": (truth, entries["labels"]["v"][1])}
    for video in ("w", "x"):
        entries["truth"][video] = (np.full((1, 2), -1.0), [[0, 1]])
    recipe: dict[str, object] = {
        "planted": "truth",
        "sequences": {n: {"path": n} for n in (*hand_entries(), "truth")},
    }
    names = {"truth": ("clean label", "cue/audio")}
    corpus, _ = align(tmp_path, entries, recipe=recipe, names=names)
    assert list(corpus.planted) == ["clean label", "cue/audio"]
    np.testing.assert_array_equal(corpus.planted["clean label"], [0, 2, 8, -1, -1])
    np.testing.assert_array_equal(corpus.planted["cue/audio"], [1, 3, 9, -1, -1])
    entries["truth"]["v"] = (np.ones((4, 2)), np.ones((4, 2)))
    with pytest.raises(DhmdError, match="entry 'v' has 4 rows, but the labels have 5"):
        align(tmp_path, entries, recipe=recipe)


@pytest.mark.parametrize("column", [1, "happy"])
def test_the_label_column_is_an_index_or_a_name(tmp_path: Path, column: int | str) -> None:
    entries = hand_entries()
    for video, (features, intervals) in entries["labels"].items():
        entries["labels"][video] = (np.insert(features, 1, 0.5, axis=1), intervals)
    recipe: dict[str, object] = {
        "labels": {"sequence": "labels", "column": column, "low": 0.0, "high": 3.0}
    }
    names = {"labels": ("sentiment", "happy")}
    corpus, _ = align(tmp_path, entries, recipe=recipe, names=names)
    np.testing.assert_array_equal(corpus.labels_N, np.full(5, 0.5))


def test_labels_within_the_tolerance_are_clipped(tmp_path: Path) -> None:
    entries = hand_entries()
    entries["labels"]["v"][0][0][0] = 3.05
    corpus, report = align(tmp_path, entries)
    assert corpus.labels_N[0] == 3.0
    assert report["counts"]["labels_clipped"] == 1


def test_labels_can_be_classes(tmp_path: Path) -> None:
    entries = hand_entries()
    for features, _ in entries["labels"].values():
        for row in range(len(features)):
            features[row][0] = row % 2
    recipe: dict[str, object] = {
        "labels": {"sequence": "labels", "task": "classification", "classes": ["plain", "funny"]}
    }
    corpus, _ = align(tmp_path, entries, recipe=recipe)
    assert corpus.task == "classification"
    assert corpus.class_names == ("plain", "funny")
    np.testing.assert_array_equal(corpus.labels_N, [0, 1, 0, 0, 0])
    with pytest.raises(DhmdError, match=r"'v\[1\]' is -0.5, .* allows the classes 0 to 1"):
        align(tmp_path, recipe=recipe)
