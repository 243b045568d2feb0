"""Segments from CSV files, `.csd` files, and none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.alignment.sequences import Sequences
from dhmd.data.csd import write_sequence
from dhmd.prediction.segments import read_segments, whole_videos


def written(path: Path, text: str) -> Path:
    path.write_bytes(text.encode("utf-8"))
    return path


def test_rows_count_within_their_video_in_the_files_order(tmp_path: Path) -> None:
    text = "start,end,video\r\n2,4.5,b\r\n0,1,a\r\n\r\n1,2,b\r\n"
    found = read_segments(written(tmp_path / "s.csv", text))
    assert {video: rows.tolist() for video, rows in found.items()} == {
        "b": [[2.0, 4.5], [1.0, 2.0]],
        "a": [[0.0, 1.0]],
    }


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has no column video"),
        ("video,begin,end\na,0,1\n", "has no column start"),
        ("video,start,end\n", "names no segment"),
        ("video,start,end\na,0\n", "line 2 has 2 cells, but the header has 3"),
        ("video,start,end\na,0,1\n ,0,1\n", "line 3 names no video"),
        ("video,start,end\na,0,soon\n", "line 2: end is 'soon', but must be a number of seconds"),
        ("video,start,end\na,nan,1\n", "line 2: start is 'nan'"),
        ("video,start,end\na,0,inf\n", "line 2: end is 'inf'"),
        ("video,start,end\na,3,2\n", "line 2: the segment ends at 2, before it starts at 3"),
        ('video,start,end\n"a,0,1\n', "not readable as CSV"),
    ],
)
def test_a_row_that_says_no_segment_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    path = written(tmp_path / "s.csv", text)
    with pytest.raises(DhmdError, match=sentence) as caught:
        read_segments(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "s.csv", tmp_path / "absent.csv", tmp_path):
        with pytest.raises(DhmdError, match=f"{path} is no"):
            read_segments(path)
    (tmp_path / "s.csd").write_bytes(b"no HDF5")
    with pytest.raises(DhmdError, match="not a whole HDF5 file"):
        read_segments(tmp_path / "s.csd")


def sequence(path: Path, entries: dict[str, list[list[float]]]) -> Path:
    write_sequence(
        path,
        root_name="x",
        entries=(
            (video, np.zeros((len(rows), 1)), np.array(rows, dtype=float).reshape(-1, 2))
            for video, rows in entries.items()
        ),
        metadata=None,
    )
    return path


def test_rows_of_a_csd_keep_their_order(tmp_path: Path) -> None:
    path = sequence(tmp_path / "s.csd", {"v": [[3, 4], [1, 2]]})
    assert {v: rows.tolist() for v, rows in read_segments(path).items()} == {"v": [[3, 4], [1, 2]]}
    with pytest.raises(DhmdError, match="split into entries"):
        read_segments(sequence(tmp_path / "t.csd", {"v[0]": [[3, 4]]}))


def test_a_whole_video_reaches_from_the_first_to_the_last_row(tmp_path: Path) -> None:
    paths = {
        "words": sequence(tmp_path / "w.csd", {"v": [[2, 3], [1, 5], [4, 4.5]], "w": [[0, 1]]}),
        "audio": sequence(tmp_path / "a.csd", {"v": [[0.5, 1]], "x": [[1, 2]]}),
    }
    with Sequences(paths, paths) as sequences:
        by_words = whole_videos(sequences, ["words"])
        by_all = whole_videos(sequences, ["words", "audio"])
    assert {video: rows.tolist() for video, rows in by_words.items()} == {
        "v": [[1, 5]],
        "w": [[0, 1]],
        "x": [[0, 0]],
    }
    assert by_all["v"].tolist() == [[0.5, 5]]
    assert by_all["x"].tolist() == [[1, 2]]
