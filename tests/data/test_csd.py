"""Reading and writing computational sequences, with valid and invalid data and metadata."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.csd import (
    open_sequence,
    parse_metadata,
    segment_id,
    segment_row,
    video_of,
    write_sequence,
)

INTERVALS = np.array([[0.0, 0.5], [0.5, 1.25]])
FEATURES = np.arange(4.0).reshape(2, 2)


@pytest.mark.parametrize(
    ("segment", "video", "row"),
    [
        ("HuIKyKkEL0Q[0]", "HuIKyKkEL0Q", 0),
        ("255224[10]", "255224", 10),
        ("25522", "25522", None),
        ("Talk [HD]", "Talk [HD]", None),
        ("Talk [HD][3]", "Talk [HD]", 3),
        ("a[0]b", "a[0]b", None),
        ("[3]", "[3]", None),
    ],
)
def test_a_segment_id_has_a_video_and_a_row(segment: str, video: str, row: int | None) -> None:
    assert (video_of(segment), segment_row(segment)) == (video, row)
    if row is not None:
        assert segment_id(video, row) == segment


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b'"Amir Zadeh"', "Amir Zadeh"),
        (b"true", True),
        (b"1.0", 1.0),
        (b"null", None),
        (b"None", None),
        (b"asdfasdfasd", "asdfasdfasd"),
        ('b\'["a", "b"]\'', ["a", "b"]),
        ("['a', 'b']", ["a", "b"]),
        (b"caf\xe9", "café"),
        ("[" * 100_000, "[" * 100_000),
        (3, 3),
    ],
)
def test_any_metadata_value_is_accepted(raw: object, value: object) -> None:
    assert parse_metadata(raw) == value


def raw_file(path: Path, features: Any, intervals: Any, *, metadata: bool = True) -> Path:
    """Write a file with h5py instead of `write_sequence`."""
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


def test_metadata_may_be_invalid_or_missing(tmp_path: Path) -> None:
    with open_sequence(raw_file(tmp_path / "1.csd", FEATURES, INTERVALS)) as sequence:
        assert sequence.root_name == "Any Name At All"
        assert sequence.metadata == {"creator": "asdf"}
        assert sequence.dimension_names is None
    path = raw_file(tmp_path / "2.csd", FEATURES, INTERVALS, metadata=False)
    with open_sequence(path) as sequence:
        assert sequence.metadata == {}


@pytest.mark.parametrize(
    ("features", "intervals", "shape"),
    [
        (np.zeros((2, 3, 4)), INTERVALS, (2, 12)),
        (np.arange(3.0), INTERVALS[0], (1, 3)),
        (np.zeros((0, 5)), np.zeros((0, 2)), (0, 5)),
        (np.zeros(0), np.zeros(0), (0, 0)),
    ],
)
def test_the_shapes_of_published_files_are_supported(
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
        (5.0, INTERVALS, "has a single value"),
        (FEATURES.astype(complex), INTERVALS, "has features of type complex128"),
        (FEATURES, [[0, 1], [np.nan, 2]], "row 1: interval [nan, 2.0] is not finite"),
        (FEATURES, [[0, np.inf], [1, 2]], "row 0: interval [0.0, inf] is not finite"),
        (FEATURES, [[0, 1], [2, 1]], "row 1: interval [2.0, 1.0] ends before it starts"),
    ],
)
def test_invalid_data_are_errors(
    tmp_path: Path, features: Any, intervals: Any, sentence: str
) -> None:
    path = raw_file(tmp_path / "x.csd", features, intervals)
    with open_sequence(path) as sequence, pytest.raises(DhmdError) as caught:
        sequence.read("v")
    assert f"{path}: entry 'v'" in str(caught.value)
    assert sentence in str(caught.value)


def test_ids_may_have_slashes_and_spaces(tmp_path: Path) -> None:
    ids = ("dir/part 1/clip", "dir/part 2/clip", "Ünïcode 視頻", "clip", "Clip", "x [HD]")
    with h5py.File(tmp_path / "x.csd", "w") as file:
        for number, name in enumerate(ids):
            file[f"root/data/{name}/features"] = np.full((2, 2), float(number))
            file[f"root/data/{name}/intervals"] = INTERVALS
    with open_sequence(tmp_path / "x.csd") as sequence:
        assert sequence.ids == tuple(sorted(ids))
        for number, name in enumerate(ids):
            assert sequence.read(name).features[0, 0] == number


def test_cyclic_groups_are_errors(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.csd", "w") as file:
        inner = file.create_group("root/data/a")
        inner["b"] = inner
    with pytest.raises(DhmdError, match=r"the file cannot be read, it is damaged"):
        open_sequence(tmp_path / "x.csd")


def test_files_that_are_not_sequences_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DhmdError, match=r"x\.csd: no such computational sequence"):
        open_sequence(tmp_path / "x.csd")
    (tmp_path / "x.csd").write_text("<html>404</html>")
    with pytest.raises(DhmdError, match="not a whole HDF5 file"):
        open_sequence(tmp_path / "x.csd")
    for groups, sentence in (
        ([], "this file has 0"),
        (["a/data/v", "b/data/v"], "this file has 2"),
        (["a/data"], "has no entries"),
    ):
        with h5py.File(tmp_path / "y.csd", "w") as file:
            for group in groups:
                file.create_group(group)
        with pytest.raises(DhmdError, match=sentence):
            open_sequence(tmp_path / "y.csd")


def test_truncated_files_are_errors(tmp_path: Path) -> None:
    whole = tmp_path / "whole.csd"
    entries = [(f"v{i}", np.full((20, 4), float(i)), np.ones((20, 2))) for i in range(3)]
    write_sequence(whole, root_name="x", entries=entries)
    content = whole.read_bytes()
    cut = tmp_path / "cut.csd"
    for size in range(0, len(content), 97):
        cut.write_bytes(content[:size])
        with pytest.raises(DhmdError, match="not a whole HDF5 file"):
            open_sequence(cut)


def test_reading_is_lazy(tmp_path: Path) -> None:
    """Check that a damaged entry is an error only when it is read."""
    path = tmp_path / "x.csd"
    with h5py.File(path, "w") as file:
        for name in ("a", "b"):
            group = file.create_group(f"root/data/{name}")
            group["intervals"] = INTERVALS
            group.create_dataset("features", data=FEATURES, chunks=(2, 2), fletcher32=True)
        offset = file["root/data/b/features"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x10
    path.write_bytes(content)
    with open_sequence(path) as sequence:
        np.testing.assert_array_equal(sequence.read("a").features, FEATURES)
        with pytest.raises(DhmdError, match="entry 'b' cannot be read, it is damaged"):
            sequence.read("b")


def write(path: Path, **changes: Any) -> None:
    arguments: dict[str, Any] = {
        "root_name": "acoustic",
        "entries": [("b", FEATURES, INTERVALS), ("a", np.ones((2, 2)), INTERVALS)],
        "metadata": {"creator": "nobody"},
        "dimension_names": ("f0", "energy"),
    }
    write_sequence(path, **{**arguments, **changes})


def test_a_written_file_can_be_read(tmp_path: Path) -> None:
    write(tmp_path / "x.csd")
    with open_sequence(tmp_path / "x.csd") as sequence:
        assert sequence.root_name == "acoustic"
        assert sequence.ids == ("a", "b")
        assert sequence.dimension_names == ("f0", "energy")
        assert sequence.metadata["creator"] == "nobody"
        assert sequence.metadata["root name"] == "acoustic"
        assert sequence.inspect("b") == (False, (2, 2))
        entry = sequence.read("b")
        np.testing.assert_array_equal(entry.features, FEATURES)
        np.testing.assert_array_equal(entry.intervals, INTERVALS)


@pytest.mark.parametrize("kind", [object, "U", "S"])
def test_words_are_stored_as_utf8_bytes(tmp_path: Path, kind: Any) -> None:
    words = np.array([["oh"], ["sp"]]).astype(kind)
    if kind is object:
        words[0, 0] = "café"
    write(tmp_path / "w.csd", entries=[("v", words, INTERVALS)], dimension_names=None)
    with h5py.File(tmp_path / "w.csd") as file:
        assert file["acoustic/data/v/features"].dtype.kind == "S"
    with open_sequence(tmp_path / "w.csd") as sequence:
        assert sequence.inspect("v") == (True, (2, 1))
        expected = [["café" if kind is object else "oh"], ["sp"]]
        assert sequence.read("v").features.tolist() == expected


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "1.csd")
    time.sleep(1.1)  # HDF5's timestamps are in seconds
    write(tmp_path / "2.csd")
    assert (tmp_path / "1.csd").read_bytes() == (tmp_path / "2.csd").read_bytes()


def test_entries_are_consumed_one_at_a_time(tmp_path: Path) -> None:
    alive = 0
    max_alive = 0

    class Counted(np.ndarray[Any, Any]):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def entries() -> Iterator[tuple[str, np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
        nonlocal alive, max_alive
        for i in range(10):
            alive += 1
            max_alive = max(max_alive, alive)
            yield f"v{i}", np.ones((2, 3)).view(Counted), INTERVALS

    write(tmp_path / "x.csd", entries=entries(), dimension_names=None)
    assert max_alive <= 3


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ([("v", np.ones((3, 2)), INTERVALS)], "entry 'v' has features (3, 2) and intervals (2, 2)"),
        ([("v", np.ones(2), INTERVALS)], "expected [T, d] and [T, 2]"),
        ([("v", np.ones((2, 2)), INTERVALS)] * 2, "entry 'v' occurs twice"),
        ([("a/b", np.ones((2, 2)), INTERVALS)], "entry 'a/b' is not a valid id"),
        ([("", np.ones((2, 2)), INTERVALS)], "entry '' is not a valid id"),
    ],
)
def test_entries_that_cannot_be_written_are_errors(
    tmp_path: Path, entries: list[Any], sentence: str
) -> None:
    with pytest.raises(DhmdError) as caught:
        write(tmp_path / "x.csd", entries=entries)
    assert sentence in str(caught.value)
    assert str(tmp_path / "x.csd") in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_the_sdk_can_read_a_written_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The SDK imports a part that needs torch, which reading does not.
    monkeypatch.setitem(sys.modules, "mmsdk.mmmodelsdk", ModuleType("mmsdk.mmmodelsdk"))
    sdk = pytest.importorskip("mmsdk.mmdatasdk", reason="cmu-multimodal-sdk is not installed")
    write(tmp_path / "x.csd")
    sequence = sdk.computational_sequence(str(tmp_path / "x.csd"))
    assert sorted(sequence.keys()) == ["a", "b"]
    np.testing.assert_array_equal(sequence["b"]["features"][()], FEATURES)
    output = capsys.readouterr().out
    assert "does not have all the required metadata" not in output
    assert "metadata in correct format" in output
