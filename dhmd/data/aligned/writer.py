"""Write the aligned features file incrementally; an unfinished file does not appear.

The memory is constant: rows are written to chunked datasets in blocks, and the train statistics are
computed from the file block by block (the update of Chan, Golub and LeVeque). Equal content gives
equal bytes. The schema is in dhmd/data/aligned/__init__.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.base.files import atomic_file
from dhmd.base.hdf5 import create_hdf5
from dhmd.data.aligned.corpus import (
    SPLITS,
    Array,
    SegmentTable,
    corpus_identity,
)

SCHEMA = "dhmd-aligned"
SCHEMA_VERSION = 2

TOKEN_FIELDS = ("ids", "mask", "offsets", "types", "steps")

_CHUNK_BYTES = 1 << 18  # size of an HDF5 chunk
_FLUSH_BYTES = 1 << 22  # size of the buffer of each dataset
_STATISTICS_BYTES = 1 << 23  # size of a float64 block of the statistics


class _BufferedDataset:
    """A dataset that grows along its first axis; rows are buffered and written in blocks."""

    def __init__(self, group: Any, name: str, tail: tuple[int, ...], dtype: Any) -> None:
        text = h5py.check_string_dtype(dtype) is not None
        self._row_bytes = int(np.prod((1, *tail))) * (16 if text else dtype.itemsize)
        self.dataset = group.create_dataset(
            name,
            shape=(0, *tail),
            maxshape=(None, *tail),
            chunks=(max(1, _CHUNK_BYTES // self._row_bytes), *(max(1, size) for size in tail)),
            dtype=dtype,
            fletcher32=not text,  # HDF5 has no checksums for variable-length text
            # Fast; text vectors and per-segment audio repeat rows and shrink to a fifth.
            compression=None if text else "lzf",
            shuffle=not text,
            track_times=False,
        )
        self._buffer: list[Any] = []
        self._buffered_rows = 0

    def append(self, rows: Any) -> None:
        self._buffer.append(rows)
        self._buffered_rows += len(rows)
        if self._buffered_rows * self._row_bytes >= _FLUSH_BYTES:
            # Only whole chunks: HDF5 would have to decompress and compress a partial one again.
            self._write(self._buffered_rows - self._buffered_rows % self.dataset.chunks[0])

    def flush(self) -> None:
        if self._buffered_rows:
            self._write(self._buffered_rows)

    def _write(self, count: int) -> None:
        rows, written = np.concatenate(self._buffer), len(self.dataset)
        self.dataset.resize(written + count, axis=0)
        self.dataset[written:] = rows[:count]
        self._buffered_rows -= count
        self._buffer = [rows[count:].copy()]


@contextmanager
def aligned_writer(
    path: Path, feature_names: Mapping[str, tuple[str, ...]], *, words: bool
) -> Iterator[AlignedWriter]:
    """Open the file for writing; the block must end with a call of `AlignedWriter.finish`.

    Args:
        path: the file; it appears only when it is complete.
        feature_names: the d feature names of each modality.
        words: whether segments have words.

    Yields:
        The writer.
    """
    with atomic_file(path) as temporary, create_hdf5(temporary, path) as (file, check):
        yield AlignedWriter(path, file, check, feature_names, words=words)


class AlignedWriter:
    """A writer of features and words of segments; `finish` writes the table of segments.

    The modalities may be appended in any order, but each in the order of the segments.
    """

    def __init__(
        self,
        path: Path,
        file: Any,
        check_disk: Callable[[], None],
        feature_names: Mapping[str, tuple[str, ...]],
        *,
        words: bool,
    ) -> None:
        self._path, self._file, self._check_disk = path, file, check_disk
        self._names = {modality: tuple(names) for modality, names in feature_names.items()}
        self._lengths: dict[str, list[Array]] = {modality: [] for modality in self._names}
        self._word_lengths: list[Array] = []
        features = file.create_group("features")
        self._values = {
            modality: _BufferedDataset(
                features.create_group(modality), "values", (len(names),), np.dtype(np.float32)
            )
            for modality, names in self._names.items()
        }
        self._words = None
        if words:
            group = file.create_group("words")
            self._words = (
                _BufferedDataset(group, "text", (), h5py.string_dtype()),
                _BufferedDataset(group, "intervals", (2,), np.dtype(np.float64)),
            )

    def append(self, modality: str, values: Array, lengths: Array) -> None:
        """Append the rows of n segments of one modality.

        Args:
            modality: the modality's name.
            values: float32 `[ΣT, d]`, finite.
            lengths: the number of rows of each segment, `[n]`.
        """
        values = np.ascontiguousarray(values, dtype=np.float32)
        lengths = np.asarray(lengths, dtype=np.int64)
        shape = (int(lengths.sum()), len(self._names[modality]))
        if values.shape != shape:
            raise DhmdError(
                f"{self._path}: features of {modality} have shape {values.shape}, expected {shape}"
            )
        if not np.isfinite(values).all():
            raise DhmdError(
                f"{self._path}: features of {modality} are not finite; clean them before writing"
            )
        self._values[modality].append(values)
        self._check_disk()
        self._lengths[modality].append(lengths)

    def append_words(self, words: Sequence[str], intervals: Array, lengths: Array) -> None:
        """Append the words of n segments.

        Args:
            words: ΣT words.
            intervals: start and end in seconds, `[ΣT, 2]`, NaN if unknown.
            lengths: the number of words of each segment, `[n]`.
        """
        assert self._words is not None
        text, times = self._words
        text.append(np.array([str(word) for word in words], dtype=object))
        times.append(np.asarray(intervals, dtype=np.float64).reshape(-1, 2))
        self._word_lengths.append(np.asarray(lengths, dtype=np.int64))

    def finish(self, table: SegmentTable) -> None:
        """Write the table of segments, and compute the statistics of every fold.

        Raises:
            DhmdError: with alignment "word", the lengths of two modalities differ.
        """
        offsets = {modality: _offsets(lengths) for modality, lengths in self._lengths.items()}
        first = table.modalities[0]
        for name, values in offsets.items():
            if table.alignment == "word" and not np.array_equal(values, offsets[first]):
                raise DhmdError(
                    f"{self._path}: {first} and {name} have different segment lengths, but "
                    "alignment 'word' requires equal ones"
                )
        file = self._file
        for modality, names in self._names.items():
            self._values[modality].flush()
            group = file["features"][modality]
            _dataset(group, "offsets", offsets[modality])
            _strings(group, "names", names)
        if self._words is not None:
            for rows in self._words:
                rows.flush()
            _dataset(file["words"], "offsets", _offsets(self._word_lengths))
        _write_table(file, table)
        for fold, split_N in table.folds.items():
            group = file.create_group(f"folds/{fold}")
            codes = np.array([SPLITS.index(split) for split in split_N], dtype=np.uint8)
            _dataset(group, "split", codes)
            group.attrs["identity"] = corpus_identity(
                name=table.name,
                recipe=table.recipe,
                fold=fold,
                ids=table.ids,
                split_N=split_N,
                labels_N=table.labels_N,
                sources=table.sources,
            )
            statistics = group.create_group("statistics")
            for m, modality in enumerate(table.modalities):
                use_N = (split_N == "train") & table.present_NM[:, m].astype(bool)
                values = self._values[modality].dataset
                _dataset(statistics, modality, _statistics(values, offsets[modality], use_N))


def _write_table(file: Any, table: SegmentTable) -> None:
    file.attrs["schema"] = SCHEMA
    file.attrs["schema_version"] = SCHEMA_VERSION
    file.attrs["name"] = table.name
    file.attrs["task"] = table.task
    file.attrs["low"] = float(table.low)
    file.attrs["high"] = float(table.high)
    file.attrs["alignment"] = table.alignment
    for key, names in (
        ("modalities", table.modalities),
        ("class_names", table.class_names),
        ("folds", tuple(table.folds)),
    ):
        file.attrs[key] = json.dumps(list(names), ensure_ascii=False)
    _strings(file, "ids", table.ids)
    _strings(file, "videos", table.videos)
    _dataset(file, "labels", np.asarray(table.labels_N, dtype=np.float32))
    _dataset(file, "present", np.asarray(table.present_NM).astype(np.uint8))
    if table.planted:
        group = file.create_group("planted")
        # Names may contain a slash, which names of datasets must not.
        _strings(group, "names", tuple(table.planted))
        columns = [np.asarray(values, dtype=np.float64) for values in table.planted.values()]
        _dataset(group, "values", np.stack(columns, axis=1))
    if table.tokens is not None:
        group = file.create_group("tokens")
        for name in TOKEN_FIELDS:
            dtype = bool if name == "mask" else np.int64
            _dataset(group, name, np.asarray(getattr(table.tokens, name)).astype(dtype))
    # These are datasets because attributes are limited to 64 KiB.
    _strings(file, "sources", [json.dumps(dict(table.sources), sort_keys=True)])
    _strings(file, "report", [json.dumps(dict(table.report), sort_keys=True)])


def _dataset(group: Any, name: str, values: Array) -> None:
    size = int(values.size)
    group.create_dataset(
        name,
        data=values,
        chunks=values.shape if 0 < size * values.itemsize <= _CHUNK_BYTES else bool(size) or None,
        fletcher32=size > 0,
        track_times=False,
    )


def _strings(group: Any, name: str, values: Sequence[str]) -> None:
    group.create_dataset(name, data=list(values), dtype=h5py.string_dtype(), track_times=False)


def _offsets(lengths: Sequence[Array]) -> Array:
    return np.cumsum(np.concatenate([np.zeros(1, np.int64), *lengths]), dtype=np.int64)


def _statistics(values: Any, offsets: Array, use_N: Array) -> Array:
    """Return mean and standard deviation `[2, d]` over the rows of the segments in `use_N`."""
    rows, width = values.shape
    use = np.repeat(use_N, np.diff(offsets))
    step = max(1, _STATISTICS_BYTES // (8 * max(1, width)))
    count, mean_d, squares_d = 0, np.zeros(width), np.zeros(width)
    for start in range(0, rows, step):
        selected = use[start : start + step]
        if not selected.any():
            continue
        block = values[start : start + step][selected].astype(np.float64)
        block_mean_d = block.mean(axis=0)
        block -= block_mean_d
        delta_d = block_mean_d - mean_d
        total = count + len(block)
        squares_d += (block**2).sum(axis=0) + delta_d**2 * (count * len(block) / total)
        mean_d += delta_d * (len(block) / total)
        count = total
    std_d = np.sqrt(squares_d / max(1, count))
    # A dimension that is constant up to float32 rounding must not be scaled to unit variance.
    std_d[std_d <= 1e-7 * np.abs(mean_d)] = 1.0
    return np.stack([mean_d, std_d])
