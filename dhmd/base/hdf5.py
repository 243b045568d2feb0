"""Read untrusted HDF5 files safely, and write HDF5 files with clear errors."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from dhmd.base.errors import DhmdError, first_line

# h5py raises these exceptions for damaged files.
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

_MAX_COMPRESSION = 1100  # ratio; the best HDF5 filter, deflate, reaches 1032
_SMALL = 1 << 20  # bytes that a dataset may declare without storing any
_LINK = "{}: {!r} is a link, which is not allowed: copy the object to which it points"


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
            f"{path}: not a whole HDF5 file: it is truncated or has another format"
            f" ({first_line(error)}); get the file again"
        ) from error


@contextmanager
def open_checked(path: Path, damaged: str) -> Iterator[h5py.File]:
    """Open a file, check all of its content with `check_group`, and close it.

    Args:
        path: the file.
        damaged: the message if reading fails inside the block; the reason is appended.
    """
    with open_hdf5(path) as file:
        try:
            check_group(file, str(path))
            yield file
        except READ_ERRORS as error:
            raise DhmdError(f"{damaged} ({first_line(error)})") from error


def check_dataset(dataset: h5py.Dataset, where: str) -> None:
    """Check, before a dataset is read, that its values are stored in the file itself.

    An HDF5 dataset can refer to any other file of the machine, and a file of a few kilobytes can
    declare terabytes.

    Raises:
        DhmdError: the dataset refers to another file, declares more than the file stores, or has
            object references.
    """
    if dataset.external or dataset.is_virtual:
        raise DhmdError(
            f"{where} refers to another file, which is not allowed: copy the values into this file"
        )
    if dataset.dtype.hasobject and h5py.check_string_dtype(dataset.dtype) is None:
        raise DhmdError(f"{where} has type {dataset.dtype}, but must have numbers or text")
    stored = dataset.id.get_storage_size()
    if dataset.nbytes > _MAX_COMPRESSION * stored + _SMALL:
        raise DhmdError(
            f"{where} is damaged: it declares {dataset.nbytes:,} bytes, but the file stores"
            f" {stored:,}; get the file again"
        )


def get_item(group: h5py.Group, name: str, where: str) -> Any:
    """Return the item of a group by name, or None; raise DhmdError for a soft or external link."""
    link = group.get(name, getlink=True)
    if link is not None and not isinstance(link, h5py.HardLink):
        raise DhmdError(_LINK.format(where, name))
    return group.get(name)


def check_group(group: h5py.Group, where: str) -> None:
    """Apply the checks of `check_dataset` and `get_item` to everything in a group."""
    # Both h5py functions visit each object once and follow neither soft nor external links. A
    # visitor must return a value instead of raising.
    link = group.visititems_links(
        lambda name, link: None if isinstance(link, h5py.HardLink) else name
    )
    if link is not None:
        raise DhmdError(_LINK.format(where, link))
    datasets: dict[str, h5py.Dataset] = {}
    group.visititems(
        lambda name, item: datasets.update({name: item} if isinstance(item, h5py.Dataset) else {})
    )
    for name, dataset in datasets.items():
        check_dataset(dataset, f"{where}: {name!r}")


class _Sink(io.RawIOBase):
    """A file object for h5py that ignores all writes after the first failed one.

    After a failed write (a full disk), HDF5 cannot close the file: it fails again for every open
    object and may crash the process. So this class hides the error from HDF5 and stores it in
    `error`, and `create_hdf5` raises it.
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
        position = 0
        while position < len(view) and (count := self._file.readinto(view[position:])):
            position += count
        view[position:] = bytes(len(view) - position)  # bytes that were never written are zeros
        return len(view)

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        position = 0
        while self.error is None and position < len(view):
            try:
                position += self._file.write(view[position:]) or 0
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
def create_hdf5(temporary: Path, target: Path) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """Create an HDF5 file at `temporary`; messages name `target`.

    The same calls write the same bytes, provided that datasets are created with
    `track_times=False`.

    Yields:
        The file, and a function that raises if a write has failed; call it repeatedly during a long
        write to stop early.
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
            check()  # raise the failed write instead of the HDF5 error that it caused
            raise
        check()
