from __future__ import annotations

import math
import os
import stat
from pathlib import Path

import pytest

from dhmd.base.errors import DhmdError
from dhmd.tracking.journal import Journal, hold, journals, read_events


def write(folder: Path) -> Path:
    journal = Journal(folder, "train", "demo/../x")
    journal.append("open", key="k", stage="train", dataset="demo", store="s", tags={})
    journal.append("epoch", epoch=1, rows={"seed-1": {"a": math.nan, "b": -math.inf, "c": 0.1}})
    journal.close()
    return journal.path


def test_events_come_back_as_they_were_written(tmp_path: Path) -> None:
    events, end = read_events(write(tmp_path))
    assert [event["event"] for event in events] == ["open", "epoch"]
    row = events[1]["rows"]["seed-1"]
    assert math.isnan(row["a"])
    assert (row["b"], row["c"]) == (-math.inf, 0.1)
    assert end == journals(tmp_path)[0].stat().st_size


def test_the_file_stays_in_its_folder_and_is_private(tmp_path: Path) -> None:
    path = write(tmp_path)
    assert path.parent == tmp_path / ".dhmd" / "tracking"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_reading_goes_on_where_it_stopped_and_waits_for_whole_lines(tmp_path: Path) -> None:
    path = write(tmp_path)
    _, end = read_events(path)
    with open(path, "ab") as stream:
        stream.write(b'{"event": "finished", "ti')
    assert read_events(path, end) == ([], end)
    with open(path, "ab") as stream:
        stream.write(b'me": 5}\n')
    events, _ = read_events(path, end)
    assert [event["time"] for event in events] == [5]


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"[]",
        b'{"event": "unknown", "time": 1}',
        b'{"event": "epoch", "time": 1, "epoch": 2}',
        b'{"event": "epoch", "time": 1, "epoch": 2, "rows": {"s": {"a": "x"}}}',
        b'{"event": "epoch", "time": 1, "epoch": 2, "rows": {"s": 3}}',
        b'{"event": "finished", "time": "1"}',
        b'{"event": "finished", "time": 99999999999999999}',
        b'{"event": "ended", "time": 1, "status": "RUNNING", "tags": {}}',
        b'{"event": "ended", "time": 1, "status": "KILLED", "tags": {"a": 1}}',
        b'{"event": "started", "time": 1, "members": [1], "parameters": {}, "resumed_epoch": 0}',
        b'{"event":"open","time":1,"key":"","stage":"","dataset":"","store":"","tags":{}}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_a_damaged_line_is_refused_by_name(tmp_path: Path, line: bytes) -> None:
    path = write(tmp_path)
    place = path.stat().st_size
    with open(path, "ab") as stream:
        stream.write(line + b"\n")
    with pytest.raises(DhmdError, match=f"{path.name} is damaged at byte {place}"):
        read_events(path)


def test_an_absent_journal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DhmdError, match="cannot read"):
        read_events(tmp_path / "x.jsonl")


def test_an_exclusive_lock_is_to_be_had_only_when_nobody_writes(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "train", "demo")
    with hold(journal.path, exclusive=False) as shared:
        assert shared
    with hold(journal.path, exclusive=True) as mine:
        assert not mine
    journal.close()
    with hold(journal.path, exclusive=True) as mine:
        assert mine


def test_a_removed_journal_cannot_be_held(tmp_path: Path) -> None:
    path = write(tmp_path)
    os.unlink(path)
    with hold(path, exclusive=True) as mine:
        assert not mine
