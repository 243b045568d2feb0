"""Lazy reading of `.csd` files: tolerant of metadata, strict about data.

Opening reads ids and metadata only; `read` loads one entry, so a 12 GB file costs one video's
memory. Every defect becomes one sentence that names the file and the entry.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.hdf5 import READ_ERRORS, check_heaps, refuse_traps
from dhmd.data.csd.metadata import decode_text, parse_dimension_names, parse_value


@dataclass(frozen=True, eq=False)
class Entry:
    """One video of one sequence.

    Attributes:
        features: `[T, d]` numbers in the file's own type, or `[T, 1]` objects (str) for words.
        intervals: `[T, 2]` float64 seconds, finite, each end at or after its start. Rows keep the
            file's order, which in label files need not be time's.
    """

    features: np.ndarray[Any, Any]
    intervals: np.ndarray[Any, Any]


class ComputationalSequence:
    """An open `.csd` file; use it as a context manager.

    Attributes:
        path: the file.
        root_name: the root group's name.
        metadata: key -> value, parsed where it parses, else the text as found.
        dimension_names: from the metadata, or None.
        ids: the entries' ids, sorted.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise DhmdError(f"{self.path}: no such computational sequence; download it first")
        try:
            self._file = h5py.File(self.path, "r")
        except READ_ERRORS as error:
            raise DhmdError(
                f"{self.path}: not a whole HDF5 file, so truncated or not a .csd"
                f" ({first_line(error)}); fetch it again"
            ) from error
        try:
            self._open()
        except DhmdError:
            self._file.close()
            raise
        except READ_ERRORS as error:
            self._file.close()
            raise self._damaged(error) from error

    def _open(self) -> None:
        roots = [
            name
            for name in self._file
            if isinstance(root := self._own(self._file, name, str(self.path)), h5py.Group)
            and isinstance(self._own(root, "data", str(self.path)), h5py.Group)
        ]
        if len(roots) != 1:
            raise DhmdError(
                f"{self.path}: a .csd holds one root group with a group `data` in it,"
                f" this file holds {len(roots)}"
            )
        self.root_name = str(roots[0])
        root = self._file[self.root_name]
        self._data = root["data"]
        self.ids: tuple[str, ...] = tuple(sorted(self._data))
        self._known = frozenset(self.ids)
        if not self.ids:
            raise DhmdError(f"{self.path}: the sequence {self.root_name!r} holds no entries")
        self.metadata: dict[str, object] = {}
        metadata = root.get("metadata")
        if isinstance(metadata, h5py.Group):
            for key in metadata:
                value = self._own(metadata, key, f"{self.path}: metadata")
                if isinstance(value, h5py.Dataset) and value.size:
                    refuse_traps(value, f"{self.path}: metadata {key!r}")
                    check_heaps(value, f"{self.path}: metadata {key!r}")
                    self.metadata[str(key)] = parse_value(np.ravel(value[()])[0])
        self.dimension_names = parse_dimension_names(self.metadata.get("dimension names"))

    def __enter__(self) -> ComputationalSequence:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __contains__(self, entry_id: object) -> bool:
        return entry_id in self._known

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def shape(self, entry_id: str) -> tuple[int, ...]:
        """The shape of an entry's features, without reading them."""
        try:
            return tuple(int(size) for size in self._dataset(entry_id, "features").shape)
        except READ_ERRORS as error:
            raise self._damaged(error, entry_id) from error

    def is_text(self, entry_id: str) -> bool:
        """Whether an entry's features are words, without reading them."""
        try:
            return self._dataset(entry_id, "features").dtype.kind in "SOU"
        except READ_ERRORS as error:
            raise self._damaged(error, entry_id) from error

    def read(self, entry_id: str) -> Entry:
        """Load one entry (features of more than two axes are flattened to `[T, d]`).

        Raises:
            DhmdError: no such entry, damaged data, features and intervals of different length,
                an interval that is not finite or ends before it starts.
        """
        try:
            features = self._dataset(entry_id, "features")[()]
            intervals = self._dataset(entry_id, "intervals")[()]
        except READ_ERRORS as error:
            raise self._damaged(error, entry_id) from error
        where = f"{self.path}: entry {entry_id!r}"
        if not isinstance(features, np.ndarray) or not isinstance(intervals, np.ndarray):
            raise DhmdError(f"{where} holds a single value where rows are expected")
        if intervals.shape == (2,) and features.ndim == 1:  # one row, written without its axis
            intervals, features = intervals[None], features[None]
        if not intervals.size and not features.size:  # an entry without rows, in whatever shape
            intervals = np.zeros((0, 2))
            features = features.reshape((0, *(features.shape[1:] or (0,))))
        if intervals.ndim != 2 or intervals.shape[1] != 2 or intervals.dtype.kind not in "fiu":
            raise DhmdError(
                f"{where} has intervals of shape {intervals.shape} and type {intervals.dtype},"
                " expected [T, 2] seconds"
            )
        if features.ndim < 2:
            raise DhmdError(f"{where} has features of shape {features.shape}, expected [T, d]")
        if len(features) != len(intervals):
            raise DhmdError(
                f"{where} has {len(features)} rows of features but {len(intervals)} intervals"
            )
        if features.ndim > 2:
            features = features.reshape(len(features), -1)
        if features.dtype.kind in "SOU":
            features = _as_text(features, where)
        elif features.dtype.kind not in "fiub":
            raise DhmdError(f"{where} has features of type {features.dtype}, expected numbers")
        intervals = intervals.astype(np.float64)
        _check_intervals(intervals, where)
        return Entry(features=features, intervals=intervals)

    def _dataset(self, entry_id: str, part: str) -> Any:
        if entry_id not in self._known:
            raise DhmdError(f"{self.path}: no entry {entry_id!r} in the sequence")
        where = f"{self.path}: entry {entry_id!r}"
        group = self._own(self._data, entry_id, where)
        dataset = self._own(group, part, where) if isinstance(group, h5py.Group) else None
        if not isinstance(dataset, h5py.Dataset):
            raise DhmdError(f"{where} has no dataset `{part}`")
        refuse_traps(dataset, f"{where}, {part}")
        check_heaps(dataset, f"{where}, {part}")
        return dataset

    @staticmethod
    def _own(group: Any, name: str, where: str) -> Any:
        """What lies under a name in this very file; None where there is nothing."""
        link = group.get(name, getlink=True)
        if link is not None and not isinstance(link, h5py.HardLink):
            raise DhmdError(f"{where}: {name!r} is a link to elsewhere: refused")
        return group.get(name)

    def _damaged(self, error: BaseException, entry_id: str | None = None) -> DhmdError:
        what = "the file" if entry_id is None else f"entry {entry_id!r}"
        return DhmdError(
            f"{self.path}: {what} cannot be read, it is damaged ({first_line(error)});"
            " fetch it again"
        )


def _as_text(features: np.ndarray[Any, Any], where: str) -> np.ndarray[Any, Any]:
    words = np.empty(features.shape, dtype=object)
    for at, word in np.ndenumerate(features):
        if isinstance(word, bytes):
            words[at] = decode_text(word)
        elif isinstance(word, str):
            words[at] = str(word)
        else:
            raise DhmdError(f"{where} has a {type(word).__name__} among its words")
        if "\0" in words[at]:
            raise DhmdError(f"{where} is damaged: a zero byte stands within the word {word!r}")
    return words


def _check_intervals(intervals: np.ndarray[Any, Any], where: str) -> None:
    bad = np.flatnonzero(~np.isfinite(intervals).all(axis=1))
    if bad.size:
        start, end = intervals[bad[0]]
        raise DhmdError(f"{where}, row {bad[0]}: interval [{start}, {end}] is not finite")
    bad = np.flatnonzero(intervals[:, 1] < intervals[:, 0])
    if bad.size:
        start, end = intervals[bad[0]]
        raise DhmdError(f"{where}, row {bad[0]}: interval [{start}, {end}] ends before it starts")


def open_sequence(path: Path) -> ComputationalSequence:
    """Open a `.csd` file for reading.

    Raises:
        DhmdError: the file is absent, truncated, or not a computational sequence.
    """
    return ComputationalSequence(Path(path))
