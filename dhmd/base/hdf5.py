"""Opening HDF5 files safely, and writing them whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from dhmd.base.errors import DhmdError, first_line

# What h5py raises on damaged files: HDF5's own errors come as these built-in exceptions.
READ_ERRORS = (
    OSError,
    RuntimeError,
    KeyError,
    ValueError,
    TypeError,
    IndexError,
    MemoryError,
    AttributeError,  # a group where a dataset is expected, or the reverse
)

# No HDF5 filter compresses further than this (deflate: 1 to 1032).
_MAX_COMPRESSION = 1100
_SMALL = 1 << 20  # bytes


def open_hdf5(path: Path) -> h5py.File:
    """Open a file for reading.

    Raises:
        DhmdError: the file is locked by another process, truncated, or not an HDF5 file.
    """
    try:
        return h5py.File(path, "r")
    except READ_ERRORS as error:
        if isinstance(error, BlockingIOError) or "unable to lock file" in str(error):
            raise DhmdError(
                f"{path}: another process has the file open for writing; close it there, or wait"
                " until it has finished"
            ) from error
        raise DhmdError(
            f"{path}: not a whole HDF5 file: it is truncated, or of another format"
            f" ({first_line(error)}); fetch it again"
        ) from error


@contextmanager
def reading(path: Path, damaged: str) -> Iterator[h5py.File]:
    """Open a file, refuse what is not in the file itself, and close it.

    Args:
        path: the file.
        damaged: the message when anything fails inside the block, followed by the reason.
    """
    with open_hdf5(path) as file:
        try:
            check_group(file, str(path))
            yield file
        except READ_ERRORS as error:
            raise DhmdError(f"{damaged} ({first_line(error)})") from error


def check_dataset(dataset: h5py.Dataset, where: str) -> None:
    """Refuse a dataset before it is read if it is not in the file itself.

    HDF5 can take a dataset's values from any other file of the machine, and lets a file of a few
    kilobytes declare terabytes. Object references are refused too.
    """
    if dataset.external or dataset.is_virtual:
        raise DhmdError(
            f"{where} refers to another file, which is refused: copy the values into this one"
        )
    if dataset.dtype.hasobject and h5py.check_string_dtype(dataset.dtype) is None:
        raise DhmdError(f"{where} is refused: it has neither numbers nor text")
    stored = dataset.id.get_storage_size()
    if dataset.nbytes > _MAX_COMPRESSION * stored + _SMALL:
        raise DhmdError(
            f"{where} is damaged: it declares {dataset.nbytes:,} bytes, but the file stores"
            f" {stored:,}"
        )


def own_item(group: h5py.Group, name: str, where: str) -> Any:
    """Return the item under a name, or None."""
    link = group.get(name, getlink=True)
    if link is not None and not isinstance(link, h5py.HardLink):
        raise DhmdError(f"{where}: {name!r} is a link to another place, which is refused")
    return group.get(name)


def check_group(group: h5py.Group, where: str) -> None:
    """Apply `check_dataset` and `own_item` to everything below a group."""
    # Both functions visit each object once, and follow neither soft nor external links. h5py
    # expects a visitor to return a value instead of raising.
    link = group.visititems_links(
        lambda name, link: None if isinstance(link, h5py.HardLink) else name
    )
    if link is not None:
        raise DhmdError(f"{where}: {link!r} is a link to another place, which is refused")
    datasets: dict[str, h5py.Dataset] = {}
    group.visititems(
        lambda name, item: datasets.update({name: item} if isinstance(item, h5py.Dataset) else {})
    )
    for name, dataset in datasets.items():
        check_dataset(dataset, f"{where}: {name!r}")


class _Sink(io.RawIOBase):
    """A file for h5py's file-object driver that ignores all writes after the first failed one.

    When a write fails (a full disk), HDF5 cannot close the file any more: it repeats the failure
    for every open object and may then crash the process. So HDF5 never sees the error: this class
    keeps the first one, and `writing` raises it.
    """

    def __init__(self, path: Path) -> None:
        self._file = open(path, "w+b", buffering=0)  # noqa: SIM115 (closed by `close`)
        self.error: OSError | None = None

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view) and (count := self._file.readinto(view[done:])):
            done += count
        view[done:] = bytes(len(view) - done)  # what was never written reads as zeros
        return len(view)

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        done = 0
        while self.error is None and done < len(view):
            try:
                done += self._file.write(view[done:]) or 0
            except OSError as error:
                self.error = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        if self.error is None:
            try:
                return self._file.truncate(size)
            except OSError as error:
                self.error = error
        return size or 0

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def writing(temporary: Path, target: Path) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """Open `temporary` for writing, and close it; messages name `target`.

    The same calls give the same bytes, provided that datasets are created with
    `track_times=False`.

    Yields:
        The file, and a function that raises as soon as a write has failed: long writers call it
        now and then to stop early.
    """
    try:
        sink = _Sink(temporary)
    except OSError as error:
        raise DhmdError(f"cannot write {target}: {first_line(error)}") from error

    def check() -> None:
        if sink.error is not None:
            raise DhmdError(f"cannot write {target}: {first_line(sink.error)}") from sink.error

    with sink:
        try:
            with h5py.File(sink, "w") as file:
                yield file, check
        except READ_ERRORS:
            check()  # HDF5 fails on what could not be written: raise the cause instead
            raise
        check()
