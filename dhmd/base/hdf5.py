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
import numpy as np

from dhmd.base.errors import DhmdError, first_line

# What h5py raises on damaged files: HDF5's own errors come as these built-ins.
READ_ERRORS = (
    OSError,
    RuntimeError,
    KeyError,
    ValueError,
    TypeError,
    IndexError,
    MemoryError,
    AttributeError,  # a group where a dataset should be, or the other way round
)


# No filter of HDF5 packs bytes more tightly than this (deflate: 1 to 1032).
TIGHTEST = 1100
_SMALL = 1 << 20
_DEEPEST = 16
_UNDEFINED = 2**64 - 1


def refuse_traps(dataset: Any, where: str) -> None:
    """Refuse a dataset that claims more than its file holds, or lies outside it, before it is read.

    HDF5 lets a file of a few KB describe arrays of TB, and name other files of the machine as the
    place of its data. References and lists of varying length, text apart, are refused too: no file
    of ours holds any, and they point into heaps that `check_heaps` does not know.

    Raises:
        DhmdError: `where` and what is wrong.
    """
    if dataset.external or dataset.is_virtual:
        raise DhmdError(f"{where} lies in another file: refused, everything must be in one")
    if dataset.dtype.hasobject and h5py.check_string_dtype(dataset.dtype) is None:
        raise DhmdError(f"{where} holds neither numbers nor text: refused")
    held = dataset.id.get_storage_size()
    if dataset.nbytes > TIGHTEST * held + _SMALL:
        raise DhmdError(
            f"{where} is damaged: it describes {dataset.nbytes:,} bytes and the file holds {held:,}"
        )


def check_heaps(dataset: Any, where: str) -> None:
    """Refuse a dataset of text of varying length whose heap is damaged: HDF5 loops in it for ever.

    The dataset holds a reference for each text (its length, 4 bytes; the heap's address, 8; an
    index, 4). A heap is `GCOL`, its size at byte 8, then from byte 16 on objects of 16 bytes (index
    in the first 2, size in the last 8) with their data behind them, padded to 8. (Source: HDF5's
    file format specification, III.E.) Datasets in pieces are not looked into.

    Raises:
        DhmdError: `where` and what is wrong.
    """
    start = dataset.id.get_offset()
    if start is None or h5py.check_string_dtype(dataset.dtype) is None:
        return
    if dataset.dtype.kind != "O":
        return
    base = dataset.file.userblock_size
    with open(dataset.file.filename, "rb") as stream:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(start + base)
        texts = stream.read(16 * int(dataset.size))
        # Each text has its own place: one of a MB named a million times would be a TB.
        lengths = np.frombuffer(texts[: len(texts) // 16 * 16], dtype="<u4")[::4]
        if int(lengths.sum(dtype=np.uint64)) > size:
            raise DhmdError(f"{where} is damaged: its texts are longer than the file")
        known = {
            int.from_bytes(texts[at + 4 : at + 12], "little") for at in range(0, len(texts), 16)
        }
        for address in sorted(known - {0, _UNDEFINED}):
            stream.seek(min(address + base, size))
            head = stream.read(16)
            length = int.from_bytes(head[8:16], "little")
            if head[:4] != b"GCOL" or not 16 <= length <= size:
                raise DhmdError(f"{where} is damaged: its texts point to nothing")
            _check_heap(head + stream.read(length - 16), where)


def _check_heap(heap: bytes, where: str) -> None:
    at = 16
    while at + 16 <= len(heap):
        index = int.from_bytes(heap[at : at + 2], "little")
        size = int.from_bytes(heap[at + 8 : at + 16], "little")
        # Index 0 is the free space at the end, with its own 16 bytes counted in.
        step = size if index == 0 else 16 + -(-size // 8) * 8
        if step < 16 or step > len(heap) - at:
            raise DhmdError(f"{where} is damaged: the heap of its texts is broken")
        at += step


def refuse_all_traps(
    group: Any, where: str, depth: int = 0, seen: set[tuple[int, int]] | None = None
) -> None:
    """`refuse_traps` for everything below a group, and only what lies in the file itself.

    `seen` holds the groups' addresses: one that holds itself ten times over would never end.

    Raises:
        DhmdError: `where` and what is wrong.
    """
    if depth > _DEEPEST:
        raise DhmdError(f"{where} is damaged: its groups lie too deep in one another")
    seen = set() if seen is None else seen
    info = h5py.h5o.get_info(group.id)
    if (info.fileno, info.addr) in seen:
        raise DhmdError(f"{where} is damaged: a group lies in it twice")
    seen.add((info.fileno, info.addr))
    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise DhmdError(f"{where}: {name!r} is a link to elsewhere: refused")
        item = group[name]
        if isinstance(item, h5py.Group):
            refuse_all_traps(item, where, depth + 1, seen)
        elif isinstance(item, h5py.Dataset):
            refuse_traps(item, f"{where}: {name!r}")


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
