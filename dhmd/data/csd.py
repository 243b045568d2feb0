"""Computational sequences (`.csd`): the HDF5 files of the CMU-MultimodalSDK, read and written.

Layout: one root group with any name; `/<root>/data/<entry id>/features` `[T, d]` with
`/<root>/data/<entry id>/intervals` `[T, 2]` in seconds; `/<root>/metadata/<key>`, one string each.
An entry id is a video id, or, in files written by an alignment, `video[i]`: the i-th piece of it.

Invalid metadata are accepted as text, invalid data are errors. Opening a file reads only ids and
metadata, and `read` loads one entry, so a file of 12 GB needs no more memory than one video.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import atomic_file
from dhmd.base.hdf5 import READ_ERRORS, check_dataset, create_hdf5, get_item, open_hdf5

Array = np.ndarray[Any, Any]

# The metadata key under which dhmd/media/extractor.py records how the features were computed.
EXTRACTOR_KEY = "extractor"

# The metadata keys that the SDK requires, with their default values.
SDK_KEYS: dict[str, object] = {
    "root name": "",
    "computational sequence description": "",
    "computational sequence version": "1.0",
    "alignment compatible": True,
    "dataset name": "",
    "dataset version": "1.0",
    "creator": "",
    "contact": "",
    "featureset bib citation": "",
    "dataset bib citation": "",
    "md5": None,
}

# At most 18 digits: Python does not convert text of thousands of digits to an int.
_SEGMENT_ID = re.compile(r"(?P<video>.+)\[(?P<row>\d{1,18})\]", re.DOTALL)


def segment_id(video: str, row: int) -> str:
    """Return the segment id `video[row]`, as the SDK names the rows of its reference."""
    return f"{video}[{row}]"


def video_of(segment: str) -> str:
    """Return the video of a segment id `video[i]`; an id without `[i]` is returned unchanged."""
    match = _SEGMENT_ID.fullmatch(segment)
    return match["video"] if match else segment


def segment_row(segment: str) -> int | None:
    """Return the row i of a segment id `video[i]`, or None for an id without `[i]`."""
    match = _SEGMENT_ID.fullmatch(segment)
    return int(match["row"]) if match else None


@dataclass(frozen=True, eq=False)
class Entry:
    """One entry of a sequence.

    Attributes:
        features: `[T, d]` numbers of the file's data type, or `[T, 1]` str objects for words.
        intervals: `[T, 2]` float64 seconds, finite, each end at or after its start. Rows are in
            the file's order, which label files do not sort by time.
    """

    features: Array
    intervals: Array


class ComputationalSequence:
    """An open `.csd` file; a context manager.

    Attributes:
        path: the file.
        root_name: the root group's name.
        metadata: the metadata values by key, parsed if possible, else the text itself.
        dimension_names: the names of the feature columns from the metadata, or None.
        ids: the entries' ids, sorted.

    Raises:
        DhmdError: the file is absent, locked, truncated, or not a computational sequence.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise DhmdError(f"{self.path}: no such computational sequence; download it first")
        self._file = open_hdf5(self.path)
        try:
            self._open()
        except (DhmdError, *READ_ERRORS) as error:
            self._file.close()
            raise error if isinstance(error, DhmdError) else self._damaged(error) from error

    def _open(self) -> None:
        roots = [
            name
            for name in self._file
            if isinstance(root := get_item(self._file, name, str(self.path)), h5py.Group)
            and isinstance(get_item(root, "data", str(self.path)), h5py.Group)
        ]
        if len(roots) != 1:
            raise DhmdError(
                f"{self.path}: a .csd has one root group with a group `data` in it,"
                f" this file has {len(roots)}"
            )
        self.root_name = str(roots[0])
        root = self._file[self.root_name]
        self._data = root["data"]
        self.ids: tuple[str, ...] = tuple(sorted(self._entry_ids(self._data, "")))
        if not self.ids:
            raise DhmdError(f"{self.path}: the sequence {self.root_name!r} has no entries")
        self.metadata: dict[str, object] = {}
        metadata = root.get("metadata")
        if isinstance(metadata, h5py.Group):
            for key in metadata:
                value = get_item(metadata, key, f"{self.path}: metadata")
                if isinstance(value, h5py.Dataset) and value.size:
                    check_dataset(value, f"{self.path}: metadata {key!r}")
                    self.metadata[str(key)] = parse_metadata(np.ravel(value[()])[0])
        names = self.metadata.get("dimension names")
        self.dimension_names = (
            tuple(str(name) for name in names) if isinstance(names, list | tuple) else None
        )

    def _entry_ids(self, group: h5py.Group, prefix: str) -> Iterator[str]:
        """Yield the entries' ids; in HDF5, an id with slashes is a group within groups."""
        for name in group:
            entry_id = f"{prefix}{name}"
            item = get_item(group, name, f"{self.path}: entry {entry_id!r}")
            nested = isinstance(item, h5py.Group) and len(item) > 0
            if nested and "features" not in item and "intervals" not in item:
                yield from self._entry_ids(item, f"{entry_id}/")
            else:
                yield entry_id

    def __enter__(self) -> ComputationalSequence:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def inspect(self, entry_id: str) -> tuple[bool, tuple[int, ...]]:
        """Return whether an entry's features are words, and their shape, without loading them."""
        try:
            features = self._dataset(entry_id, "features")
            return features.dtype.kind in "SOU", tuple(map(int, features.shape))
        except READ_ERRORS as error:
            raise self._damaged(error, entry_id) from error

    def read(self, entry_id: str) -> Entry:
        """Load one entry; features with more than two axes are flattened to `[T, d]`.

        Raises:
            DhmdError: there is no such entry, its data are damaged, features and intervals differ
                in length, or an interval is not finite or ends before it starts.
        """
        try:
            features = self._dataset(entry_id, "features")[()]
            intervals = self._dataset(entry_id, "intervals")[()]
        except READ_ERRORS as error:
            raise self._damaged(error, entry_id) from error
        where = f"{self.path}: entry {entry_id!r}"
        if not isinstance(features, np.ndarray) or not isinstance(intervals, np.ndarray):
            raise DhmdError(f"{where} has a single value where rows are expected")
        if intervals.shape == (2,) and features.ndim == 1:  # one row, written without its axis
            intervals, features = intervals[None], features[None]
        if not intervals.size and not features.size:  # an entry without rows, in any shape
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
        where = f"{self.path}: entry {entry_id!r}"
        group = self._data.get(entry_id)
        dataset = get_item(group, part, where) if isinstance(group, h5py.Group) else None
        if not isinstance(dataset, h5py.Dataset):
            raise DhmdError(f"{where} has no dataset `{part}`")
        check_dataset(dataset, f"{where}, {part}")
        return dataset

    def _damaged(self, error: BaseException, entry_id: str | None = None) -> DhmdError:
        item = "the file" if entry_id is None else f"entry {entry_id!r}"
        return DhmdError(
            f"{self.path}: {item} cannot be read, it is damaged ({first_line(error)});"
            " download the file again"
        )


open_sequence = ComputationalSequence


def _as_text(features: Array, where: str) -> Array:
    words = np.empty(features.shape, dtype=object)
    for index, word in np.ndenumerate(features):
        if not isinstance(word, str | bytes):
            raise DhmdError(f"{where} has a {type(word).__name__} among its words")
        words[index] = _decode(word) if isinstance(word, bytes) else str(word)
        if "\0" in words[index]:
            raise DhmdError(f"{where} is damaged: there is a zero byte in the word {word!r}")
    return words


def _check_intervals(intervals: Array, where: str) -> None:
    for invalid, problem in (
        (~np.isfinite(intervals).all(axis=1), "is not finite"),
        (intervals[:, 1] < intervals[:, 0], "ends before it starts"),
    ):
        if invalid.any():
            row = int(np.flatnonzero(invalid)[0])
            start, end = intervals[row]
            raise DhmdError(f"{where}, row {row}: interval [{start}, {end}] {problem}")


def parse_metadata(raw: object) -> object:
    """Parse one metadata value as JSON, else as a Python literal; else return the text itself.

    Published files contain all three. No value is an error, because no computation uses it.
    """
    if isinstance(raw, bytes):
        raw = _decode(raw)
    if not isinstance(raw, str):
        return raw
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(raw)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return raw
        return parse_metadata(value) if isinstance(value, bytes) else value


def _decode(raw: bytes) -> str:
    """Decode UTF-8, or else Latin-1, which older files use and which never fails."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def write_sequence(
    path: Path,
    *,
    root_name: str,
    entries: Iterable[tuple[str, Array, Array]],
    metadata: Mapping[str, object] | None = None,
    dimension_names: tuple[str, ...] | None = None,
) -> None:
    """Write a computational sequence that the SDK reads.

    Args:
        path: the file; it is written atomically. The same arguments give the same bytes.
        root_name: the name of the root group.
        entries: (entry id, features `[T, d]` numbers or words, intervals `[T, 2]` seconds), read
            one at a time. Words (str or bytes) are stored as fixed-width UTF-8 byte strings, as in
            CMU's files.
        metadata: values that JSON can represent; keys that the SDK requires get defaults.
        dimension_names: the names of the d feature columns.

    Raises:
        DhmdError: a shape does not fit, an id is empty, occurs twice or has a `/`, or the disk is
            full.
    """
    path = Path(path)
    values: dict[str, object] = {**SDK_KEYS, **(metadata or {}), "root name": root_name}
    if dimension_names is not None:
        values["dimension names"] = list(dimension_names)
    with atomic_file(path) as temporary, create_hdf5(temporary, path) as (file, check):
        data = file.create_group(root_name).create_group("data")
        for entry_id, features, intervals in entries:
            _write_entry(data, path, entry_id, np.asarray(features), np.asarray(intervals))
            check()
        group = file[root_name].create_group("metadata")
        for key in sorted(values):
            text = json.dumps(values[key], ensure_ascii=False)
            group.create_dataset(key, data=[text], dtype=h5py.string_dtype(), track_times=False)


def _write_entry(
    data: h5py.Group, path: Path, entry_id: str, features: Array, intervals: Array
) -> None:
    where = f"cannot write {path}: entry {entry_id!r}"
    if not entry_id or "/" in entry_id or entry_id == ".":
        raise DhmdError(f"{where} is not a valid id; ids are non-empty and have no /")
    if entry_id in data:
        raise DhmdError(f"{where} occurs twice")
    if features.ndim < 2 or intervals.shape != (len(features), 2):
        raise DhmdError(
            f"{where} has features {features.shape} and intervals {intervals.shape},"
            " expected [T, d] and [T, 2]"
        )
    if features.dtype.kind in "OU":
        encoded = [
            word if isinstance(word, bytes) else str(word).encode("utf-8")
            for word in features.ravel()
        ]
        width = max((len(word) for word in encoded), default=0) or 1
        features = np.array(encoded, dtype=f"S{width}").reshape(features.shape)
    group = data.create_group(entry_id)
    group.create_dataset("features", data=features, track_times=False)
    group.create_dataset("intervals", data=intervals, track_times=False)
