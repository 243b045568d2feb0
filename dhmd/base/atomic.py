"""Outputs appear whole or not at all: written beside their place, synced, then renamed.

What is being written lies in a hidden folder that its writer holds a lock of the kernel on. A
killed process leaves the folder behind without the lock: so the next writer into the same place
knows what is abandoned, and removes it.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.locks import try_lock

TEMPORARY_PREFIX = ".partial-"

_OURS = re.compile(rf"{re.escape(TEMPORARY_PREFIX)}[0-9a-f]{{12}}-.")


def sweep(folder: Path) -> None:
    """Remove what killed processes were writing into `folder`.

    What cannot be removed stays: it is in nobody's way.
    """
    with suppress(OSError):
        for entry in os.scandir(folder):
            if _OURS.match(entry.name):
                _remove_abandoned(Path(entry.path))


def _remove_abandoned(temporary: Path) -> None:
    with suppress(OSError):
        lock = try_lock(temporary)
        if lock is not None:  # else somebody writes it
            shutil.rmtree(temporary, ignore_errors=True)
            os.close(lock)


def _temporary_name(target: Path) -> str:
    return f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:12]}-{target.name}"


def _begin(target: Path) -> tuple[Path, int | None]:
    """An empty folder beside `target`, and the descriptor that holds its lock."""
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target.parent)
    while True:
        temporary = target.parent / _temporary_name(target)
        temporary.mkdir()
        try:
            lock = try_lock(temporary)
        except OSError:
            return temporary, None  # a file system without locks: nobody sweeps there either
        # None: in between, a sweeper has taken it for abandoned.
        if lock is not None:
            return temporary, lock


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    temporary, lock = None, None
    try:
        temporary, lock = _begin(target)
        yield temporary
    except OSError as error:
        raise DhmdError(f"cannot write {target}: {first_line(error)}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path; on success it becomes `target`, on any failure it is removed.

    Raises:
        DhmdError: the disk is full or the folder cannot be written; the sentence names `target`.
    """
    target = Path(target)
    with _beside(target) as folder:
        temporary = folder / target.name  # so that formats chosen by suffix still work
        yield temporary
        _sync(temporary)
        os.replace(temporary, target)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder; on success it replaces `target`, on any failure it is removed.

    Raises:
        DhmdError: the disk is full or the folder cannot be written; the sentence names `target`.
    """
    target = Path(target)
    with _beside(target) as temporary:
        yield temporary
        for path in temporary.rglob("*"):
            if path.is_file():
                _sync(path)
        if target.is_dir():
            # A folder cannot be renamed over another one: move the old aside first.
            aside = target.parent / _temporary_name(target)
            os.replace(target, aside)
            os.replace(temporary, target)
            shutil.rmtree(aside)
        else:
            os.replace(temporary, target)


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with whole_file(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
