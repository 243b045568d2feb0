"""The record of one run on disk: written first, uploaded later, removed once it is uploaded.

A journal is a file of JSON lines, `.dhmd/tracking/<time>-<stage>-<dataset>-<key>.jsonl` at the
workspace's root. It is complete in itself: replaying it from its first line gives the whole run,
as often as one likes. Whoever writes or uploads it holds a shared lock on it, so an exclusive
lock is to be had only when all of them are gone; the kernel drops locks of killed processes, in
every PID namespace.

Events, each with `event` and `time` (ms since 1970):
    open      key, stage, dataset, store (as shown), tags
    started   members, parameters (flat), resumed_epoch
    epoch     epoch, rows {member: {metric: value}}
    finished  (one training of the stage is through)
    ended     status (FINISHED | FAILED | KILLED), tags
    test      stage, md5, rows
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from dhmd.base.errors import DhmdError

Event = dict[str, Any]


def journal_folder(home: Path) -> Path:
    """Where the workspace keeps its journals."""
    return home / ".dhmd" / "tracking"


class Journal:
    """A journal being written. Every method may raise OSError (disk full, read-only folder)."""

    def __init__(self, home: Path, stage: str, dataset: str) -> None:
        self.key = uuid.uuid4().hex
        stamp = datetime.now().strftime("%Y%m%dT%H%M%S")
        name = re.sub(r"[^\w.-]", "_", f"{stamp}-{stage}-{dataset}"[:100])
        folder = journal_folder(home)
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / f"{name}-{self.key[:8]}.jsonl"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        self._descriptor = os.open(self.path, flags, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def append(self, event: str, **fields: object) -> None:
        """Add one event; it is in the file when this returns."""
        line = {"event": event, "time": time.time_ns() // 1_000_000} | fields
        text = json.dumps(_strict(line), ensure_ascii=False, allow_nan=False) + "\n"
        data = text.encode("utf-8", errors="replace")
        # One write a line: a reader sees whole lines, but for the last one of a full disk.
        if os.write(self._descriptor, data) != len(data):
            raise OSError(28, "No space left on device")

    def close(self) -> None:
        """Let go of the lock; a journal that nobody uploads stays where it is."""
        os.close(self._descriptor)


def _strict(value: object) -> object:
    """JSON has no NaN: non-finite floats become strings that `float` reads back."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    return value


def read_events(path: Path, offset: int = 0) -> tuple[list[Event], int]:
    """The whole lines from byte `offset` on, and the offset after them.

    Raises:
        DhmdError: a line is not an event; the sentence names the file and the line's offset.
    """
    try:
        with open(path, "rb") as stream:
            stream.seek(offset)
            data = stream.read()
    except OSError as error:
        raise DhmdError(f"cannot read {path}: {error.strerror}") from error
    events = []
    for line in data.split(b"\n")[:-1]:  # what follows the last newline is not whole yet
        event = _parse(line, path, offset)
        if (event["event"] == "open") != (offset == 0):
            raise _damaged(path, offset)
        events.append(event)
        offset += len(line) + 1
    return events, offset


FIELDS: Mapping[str, Mapping[str, type]] = {
    "open": {"key": str, "stage": str, "dataset": str, "store": str, "tags": dict},
    "started": {"members": list, "parameters": dict, "resumed_epoch": int},
    "epoch": {"epoch": int, "rows": dict},
    "finished": {},
    "ended": {"status": str, "tags": dict},
    "test": {"stage": str, "md5": str, "rows": dict},
}
STATUSES = (None, "FINISHED", "FAILED", "KILLED")
LAST_TIME = 32_503_680_000_000  # the year 3000, in ms


def _parse(line: bytes, path: Path, offset: int) -> Event:
    try:
        event = json.loads(line)
        fields = {**FIELDS[event["event"]], "time": int}
        well = all(isinstance(event[name], kind) for name, kind in fields.items())
        texts = [*event.get("tags", {}).values(), *event.get("parameters", {}).values()]
        well = well and all(isinstance(text, str) for text in (*texts, *event.get("members", [])))
        if not well or not 0 <= event["time"] < LAST_TIME or event.get("status") not in STATUSES:
            raise ValueError
        event["rows"] = {
            member: {name: float(value) for name, value in row.items()}
            for member, row in event.get("rows", {}).items()
        }
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, offset) from error
    return dict(event)


def _damaged(path: Path, offset: int) -> DhmdError:
    return DhmdError(
        f"{path} is damaged at byte {offset}: remove that line, or the file if its metrics may go"
    )


def journals(home: Path) -> list[Path]:
    """All journals of the workspace, oldest first."""
    return sorted(journal_folder(home).glob("*.jsonl"))


@contextmanager
def hold(path: Path, *, exclusive: bool) -> Iterator[bool]:
    """Lock a journal without waiting; yields whether that went well and the file is there."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        yield False
        return
    try:
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            # Uploaded and removed between open and lock? Then it is no longer ours to replay.
            held = os.fstat(descriptor).st_nlink > 0
        except OSError:
            held = False
        yield held
    finally:
        os.close(descriptor)
