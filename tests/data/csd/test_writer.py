"""Writing `.csd` files."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from benchmarks.sdk_oracle import _import_sdk, sdk_available
from dhmd.base.errors import DhmdError
from dhmd.data.csd import open_sequence, write_sequence

INTERVALS = np.array([[0.0, 0.5], [0.5, 1.25]])


def write(path: Path, **changes: Any) -> None:
    arguments: dict[str, Any] = {
        "root_name": "acoustic",
        "entries": [
            ("b", np.arange(4.0).reshape(2, 2), INTERVALS),
            ("a", np.ones((2, 2)), INTERVALS),
        ],
        "metadata": {"creator": "nobody"},
        "dimension_names": ("f0", "energy"),
    }
    write_sequence(path, **{**arguments, **changes})


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write(tmp_path / "x.csd")
    with open_sequence(tmp_path / "x.csd") as sequence:
        assert sequence.root_name == "acoustic"
        assert sequence.ids == ("a", "b")
        assert sequence.dimension_names == ("f0", "energy")
        assert sequence.metadata["creator"] == "nobody"
        assert sequence.metadata["root name"] == "acoustic"
        assert sequence.shape("b") == (2, 2)
        entry = sequence.read("b")
        np.testing.assert_array_equal(entry.features, [[0, 1], [2, 3]])
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
        assert sequence.is_text("v")
        expected = [["café" if kind is object else "oh"], ["sp"]]
        assert sequence.read("v").features.tolist() == expected


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    write(tmp_path / "1.csd")
    time.sleep(1.1)  # HDF5's times count seconds
    write(tmp_path / "2.csd")
    assert (tmp_path / "1.csd").read_bytes() == (tmp_path / "2.csd").read_bytes()


def test_entries_are_consumed_one_at_a_time(tmp_path: Path) -> None:
    alive = 0
    most = 0

    class Counted(np.ndarray[Any, Any]):
        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    def entries() -> Iterator[tuple[str, np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
        nonlocal alive, most
        for i in range(10):
            alive += 1
            most = max(most, alive)
            yield f"v{i}", np.ones((2, 3)).view(Counted), INTERVALS

    write(tmp_path / "x.csd", entries=entries(), dimension_names=None)
    assert most <= 3


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ([("v", np.ones((3, 2)), INTERVALS)], "entry 'v' has features (3, 2) and intervals (2, 2)"),
        ([("v", np.ones(2), INTERVALS)], "expected [T, d] and [T, 2]"),
        ([("v", np.ones((2, 2)), INTERVALS)] * 2, "entry 'v' comes twice"),
        ([("a/b", np.ones((2, 2)), INTERVALS)], "entry 'a/b' is no id"),
        ([("", np.ones((2, 2)), INTERVALS)], "entry '' is no id"),
    ],
)
def test_a_defect_is_one_sentence_and_no_file(
    tmp_path: Path, entries: list[Any], sentence: str
) -> None:
    with pytest.raises(DhmdError) as caught:
        write(tmp_path / "x.csd", entries=entries)
    assert sentence in str(caught.value)
    assert str(tmp_path / "x.csd") in str(caught.value)
    assert list(tmp_path.iterdir()) == []


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from dhmd.base.errors import DhmdError
from dhmd.data.csd import write_sequence
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
entries = [(str(i), np.ones((500, 10)), np.ones((500, 2))) for i in range(int(sys.argv[2]))]
try:
    write_sequence(Path(sys.argv[1]), root_name="x", entries=entries, metadata=None)
except DhmdError as error:
    print(error)
"""


@pytest.mark.parametrize("entries", ["1", "20"])
def test_a_full_disk_is_one_sentence_and_no_file(tmp_path: Path, entries: str) -> None:
    target = tmp_path / "out" / "x.csd"
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(target), entries],
        capture_output=True,
        text=True,
        check=True,
    )
    if entries == "1":  # 48 kB fit
        assert target.is_file()
    else:
        assert done.stdout.startswith(f"cannot write {target}: ")
        assert done.stdout.count("\n") == 1
        assert list(target.parent.iterdir()) == []


@pytest.mark.skipif(not sdk_available(), reason="cmu-multimodal-sdk is not installed")
def test_the_sdk_reads_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "x.csd")
    sequence = _import_sdk().computational_sequence(str(tmp_path / "x.csd"))
    assert sorted(sequence.keys()) == ["a", "b"]
    np.testing.assert_array_equal(sequence["b"]["features"][()], [[0, 1], [2, 3]])
    output = capsys.readouterr().out
    assert "does not have all the required metadata" not in output
    assert "metadata in correct format" in output
