"""Warnings and errors on gaps, other units of time, missing values and unusual ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.aligned import Corpus
from dhmd.data.alignment import AlignConfig, CorpusJob, Origin, check_corpus
from dhmd.prediction.sequences import read_sequences
from tests.data.alignment.files import (
    RATES,
    SEGMENTS,
    SPLITS,
    VIDEOS,
    Entries,
    align,
    corpus_entries,
    frames,
    generated_recipe,
    write_files,
    write_folds,
)


def run_check(folder: Path, entries: Entries, **options: Any) -> tuple[list[str], list[str]]:
    """Return the problems and the warnings of `check_corpus`."""
    warnings: list[str] = []
    job = CorpusJob(
        recipe=generated_recipe(**options.pop("recipe", {})),
        paths=write_files(folder, entries),
        align=options.pop("config", AlignConfig()),
        alignment=options.pop("alignment", "word"),
        folds_path=write_folds(folder, options.pop("folds", SPLITS)),
    )
    problems = check_corpus(job, warnings.append)
    return problems, [sentence.replace(f"{folder}/", "") for sentence in warnings]


def align_and_check(folder: Path, entries: Entries, **options: Any) -> tuple[Corpus, list[str]]:
    """Return the corpus and its warnings, which `check_corpus` must also return."""
    options.setdefault("folds", SPLITS)
    (folder / "check").mkdir(parents=True)
    problems, warnings = run_check(folder / "check", entries, **options)
    assert problems == []
    corpus, report = align(folder, entries, **options)
    expected = [sentence.replace(f"{folder}/", "") for sentence in report["warnings"]]
    assert [f"random: {sentence}" for sentence in expected] == warnings
    assert corpus.report["warnings"] == report["warnings"]
    return corpus, expected


def error_message(folder: Path, entries: Entries, **options: Any) -> str:
    """Return the error message of `align_corpus`, which `check_corpus` must also return."""
    options.setdefault("folds", SPLITS)
    (folder / "check").mkdir(parents=True)
    problems, _ = run_check(folder / "check", entries, **options)
    with pytest.raises(DhmdError) as caught:
        align(folder, entries, **options)
    message = str(caught.value).replace(f"{folder}/", "")
    assert message in [problem.replace(f"{folder}/check/", "") for problem in problems]
    assert not (folder / "aligned.h5").exists()
    return message


def read_for_prediction(
    folder: Path, entries: Entries, segments: bool = True
) -> tuple[Any, list[str]]:
    """Read files for prediction, and return the features and the warnings."""
    corpus, report = align(folder / "trained", corpus_entries(), folds=SPLITS)
    paths = write_files(folder, entries)
    labels = folder / "segments"
    labels.mkdir()
    utterances = read_sequences(
        folder,
        paths["labels"].rename(labels / "labels.csd") if segments else None,
        origin=Origin.from_json(report["origin"], "model.json"),
        dataset="random",
        alignment="word",
        features=corpus.feature_names,
    )
    return utterances, list(utterances.notes)


def test_a_valid_corpus_has_no_warning(tmp_path: Path) -> None:
    corpus, warnings = align_and_check(tmp_path, corpus_entries())
    assert len(corpus.ids) == len(VIDEOS) * SEGMENTS
    assert warnings == []


# Videos that a sequence lacks.


def entries_without_audio() -> Entries:
    entries = corpus_entries()
    for video in ("tr1", "te0"):
        del entries["acoustic"][video]
    return entries


@pytest.mark.parametrize("alignment", ["word", "none"])
def test_incomplete_videos_are_kept_with_the_modality_absent(
    tmp_path: Path, alignment: str
) -> None:
    corpus, warnings = align_and_check(tmp_path, entries_without_audio(), alignment=alignment)
    assert set(corpus.videos) == set(VIDEOS)
    for n, video in enumerate(corpus.videos):
        lacks = video in ("tr1", "te0")
        assert corpus.present_NM[n].tolist() == [True, not lacks, True]
        assert corpus.features["audio"][n].any() == (not lacks)
    assert warnings == [
        "2 of 6 videos are not in acoustic (te0, tr1): they are kept, and their audio is absent"
    ]


def test_incomplete_videos_may_be_dropped_and_splits_that_shrink_are_reported(
    tmp_path: Path,
) -> None:
    config = AlignConfig(incomplete_videos="drop")
    corpus, warnings = align_and_check(tmp_path, entries_without_audio(), config=config)
    assert set(corpus.videos) == set(VIDEOS) - {"tr1", "te0"}
    assert warnings == [
        "2 of 6 videos are left out, because they are not in acoustic (te0, tr1)",
        "train: 5 of 15 (33.3%) segments are left out (5 of incomplete videos), 10 remain",
        "test: 5 of 10 (50.0%) segments are left out (5 of incomplete videos), 5 remain",
    ]


def test_incomplete_videos_without_a_split_are_left_out(tmp_path: Path) -> None:
    entries = corpus_entries([*VIDEOS, "25522", "255224"])
    del entries["visual"]["25522"], entries["visual"]["255224"]
    corpus, warnings = align_and_check(tmp_path, entries)
    assert set(corpus.videos) == set(VIDEOS)
    assert warnings == [
        "2 of 8 videos are left out, because they are not in visual (25522, 255224)"
    ]
    entries = corpus_entries([*VIDEOS, "25522"])
    assert "video '25522' is in no split of fold" in error_message(tmp_path / "whole", entries)


def test_a_video_without_words_is_empty_and_reduces_the_test_split(tmp_path: Path) -> None:
    entries = corpus_entries()
    del entries["words"]["te0"]
    corpus, warnings = align_and_check(tmp_path, entries)
    assert "te0" not in corpus.videos
    assert warnings == [
        "1 of 6 videos are not in words (te0): they are kept, and their words are absent",
        "test: 5 of 10 (50.0%) segments are left out (5 no words), 5 remain",
    ]


def test_test_videos_without_labels_are_reported(tmp_path: Path) -> None:
    folds = {**SPLITS, "test": ["te0", "te1", "gone"], "train": [*SPLITS["train"], "lost"]}
    _, warnings = align_and_check(tmp_path, corpus_entries(), folds=folds)
    assert warnings == [
        "train: 1 of 4 (25.0%) videos have no labels and are not in the corpus (lost)",
        "test: 1 of 3 (33.3%) videos have no labels and are not in the corpus (gone)",
    ]


def test_prediction_keeps_incomplete_videos_too(tmp_path: Path) -> None:
    utterances, notes = read_for_prediction(tmp_path, entries_without_audio())
    assert len(utterances.ids) == len(VIDEOS) * SEGMENTS
    lengths = dict(zip(utterances.ids, utterances.lengths["audio"], strict=True))
    assert lengths["te0[0]"] == 0
    assert lengths["te1[0]"] == 4
    assert (
        "2 of 6 videos are not in acoustic (te0, tr1): they are kept, and their audio is absent"
        in notes
    )


# Times.


def scale_times(name: str, factor: float, shift: float = 0.0) -> Entries:
    """Return entries in which the times of a sequence are scaled and shifted."""
    entries = corpus_entries()
    entries[name] = {
        video: (features, np.asarray(times) * factor + shift)
        for video, (features, times) in entries[name].items()
    }
    return entries


@pytest.mark.parametrize("alignment", ["word", "none"])
def test_milliseconds_are_an_error(tmp_path: Path, alignment: str) -> None:
    expected = error_message(tmp_path, scale_times("acoustic", 1000), alignment=alignment)
    assert expected == (
        "acoustic.csd: its times run from 0 s to 6000 s, the segments of labels from 0 s to 6 s:"
        " are the intervals of acoustic in milliseconds? All must be in seconds"
    )


def test_each_sequence_in_other_units_is_an_error(tmp_path: Path) -> None:
    assert "are the intervals of words in milliseconds" in error_message(
        tmp_path / "words", scale_times("words", 1000)
    )
    assert "are the segments of labels in milliseconds" in error_message(
        tmp_path / "labels", scale_times("labels", 1000)
    )
    assert "are the intervals of visual in another unit" in error_message(
        tmp_path / "frames", scale_times("visual", 100)
    )


@pytest.mark.parametrize("segments", [True, False])
def test_milliseconds_are_an_error_in_prediction(tmp_path: Path, segments: bool) -> None:
    with pytest.raises(DhmdError, match="are the intervals of acoustic in milliseconds"):
        read_for_prediction(tmp_path, scale_times("acoustic", 1000), segments)


def test_a_recording_may_continue_after_its_last_segment(tmp_path: Path) -> None:
    """Check that frames may continue for 200 s after the only segment."""
    entries = corpus_entries()
    for video in VIDEOS:
        features, times = entries["labels"][video]
        entries["labels"][video] = (features[:1], times[:1])
        start = np.arange(0, 200, 0.05)
        intervals = np.stack([start, start + 0.05], axis=1)
        entries["acoustic"][video] = (np.ones((len(start), 3)), intervals)
    corpus, warnings = align_and_check(tmp_path, entries)
    assert corpus.present_NM.all()
    assert warnings == []


def test_a_modality_without_overlap_is_an_error(tmp_path: Path) -> None:
    assert error_message(tmp_path / "late", scale_times("visual", 1, shift=7)) == (
        "visual.csd: its times run from 7 s to 13 s, the segments of labels from 0 s to 6 s, and"
        " none of the 30 segments has any vision: are the intervals of visual in seconds, from the"
        " beginning of the video?"
    )
    assert "and none of the 30 segments has any words" in error_message(
        tmp_path / "words", scale_times("words", 1, shift=7)
    )
    entries = corpus_entries()
    entries["acoustic"] = {f"x-{video}": rows for video, rows in entries["acoustic"].items()}
    assert error_message(tmp_path / "ids", entries) == (
        "acoustic.csd: none of the 30 segments has any audio, because no labelled video has rows in"
        " it (its videos are x-te0, x-te1, x-tr0 …, the labelled ones te0, te1, tr0 …)"
    )
    assert error_message(
        tmp_path / "drop", entries, config=AlignConfig(incomplete_videos="drop")
    ) == ("random: no video is left to align: each labelled video is missing from acoustic")


def test_a_modality_absent_from_half_of_the_segments_is_reported(tmp_path: Path) -> None:
    assert align_and_check(tmp_path / "most", scale_times("acoustic", 0.5))[1] == []
    _, warnings = align_and_check(tmp_path / "half", scale_times("acoustic", 0.4))
    assert warnings == [
        "acoustic.csd: its times run from 0 s to 2.4 s, the segments of labels from 0 s to 6 s:"
        " audio is absent from 18 of 30 (60.0%) segments"
    ]


def entries_with_instants(entries: Entries, name: str) -> Entries:
    """Replace the intervals of a sequence by their starts."""
    entries[name] = {
        video: (features, np.stack([np.asarray(times)[:, 0]] * 2, axis=1))
        for video, (features, times) in entries[name].items()
    }
    return entries


@pytest.mark.parametrize("alignment", ["word", "none"])
def test_instants_belong_to_the_word_or_segment_that_contains_them(
    tmp_path: Path, alignment: str
) -> None:
    corpus, warnings = align_and_check(
        tmp_path, entries_with_instants(corpus_entries(), "acoustic"), alignment=alignment
    )
    assert warnings == []
    assert corpus.present_NM.all()
    rows, _ = frames(*RATES["acoustic"], VIDEOS.index("te1"))
    actual = corpus.features["audio"][corpus.ids.index("te1[1]")]
    # A word has six frames of 0.05 s, a segment four words.
    expected = rows[24:48] if alignment == "none" else rows[24:48].reshape(4, 6, 3).mean(1)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_words_and_segments_must_have_a_length(tmp_path: Path) -> None:
    assert error_message(tmp_path / "words", entries_with_instants(corpus_entries(), "words")) == (
        "words.csd: no word has a length (start = end), so nothing can be aligned to the words:"
        " correct the ends of the words"
    )
    assert error_message(
        tmp_path / "labels", entries_with_instants(corpus_entries(), "labels")
    ) == ("random: none of the segments of labels has a length (start = end)")


def test_rows_without_length_are_reported(tmp_path: Path) -> None:
    entries = corpus_entries()
    for features, times in entries["visual"].values():
        assert len(features) == 60
        times[::10, 1] = times[::10, 0]
    _, warnings = align_and_check(tmp_path, entries)
    assert warnings == [
        "visual.csd: rows without length (start = end) are left out: 36 of 360 (10.0%)"
    ]


# Rows and values.


def test_cut_steps_are_reported_above_a_twentieth(tmp_path: Path) -> None:
    _, warnings = align_and_check(tmp_path, corpus_entries(), config=AlignConfig(max_steps=3))
    assert warnings == ["30 of 120 (25.0%) steps of words are cut off: align.max_steps is 3"]
    limits = {"text": 50, "audio": 23, "vision": 6}
    config = AlignConfig(max_steps_unaligned=limits)
    _, warnings = align_and_check(
        tmp_path / "own", corpus_entries(), config=config, alignment="none"
    )
    # A segment has 24 rows of audio, of which less than a twentieth is cut.
    assert warnings == [
        "180 of 360 (50.0%) steps of vision are cut off: align.max_steps_unaligned.vision is 6"
    ]


@pytest.mark.filterwarnings("error")
def test_missing_values_are_cleaned_and_counted(tmp_path: Path) -> None:
    entries = corpus_entries()
    missing = 0
    for video, (features, times) in entries["acoustic"].items():
        features = features.astype(np.float16)
        features[::7, 0], features[3::11, 1], features[5, 2] = -np.inf, np.inf, np.nan
        missing += int((~np.isfinite(features)).sum())
        entries["acoustic"][video] = (features, times)
    corpus, warnings = align_and_check(tmp_path, entries)
    assert np.isfinite(corpus.features["audio"].values).all()
    [sentence] = warnings
    assert sentence.startswith(f"audio: {missing} of 2,160 (")
    assert corpus.report["modalities"]["audio"]["values_cleaned"] == missing
    utterances, notes = read_for_prediction(tmp_path / "new", entries)
    assert sentence in notes
    assert np.isfinite(utterances.values["audio"]).all()


def test_a_huge_value_is_missing(tmp_path: Path) -> None:
    whole, _ = align_and_check(tmp_path / "whole", corpus_entries())
    entries = corpus_entries()
    entries["acoustic"]["tr0"][0][0, 0] = 1e30
    corpus, warnings = align_and_check(tmp_path / "huge", entries)
    assert warnings[0].startswith("audio: 1 of 2,160 (under 0.1%) values are not finite or beyond")
    for part in ("mean_d", "std_d"):
        np.testing.assert_allclose(
            getattr(corpus.statistics["audio"], part),
            getattr(whole.statistics["audio"], part),
            atol=0.05,
        )


# Ids.


def rename_videos(entries: Entries, names: dict[str, str]) -> Entries:
    """Rename the videos in all sequences."""
    return {
        name: {names.get(video, video): rows for video, rows in videos.items()}
        for name, videos in entries.items()
    }


@pytest.mark.parametrize(
    "pair",
    [
        ("Talk [HD]", "Talk [HQ]"),
        ("clip[2020]", "clip[2021]"),
        ("Ünïcode 視頻 a", "Ünïcode 視頻 b"),
        ("clip", "Clip"),
        ("25522", "255224"),
        ("a[1]b", "a[2]b"),
    ],
)
def test_similar_ids_are_different_videos(tmp_path: Path, pair: tuple[str, str]) -> None:
    entries = rename_videos(corpus_entries(), dict(zip(("te0", "te1"), pair, strict=True)))
    corpus, warnings = align_and_check(tmp_path, entries, folds={**SPLITS, "test": list(pair)})
    assert warnings == []
    plain, _ = align(tmp_path / "plain", corpus_entries(), folds=SPLITS)
    utterances, _ = read_for_prediction(tmp_path / "new", entries)
    for old, new in zip(("te0", "te1"), pair, strict=True):
        for i in range(SEGMENTS):
            n, m = corpus.ids.index(f"{new}[{i}]"), plain.ids.index(f"{old}[{i}]")
            assert corpus.videos[n] == new
            for modality in corpus.modalities:
                np.testing.assert_array_equal(
                    corpus.features[modality][n], plain.features[modality][m]
                )
            assert f"{new}[{i}]" in utterances.ids


def test_pieces_are_joined_only_where_their_file_splits_the_video(tmp_path: Path) -> None:
    """Check that `te0[1]` and `te0[2]` are pieces of te0, but `tr0[7]` is a separate video."""
    entries = corpus_entries([*VIDEOS, "tr0[7]"])
    features, times = entries["acoustic"].pop("te0")
    for piece, rows in enumerate(np.array_split(np.arange(len(features)), 3)):
        entries["acoustic"][f"te0[{piece + 1}]"] = (features[rows], times[rows])
    folds = {**SPLITS, "train": [*SPLITS["train"], "tr0[7]"]}
    corpus, warnings = align_and_check(tmp_path, entries, folds=folds)
    assert warnings == []
    assert "tr0[7][0]" in corpus.ids
    plain, _ = align(tmp_path / "plain", corpus_entries([*VIDEOS, "tr0[7]"]), folds=folds)
    for modality in corpus.modalities:
        np.testing.assert_array_equal(
            corpus.features[modality].values, plain.features[modality].values
        )


# Any modalities.


@pytest.mark.parametrize("alignment", ["word", "none"])
def test_a_recipe_may_have_a_fourth_modality(tmp_path: Path, alignment: str) -> None:
    entries = corpus_entries()
    entries["gsr"] = {video: frames(5, 1, n) for n, video in enumerate(VIDEOS)}
    modalities = {"text": "vectors", "audio": "acoustic", "vision": "visual", "physio": "gsr"}
    recipe: dict[str, object] = {
        "modalities": modalities,
        "sequences": {name: {"path": f"{name}.csd"} for name in entries},
    }
    limits = {"text": 50, "audio": 500, "vision": 500, "physio": 4}
    corpus, warnings = align_and_check(
        tmp_path,
        entries,
        recipe=recipe,
        alignment=alignment,
        config=AlignConfig(max_steps_unaligned=limits, centre_by_video=("physio",)),
    )
    assert corpus.modalities == tuple(modalities)
    assert corpus.present_NM.all()
    assert corpus.feature_names["physio"] == ("gsr_0",)
    assert corpus.features["physio"].lengths.tolist() == [4] * len(corpus.ids)
    if alignment == "none":
        [sentence] = warnings
        assert sentence.endswith(
            "steps of physio are cut off: align.max_steps_unaligned.physio is 4"
        )


def test_an_unknown_modality_in_centre_by_video_is_an_error(tmp_path: Path) -> None:
    config = AlignConfig(centre_by_video=("smell",))
    assert "align.centre_by_video names 'smell', but the modalities of recipes/random.yaml are" in (
        error_message(tmp_path, corpus_entries(), config=config)
    )
