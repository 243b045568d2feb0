"""Atomic writes, file locks and content hashes.

An output is written to a hidden folder next to its target, synced to disk and renamed. A killed
process leaves only the hidden folder, which the next writer of the same target removes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from dhmd.base.errors import DhmdError, first_line

TEMPORARY_PREFIX = ".partial-"


@contextmanager
def atomic_file(target: Path) -> Iterator[Path]:
    """Yield a temporary path that is renamed to `target` on success and removed on any error.

    Raises:
        DhmdError: the disk is full or the folder cannot be written; the sentence names `target`.
    """
    target = Path(target)
    with _temporary_folder(target) as folder:
        temporary = folder / target.name  # some libraries choose the format by the suffix
        yield temporary
        _set_permissions(temporary, folder)
        _sync(temporary)
        os.replace(temporary, target)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder that replaces `target` on success and is removed on any error."""
    target = Path(target)
    with _temporary_folder(target) as folder:
        new = folder / target.name
        new.mkdir()
        yield new
        for path in new.rglob("*"):
            if path.is_file():
                _set_permissions(path, folder)
                _sync(path)
        if target.is_dir():
            # A folder cannot be renamed over another one.
            os.replace(target, folder / "old")
        os.replace(new, target)


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_file(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def _temporary_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder next to `target`, which is locked for other writers of `target`."""
    folder = target.parent / f"{TEMPORARY_PREFIX}{target.name}"
    lock = FileLock(f"{folder}.lock", timeout=60)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with lock:
            try:
                if folder.exists():
                    shutil.rmtree(folder)
                folder.mkdir()
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
                Path(lock.lock_file).unlink(missing_ok=True)
    except OSError as error:
        raise DhmdError(f"cannot write {target}: {first_line(error)}") from error


def _set_permissions(path: Path, folder: Path) -> None:
    """Give a file the permissions that the umask allows, derived from those of the new `folder`.

    Some libraries write through a temporary file that only the user can read.
    """
    if path.stat().st_nlink == 1:  # otherwise it is a hard link to a file of the user
        path.chmod(stat.S_IMODE(folder.stat().st_mode) & 0o666)


def _sync(path: Path) -> None:
    """Write the buffers of a file to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def try_lock(path: Path) -> FileLock | None:
    """Acquire a lock file without waiting; return None if another process has locked it.

    The kernel releases the lock when the process ends, even if it is killed.
    """
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return None
    return lock


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def json_sha256(value: object) -> str:
    """Return the sha256 of a JSON value in canonical form: sorted keys, no spaces, no NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def check_output(
    output: Path, *, inputs: Iterable[Path] = (), input_folders: Iterable[Path] = ()
) -> None:
    """Check that writing `--output` replaces at most an older output.

    An atomic write would replace a device, a pipe or a link by a regular file.

    Args:
        output: the file to write; it need not exist.
        inputs: files that the command reads; they need not exist.
        input_folders: folders that the command reads.

    Raises:
        DhmdError: the output is a folder, a link, a special file, an input, or in an input folder.
    """
    target = output.parent.resolve() / output.name
    for folder in input_folders:
        if target.is_relative_to(folder.resolve()):
            raise DhmdError(f"{output} is inside {folder}, an input: choose another --output.")
    try:
        mode = os.lstat(output).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return  # writing creates missing folders
    if stat.S_ISLNK(mode):
        raise DhmdError(
            f"{output} is a link to {os.readlink(output)}: --output must name the file itself."
        )
    if stat.S_ISDIR(mode):
        raise DhmdError(f"{output} is a folder: --output must name a file.")
    if not stat.S_ISREG(mode):
        raise DhmdError(f"{output} is a device or a pipe: --output must name a regular file.")
    if any(path.exists() and path.samefile(output) for path in inputs):
        raise DhmdError(f"{output} is one of the inputs: choose another --output.")
