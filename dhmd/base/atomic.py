"""Outputs appear whole or not at all: written beside their place, synced, then renamed."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dhmd.base.errors import DhmdError, first_line

TEMPORARY_PREFIX = ".partial-"


def _temporary_name(target: Path) -> str:
    # The target's name stays at the end so that formats chosen by suffix still work.
    return f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:12]}-{target.name}"


def _prepare(target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.parent / _temporary_name(target)


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
    temporary = None
    try:
        temporary = _prepare(target)
        yield temporary
        _sync(temporary)
        os.replace(temporary, target)
    except OSError as error:
        raise DhmdError(f"cannot write {target}: {first_line(error)}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder; on success it replaces `target`, on any failure it is removed.

    Raises:
        DhmdError: the disk is full or the folder cannot be written; the sentence names `target`.
    """
    target = Path(target)
    temporary = None
    try:
        temporary = _prepare(target)
        temporary.mkdir()
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
    except OSError as error:
        raise DhmdError(f"cannot write {target}: {first_line(error)}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    with whole_file(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
