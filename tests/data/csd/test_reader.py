"""Reading `.csd` files: tolerant of metadata, strict about data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.csd import open_sequence, write_sequence

INTERVALS = np.array([[0.0, 0.5], [0.5, 1.25]])
FEATURES = np.arange(4.0).reshape(2, 2)


def raw_file(path: Path, features: Any, intervals: Any, *, metadata: bool = True) -> Path:
    """A file as others write them, with whatever is in it."""
    with h5py.File(path, "w") as file:
        root = file.create_group("Any Name At All")
        entry = root.create_group("data/v")
        if features is not None:
            entry["features"] = features
        if intervals is not None:
            entry["intervals"] = intervals
        if metadata:
            root.create_dataset("metadata/creator", data=[b"asdf"], dtype=h5py.string_dtype())
    return path


def test_metadata_may_be_junk_or_missing(tmp_path: Path) -> None:
    with open_sequence(raw_file(tmp_path / "1.csd", FEATURES, INTERVALS)) as sequence:
        assert sequence.root_name == "Any Name At All"
        assert sequence.metadata == {"creator": "asdf"}
        assert sequence.dimension_names is None
    path = raw_file(tmp_path / "2.csd", FEATURES, INTERVALS, metadata=False)
    with open_sequence(path) as sequence:
        assert sequence.metadata == {}


def test_float32_intervals_widen_without_loss(tmp_path: Path) -> None:
    intervals = np.array([[51.904533, 55.94535], [56.045124, 66.78072]], dtype=np.float32)
    with open_sequence(raw_file(tmp_path / "x.csd", FEATURES, intervals)) as sequence:
        read = sequence.read("v").intervals
    assert read.dtype == np.float64
    np.testing.assert_array_equal(read, intervals.astype(np.float64))


def test_rows_out_of_order_overlapping_and_of_no_length_are_real(tmp_path: Path) -> None:
    intervals = np.array([[3.0, 4.0], [1.0, 3.5]])
    intervals[0, 1] = 3.0
    with open_sequence(raw_file(tmp_path / "x.csd", FEATURES, intervals)) as sequence:
        np.testing.assert_array_equal(sequence.read("v").intervals, intervals)


@pytest.mark.parametrize(
    ("features", "intervals", "shape"),
    [
        (np.zeros((2, 3, 4)), INTERVALS, (2, 12)),
        (np.arange(3.0), INTERVALS[0], (1, 3)),
        (np.zeros((0, 5)), np.zeros((0, 2)), (0, 5)),
        (np.zeros(0), np.zeros(0), (0, 0)),
    ],
)
def test_other_shapes_in_circulation(
    tmp_path: Path, features: Any, intervals: Any, shape: tuple[int, int]
) -> None:
    with open_sequence(raw_file(tmp_path / "x.csd", features, intervals)) as sequence:
        entry = sequence.read("v")
    assert entry.features.shape == shape
    assert entry.intervals.shape == (shape[0], 2)


@pytest.mark.parametrize(
    ("features", "intervals", "sentence"),
    [
        (FEATURES, np.zeros((3, 2)), "has 2 rows of features but 3 intervals"),
        (FEATURES, np.zeros((2, 3)), "has intervals of shape (2, 3)"),
        (FEATURES, None, "has no dataset `intervals`"),
        (None, INTERVALS, "has no dataset `features`"),
        (FEATURES[0], INTERVALS, "has features of shape (2,), expected [T, d]"),
        (5.0, INTERVALS, "holds a single value"),
        (FEATURES.astype(complex), INTERVALS, "has features of type complex128"),
        (FEATURES, [[0, 1], [np.nan, 2]], "row 1: interval [nan, 2.0] is not finite"),
        (FEATURES, [[0, np.inf], [1, 2]], "row 0: interval [0.0, inf] is not finite"),
        (FEATURES, [[0, 1], [2, 1]], "row 1: interval [2.0, 1.0] ends before it starts"),
    ],
)
def test_defects_of_data_are_one_sentence(
    tmp_path: Path, features: Any, intervals: Any, sentence: str
) -> None:
    path = raw_file(tmp_path / "x.csd", features, intervals)
    with open_sequence(path) as sequence, pytest.raises(DhmdError) as caught:
        sequence.read("v")
    assert f"{path}: entry 'v'" in str(caught.value)
    assert sentence in str(caught.value)


def test_an_unknown_entry_is_named(tmp_path: Path) -> None:
    with open_sequence(raw_file(tmp_path / "x.csd", FEATURES, INTERVALS)) as sequence:
        assert "v" in sequence
        assert "w" not in sequence
        with pytest.raises(DhmdError, match="no entry 'w'"):
            sequence.read("w")


def test_files_that_are_no_sequences(tmp_path: Path) -> None:
    with pytest.raises(DhmdError, match=r"x\.csd: no such computational sequence"):
        open_sequence(tmp_path / "x.csd")
    (tmp_path / "x.csd").write_text("<html>404</html>")
    with pytest.raises(DhmdError, match="not a whole HDF5 file"):
        open_sequence(tmp_path / "x.csd")
    with h5py.File(tmp_path / "empty.csd", "w"):
        pass
    with pytest.raises(DhmdError, match="this file holds 0"):
        open_sequence(tmp_path / "empty.csd")
    with h5py.File(tmp_path / "two.csd", "w") as file:
        file.create_group("a/data/v")
        file.create_group("b/data/v")
    with pytest.raises(DhmdError, match="this file holds 2"):
        open_sequence(tmp_path / "two.csd")
    with h5py.File(tmp_path / "none.csd", "w") as file:
        file.create_group("a/data")
    with pytest.raises(DhmdError, match="holds no entries"):
        open_sequence(tmp_path / "none.csd")


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    whole = tmp_path / "whole.csd"
    entries = [(f"v{i}", np.full((20, 4), float(i)), np.ones((20, 2))) for i in range(3)]
    write_sequence(whole, root_name="x", entries=entries, metadata=None)
    content = whole.read_bytes()
    cut = tmp_path / "cut.csd"
    for size in range(0, len(content), 97):
        cut.write_bytes(content[:size])
        with pytest.raises(DhmdError, match="not a whole HDF5 file"):
            open_sequence(cut)


def test_reading_is_lazy(tmp_path: Path) -> None:
    """A damaged entry does no harm to the others, and is named once it is read."""
    path = tmp_path / "x.csd"
    with h5py.File(path, "w") as file:
        for name in ("a", "b"):
            group = file.create_group(f"root/data/{name}")
            group["intervals"] = INTERVALS
            group.create_dataset("features", data=FEATURES, chunks=(2, 2), fletcher32=True)
        place = file["root/data/b/features"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)
    with open_sequence(path) as sequence:
        np.testing.assert_array_equal(sequence.read("a").features, FEATURES)
        with pytest.raises(DhmdError, match="entry 'b' cannot be read, it is damaged"):
            sequence.read("b")
