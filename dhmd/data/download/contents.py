"""What a received file must be: the recipe's bytes and sha256, and whole by its own format."""

from __future__ import annotations

import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path

import h5py

from dhmd.base.errors import first_line
from dhmd.base.files import file_sha256
from dhmd.base.hdf5 import READ_ERRORS
from dhmd.data.download.failures import SourceFailure

HDF5_SUFFIXES = frozenset({".csd", ".h5", ".hdf5"})
_PAGE_STARTS = (b"<!doctype html", b"<html", b"<?xml")


@dataclass(frozen=True, kw_only=True)
class Expected:
    """The recipe's manifest entry; None where it is not pinned yet."""

    bytes: int | None = None
    sha256: str | None = None


def looks_like_page(path: Path) -> bool:
    """Whether the file begins like an HTML or XML page, as servers' error pages do."""
    with open(path, "rb") as stream:
        start = stream.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith(_PAGE_STARTS)


def check_contents(path: Path, *, name: str, expected: Expected) -> str:
    """Verify the received file (`name` is the one the recipe gives it) and return its sha256.

    Raises:
        SourceFailure: wrong length, changed content, a web page, or a truncated container.
    """
    size = path.stat().st_size
    suffix = Path(name).suffix.lower()
    if size == 0:
        raise SourceFailure("the file is empty")
    if looks_like_page(path):
        raise SourceFailure("a web page came instead of the file (an error or log-in page)")
    if expected.bytes is not None and size != expected.bytes:
        raise SourceFailure(f"it holds {size} bytes where the recipe says {expected.bytes}")
    if suffix in HDF5_SUFFIXES:
        try:
            h5py.File(path, "r").close()
        except READ_ERRORS as error:
            raise SourceFailure(f"it is not a whole HDF5 file ({first_line(error)})") from error
    if suffix in (".pkl", ".pickle", ".p") and not _ends_as_pickle(path):
        raise SourceFailure("it is not a whole pickle (its end is missing)")
    if suffix in (".npz", ".zip") and not _is_zip(path):
        raise SourceFailure(f"it is not a whole {suffix} file")
    digest = file_sha256(path)
    if expected.sha256 is not None and digest != expected.sha256.lower():
        raise SourceFailure(
            f"its content changed: sha256 {digest} where the recipe says {expected.sha256}"
        )
    return digest


def _is_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except (zipfile.BadZipFile, struct.error):  # raised for a damaged directory of the large form
        return False


def _ends_as_pickle(path: Path) -> bool:
    # The last opcode of every pickle is STOP; nothing else of the file is looked at here.
    with open(path, "rb") as stream:
        stream.seek(-1, 2)
        return stream.read(1) == b"."
