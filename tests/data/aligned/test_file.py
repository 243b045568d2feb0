"""The aligned features file: writing, reading, detection of damage, and equal bytes."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.aligned import Ragged, aligned_writer, read_corpus
from tests.aligned_files import ragged, write_aligned
from tests.data.aligned.corpora import small_corpus


def write_corpus(tmp_path: Path, **changes: Any) -> Path:
    """Write a small corpus, and return its path."""
    path = tmp_path / "x.h5"
    write_aligned(path, small_corpus(**changes))
    return path


def test_a_written_corpus_can_be_read(tmp_path: Path) -> None:
    data = small_corpus()
    corpus = read_corpus(write_corpus(tmp_path), test_labels=True)
    for name in ("name", "task", "low", "high", "class_names", "alignment", "ids", "videos"):
        assert getattr(corpus, name) == getattr(data, name)
    for name in ("modalities", "feature_names", "words", "sources", "report"):
        assert getattr(corpus, name) == getattr(data, name)
    for modality in data.modalities:
        actual, expected = corpus.features[modality], data.features[modality]
        assert actual.values.dtype == np.float32
        assert actual.offsets.dtype == np.int64
        np.testing.assert_array_equal(actual.values, expected.values)
        np.testing.assert_array_equal(actual.offsets, expected.offsets)
    np.testing.assert_array_equal(corpus.present_NM, data.present_NM)
    assert corpus.present_NM.dtype == bool
    np.testing.assert_array_equal(corpus.labels_N, data.labels_N)
    np.testing.assert_array_equal(corpus.split_N, data.folds["standard"])
    assert set(corpus.planted) == set(data.planted)
    for name, values in data.planted.items():
        np.testing.assert_array_equal(corpus.planted[name], values)
    assert corpus.word_intervals is not None
    assert data.word_intervals is not None
    np.testing.assert_array_equal(corpus.word_intervals.values, data.word_intervals.values)
    np.testing.assert_array_equal(corpus.word_intervals[3], data.word_intervals[3])
    assert corpus.tokens is not None
    assert corpus.tokens.mask.dtype == bool
    np.testing.assert_array_equal(corpus.tokens.ids, np.arange(24))
    np.testing.assert_array_equal(corpus.tokens.lengths, np.full(12, 2))
    assert corpus.fold == "standard"
    np.testing.assert_array_equal(corpus.index("valid"), [6, 7])
    assert corpus.index("test").dtype == np.int64
    with pytest.raises(DhmdError, match="no split 'dev'"):
        corpus.index("dev")


def test_test_labels_are_nan_by_default(tmp_path: Path) -> None:
    corpus = read_corpus(write_corpus(tmp_path))
    test = corpus.index("test")
    assert np.isnan(corpus.labels_N[test]).all()
    assert np.isfinite(np.delete(corpus.labels_N, test)).all()
    for values in corpus.planted.values():
        assert np.isnan(values[test]).all()
        assert np.isfinite(np.delete(values, test)).all()


def test_statistics_use_only_train_segments_with_the_modality(tmp_path: Path) -> None:
    data = small_corpus()
    corpus = read_corpus(write_corpus(tmp_path))
    for m, modality in enumerate(data.modalities):
        rows = np.concatenate(
            [
                data.features[modality][n].astype(np.float64)
                for n in range(12)
                if data.folds["standard"][n] == "train" and data.present_NM[n, m]
            ]
        )
        statistics = corpus.statistics[modality]
        np.testing.assert_allclose(statistics.mean_d, rows.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(statistics.std_d, rows.std(axis=0), rtol=1e-12)


def test_statistics_are_accurate_over_many_blocks_and_far_from_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dhmd.data.aligned.writer._STATISTICS_BYTES", 8 * 3 * 2)
    rng = np.random.default_rng(0)
    lengths = small_corpus().features["text"].lengths
    far = ragged([rng.normal(1e4, 1e-1, (n, 3)) for n in lengths])
    corpus = read_corpus(write_corpus(tmp_path, features={**small_corpus().features, "text": far}))
    rows = far.values[: far.offsets[6]].astype(np.float64)
    np.testing.assert_allclose(corpus.statistics["text"].mean_d, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(corpus.statistics["text"].std_d, rows.std(axis=0), rtol=1e-6)


def test_constant_dimensions_have_unit_scale(tmp_path: Path) -> None:
    data = small_corpus()
    values = data.features["text"].values.copy()
    values[:, 1] = 0.1
    values[:, 2] = 0.0
    features = {**data.features, "text": Ragged(values, data.features["text"].offsets)}
    statistics = read_corpus(write_corpus(tmp_path, features=features)).statistics["text"]
    assert statistics.std_d[0] != 1
    np.testing.assert_array_equal(statistics.std_d[1:], [1, 1])


def test_a_modality_absent_from_train_has_neutral_statistics(tmp_path: Path) -> None:
    present = small_corpus().present_NM.copy()
    present[:, 1] = False
    statistics = read_corpus(write_corpus(tmp_path, present_NM=present)).statistics["audio"]
    np.testing.assert_array_equal(statistics.mean_d, [0, 0])
    np.testing.assert_array_equal(statistics.std_d, [1, 1])


def test_each_fold_of_a_file_can_be_read(tmp_path: Path) -> None:
    first = small_corpus().folds["standard"]
    path = write_corpus(tmp_path, folds={"b": first, "a": first[::-1].copy()})
    default, other = read_corpus(path), read_corpus(path, fold="a")
    assert default.fold == "b"
    assert default.folds == other.folds == ("b", "a")
    np.testing.assert_array_equal(other.split_N, first[::-1])
    assert default.identity != other.identity
    assert not np.array_equal(default.statistics["text"].mean_d, other.statistics["text"].mean_d)
    with pytest.raises(DhmdError, match="no fold 'c'; there are b, a"):
        read_corpus(path, fold="c")


def test_optional_values_may_be_absent(tmp_path: Path) -> None:
    labels = np.arange(12) % 2
    path = write_corpus(
        tmp_path,
        task="classification",
        low=0,
        high=1,
        class_names=("plain", "sarcastic"),
        labels_N=labels,
        words=None,
        word_intervals=None,
        planted={},
        tokens=None,
    )
    corpus = read_corpus(path, test_labels=True)
    assert corpus.class_names == ("plain", "sarcastic")
    np.testing.assert_array_equal(corpus.labels_N, labels)
    assert corpus.words is corpus.word_intervals is corpus.tokens is None
    assert corpus.planted == {}


def test_the_same_corpus_gives_the_same_bytes(tmp_path: Path) -> None:
    first = write_corpus(tmp_path).read_bytes()
    time.sleep(1.1)  # HDF5's timestamps are in seconds
    assert write_corpus(tmp_path).read_bytes() == first


def test_segments_can_be_appended_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dhmd.data.aligned.writer._CHUNK_BYTES", 64)
    monkeypatch.setattr("dhmd.data.aligned.writer._FLUSH_BYTES", 100)
    data = small_corpus()
    with aligned_writer(tmp_path / "y.h5", data.feature_names, words=True) as writer:
        for n in range(12):
            for modality, rows in data.features.items():
                writer.append(modality, rows[n], np.array([len(rows[n])]))
        assert data.words is not None
        assert data.word_intervals is not None
        for n in range(12):
            writer.append_words(
                data.words[n], data.word_intervals[n], np.array([len(data.words[n])])
            )
        writer.finish(data)
    pieces = read_corpus(tmp_path / "y.h5", test_labels=True)
    whole = read_corpus(write_corpus(tmp_path), test_labels=True)
    for modality in data.modalities:
        np.testing.assert_array_equal(
            pieces.features[modality].values, whole.features[modality].values
        )
        np.testing.assert_array_equal(
            pieces.features[modality].offsets, whole.features[modality].offsets
        )
    assert pieces.words == whole.words
    assert pieces.identity == whole.identity


def test_an_unfinished_file_does_not_appear(tmp_path: Path) -> None:
    path = write_corpus(tmp_path)
    before = path.read_bytes()
    names = small_corpus().feature_names
    with pytest.raises(ZeroDivisionError), aligned_writer(path, names, words=True):
        raise ZeroDivisionError
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_flipped_bit_is_detected(tmp_path: Path) -> None:
    path = write_corpus(tmp_path)
    with h5py.File(path) as file:
        values = file["features/text/values"]
        assert values.fletcher32
        offset = values.id.get_chunk_info(0).byte_offset
        for name in ("labels", "present", "words/intervals", "features/text/offsets"):
            assert file[name].fletcher32
    content = bytearray(path.read_bytes())
    content[offset + 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(DhmdError, match="the aligned features file is damaged"):
        read_corpus(path)


def test_other_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DhmdError, match=r"none\.h5: there is no such .*; run the align stage"):
        read_corpus(tmp_path / "none.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(DhmdError, match="not an aligned features file"):
        read_corpus(tmp_path / "other.h5")
    path = write_corpus(tmp_path)
    with h5py.File(path, "r+") as file:
        file.attrs["schema_version"] = 99
    with pytest.raises(DhmdError, match="of schema dhmd-aligned 99, but this version reads"):
        read_corpus(path)


def test_inconsistent_contents_are_errors(tmp_path: Path) -> None:
    def text_values(file: h5py.File) -> None:
        file["features/text/values"][0, 0] = np.nan

    def a_label(file: h5py.File) -> None:
        file["labels"][0] = np.nan

    def offsets(file: h5py.File) -> None:
        file["features/text/offsets"][1] = 99

    def a_deviation(file: h5py.File) -> None:
        file["folds/standard/statistics/text"][1, 0] = 0

    def a_dataset(file: h5py.File) -> None:
        del file["videos"]

    for change in (text_values, a_label, offsets, a_deviation, a_dataset):
        path = write_corpus(tmp_path)
        with h5py.File(path, "r+") as file:
            change(file)
        with pytest.raises(DhmdError, match="is damaged"):
            read_corpus(path)


def test_invalid_features_are_errors(tmp_path: Path) -> None:
    data = small_corpus()
    text = data.features["text"]
    bad = text.values.copy()
    bad[4, 1] = -np.inf
    longer = ragged([np.zeros((2, 3))] * 12)
    for wrong, sentence in (
        (Ragged(bad, text.offsets), "features of text are not finite"),
        (Ragged(text.values[:-1], text.offsets), "have shape (24, 3), expected (25, 3)"),
        (Ragged(text.values[:, :2], text.offsets), "have shape (25, 2), expected (25, 3)"),
        (
            longer,
            "text and audio have different segment lengths, but alignment 'word' requires equal",
        ),
    ):
        with pytest.raises(DhmdError) as caught:
            write_corpus(tmp_path, features={**data.features, "text": wrong})
        assert sentence in str(caught.value)
    assert list(tmp_path.iterdir()) == []


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from dhmd.base.errors import DhmdError
from tests.aligned_files import write_aligned
from tests.data.aligned.corpora import small_corpus
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    write_aligned(Path(sys.argv[1]), small_corpus())
except DhmdError as error:
    print(error)
"""


@pytest.mark.parametrize("room", [0, 700, 5_000, 20_000])
def test_a_full_disk_leaves_no_file(tmp_path: Path, room: int) -> None:
    target = tmp_path / "out" / "x.h5"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(target), str(room)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(f"cannot write {target}: ")
    assert done.stdout.count("\n") == 1
    assert list(target.parent.iterdir()) == []
