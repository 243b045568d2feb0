"""HDF5 files written whole or not at all, and the exceptions by which h5py reports damage.

When a write fails (a full disk), HDF5 cannot close the file any more: it repeats the failure for
every open object and then may crash the process. So HDF5 writes through a sink that never fails
towards it; the sink remembers the first error, and the writer raises it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from dhmd.base.errors import DhmdError, first_line

# What h5py raises on damaged files: HDF5's own errors come as these built-ins.
READ_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, MemoryError)


class _Sink(io.RawIOBase):
    """A file for h5py's file-object driver: after the first failed write it swallows the rest."""

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
def writing(
    temporary: Path, target: Path, **options: Any
) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """Open `temporary` for writing and close it; `target` is named in the sentence of a failure.

    Yields:
        the file (`options` go to h5py), and a function that raises as soon as a write has failed:
        long writers call it now and then, to stop early.

    Raises:
        DhmdError: the disk is full or the folder cannot be written.
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
            with h5py.File(sink, "w", **options) as file:
                yield file, check
        except READ_ERRORS:
            check()  # HDF5 trips over what could not be written: say what came first
            raise
        check()
