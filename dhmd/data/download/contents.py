"""Checks of a received file: the recipe's bytes and sha256, and whether its container is whole."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Protocol

import h5py

from dhmd.base.errors import first_line
from dhmd.base.files import file_sha256
from dhmd.base.hdf5 import READ_ERRORS

_PAGE_STARTS = (b"<!doctype html", b"<html", b"<?xml")


class SourceFailure(Exception):  # noqa: N818 - not an error yet: the next source may have the file
    """A source cannot give a file; the message is a reason in words.

    Attributes:
        unreachable: the source does not answer at all, whatever file is asked for.
    """

    def __init__(self, reason: str, *, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.unreachable = unreachable


class Expected(Protocol):
    """A recipe's entry of a file; None where it is not pinned yet."""

    @property
    def bytes(self) -> int | None: ...
    @property
    def sha256(self) -> str | None: ...


def check_contents(path: Path, *, name: str, expected: Expected) -> str:
    """Verify a received file and return its sha256.

    Args:
        path: the file.
        name: its name in the recipe, whose suffix tells the container.
        expected: bytes and sha256 that it must have.

    Raises:
        SourceFailure: wrong length, changed content, a web page, or a truncated container.
    """
    size = path.stat().st_size
    suffix = Path(name).suffix.lower()
    with open(path, "rb") as stream:
        start = stream.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        stream.seek(max(0, size - 1))
        last = stream.read(1)
    if size == 0:
        raise SourceFailure("the file is empty")
    if start.startswith(_PAGE_STARTS):
        raise SourceFailure("it is a web page (an error or log-in page) instead of the file")
    if expected.bytes is not None and size != expected.bytes:
        raise SourceFailure(f"it has {size} bytes, but the recipe says {expected.bytes}")
    if suffix in (".csd", ".h5", ".hdf5"):
        try:
            h5py.File(path, "r").close()
        except READ_ERRORS as error:
            if "unable to lock file" in str(error):
                raise SourceFailure("another process has the file open for writing") from error
            raise SourceFailure(f"it is not a whole HDF5 file ({first_line(error)})") from error
    if suffix in (".pkl", ".pickle", ".p") and last != b".":  # STOP, the last opcode of a pickle
        raise SourceFailure("it is not a whole pickle (its end is missing)")
    if suffix in (".npz", ".zip") and not _is_zip(path):
        raise SourceFailure(f"it is not a whole {suffix} file")
    digest = file_sha256(path)
    if expected.sha256 is not None and digest != expected.sha256.lower():
        raise SourceFailure(f"its sha256 is {digest}, but the recipe says {expected.sha256}")
    return digest


def _is_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except (zipfile.BadZipFile, struct.error):  # a damaged directory of the 64-bit form
        return False
