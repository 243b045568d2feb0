"""Check downloaded files, and list them in `sources.json` in the raw folder."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import h5py

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import file_sha256, write_text
from dhmd.base.hdf5 import READ_ERRORS

if TYPE_CHECKING:
    from dhmd.recipes import SequenceFile

RECEIVED_NAME = "sources.json"

_WEB_PAGE_STARTS = (b"<!doctype html", b"<html", b"<?xml")


class SourceError(Exception):
    """A source cannot provide a file; the next source is tried.

    Attributes:
        unreachable: whether the source cannot provide any file, because it does not respond.
    """

    def __init__(self, reason: str, *, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.unreachable = unreachable


def check_contents(path: Path, *, name: str, expected: SequenceFile) -> str:
    """Verify a downloaded file, and return its sha256.

    Args:
        path: the file.
        name: the file's name in the recipe; the suffix determines the format.
        expected: the bytes and the sha256 that the recipe pins, if any.

    Raises:
        SourceError: the file is not whole, or differs from the pinned one.
    """
    size = path.stat().st_size
    suffix = Path(name).suffix.lower()
    with open(path, "rb") as stream:
        start = stream.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        stream.seek(max(0, size - 1))
        last = stream.read(1)
    if size == 0:
        raise SourceError("the file is empty")
    if start.startswith(_WEB_PAGE_STARTS):
        raise SourceError("it is a web page (an error or log-in page) instead of the file")
    if expected.bytes is not None and size != expected.bytes:
        raise SourceError(f"the file has {size} bytes, but the recipe has {expected.bytes}")
    if suffix in (".csd", ".h5", ".hdf5"):
        try:
            h5py.File(path, "r").close()
        except READ_ERRORS as error:
            if "unable to lock file" in str(error):
                raise SourceError("another process has the file open for writing") from error
            raise SourceError(f"it is not a whole HDF5 file ({first_line(error)})") from error
    if suffix in (".pkl", ".pickle", ".p") and last != b".":  # STOP, the last opcode of a pickle
        raise SourceError("it is not a whole pickle (its end is missing)")
    if suffix in (".npz", ".zip") and not _is_zip(path):
        raise SourceError(f"it is not a whole {suffix} file")
    digest = file_sha256(path)
    if expected.sha256 is not None and digest != expected.sha256.lower():
        raise SourceError(
            f"the sha256 of the file is {digest}, but the recipe has {expected.sha256}"
        )
    return digest


def _is_zip(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # a damaged 64-bit directory
        return False


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """The size and the sha256 of a downloaded file."""

    bytes: int
    sha256: str

    @staticmethod
    def from_file(path: Path, sha256: str | None = None) -> FileRecord:
        """Return the record of a file; compute the sha256 if it is not given."""
        return FileRecord(bytes=path.stat().st_size, sha256=sha256 or file_sha256(path))


def write_file_records(folder: Path, files: Mapping[str, FileRecord]) -> None:
    """Write `sources.json`; it has no times or addresses, so equal files give equal bytes."""
    value = {name: asdict(record) for name, record in files.items()}
    write_text(folder / RECEIVED_NAME, json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_file_records(folder: Path) -> dict[str, FileRecord]:
    """Read `sources.json`, and return the record of each file in the raw folder by name."""
    path = folder / RECEIVED_NAME
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return {name: FileRecord(**record) for name, record in value.items()}
    except OSError as error:
        raise DhmdError(f"{path} is missing: run the download stage again") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise DhmdError(f"{path} is damaged: run the download stage again") from error
