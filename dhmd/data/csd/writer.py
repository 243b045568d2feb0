"""Writing of `.csd` files that the CMU-MultimodalSDK reads: whole or not at all, byte-stable."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.base.files import whole_file
from dhmd.base.hdf5 import writing
from dhmd.data.csd.metadata import SDK_KEYS


def write_sequence(
    path: Path,
    *,
    root_name: str,
    entries: Iterable[tuple[str, np.ndarray[Any, Any], np.ndarray[Any, Any]]],
    metadata: Mapping[str, object] | None,
    dimension_names: tuple[str, ...] | None = None,
) -> None:
    """Write a computational sequence; `entries` may be a generator and is consumed one at a time.

    Args:
        path: the file; it appears whole or not at all. The same arguments give the same bytes.
        root_name: name of the root group.
        entries: (entry id, features `[T, d]` numbers or words, intervals `[T, 2]` seconds). Words
            (str or bytes) are stored as fixed-width UTF-8 byte strings, as CMU's files do.
        metadata: values that JSON can hold; the keys that the SDK wants are filled in.
        dimension_names: names of the d feature columns.

    Raises:
        DhmdError: a shape does not fit, an id comes twice or holds a `/`, or the disk is full.
    """
    path = Path(path)
    values: dict[str, object] = {**SDK_KEYS, **(metadata or {}), "root name": root_name}
    if dimension_names is not None:
        values["dimension names"] = list(dimension_names)
    with whole_file(path) as temporary, writing(temporary, path) as (file, check):
        data = file.create_group(root_name).create_group("data")
        for entry_id, features, intervals in entries:
            _write_entry(data, path, entry_id, np.asarray(features), np.asarray(intervals))
            check()
        group = file[root_name].create_group("metadata")
        for key in sorted(values):
            text = json.dumps(values[key], ensure_ascii=False)
            group.create_dataset(key, data=[text], dtype=h5py.string_dtype(), track_times=False)


def _write_entry(
    data: Any,
    path: Path,
    entry_id: str,
    features: np.ndarray[Any, Any],
    intervals: np.ndarray[Any, Any],
) -> None:
    where = f"cannot write {path}: entry {entry_id!r}"
    if not entry_id or "/" in entry_id or entry_id == ".":
        raise DhmdError(f"{where} is no id; ids are non-empty and hold no /")
    if entry_id in data:
        raise DhmdError(f"{where} comes twice")
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
