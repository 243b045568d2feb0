"""Writing the aligned features file, whole or not at all, features appended as they come.

Memory stays flat: rows go into chunked datasets in blocks, and the train statistics are merged
block by block (Chan, Golub and LeVeque's update) from what was written. The same content gives the
same bytes. The schema is in dhmd/data/aligned/__init__.py.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.base.files import whole_file
from dhmd.base.hdf5 import writing
from dhmd.data.aligned.corpus import (
    SPLITS,
    Array,
    CorpusData,
    SegmentTable,
    Statistics,
    corpus_identity,
    offsets_of,
)
from dhmd.data.aligned.folds import check_split

SCHEMA = "dhmd-aligned"
SCHEMA_VERSION = 2

TOKENS = ("ids", "mask", "offsets", "types", "steps")

_CHUNK_BYTES = 1 << 18  # of one dataset's chunk
_FLUSH_BYTES = 1 << 22  # rows are held back until there are this many bytes
_STATISTICS_ROWS_BYTES = 1 << 23  # of float64 at once


class _Appended:
    """A dataset that grows by its first axis, written in blocks."""

    def __init__(self, group: Any, name: str, tail: tuple[int, ...], dtype: Any) -> None:
        width = max(1, int(np.prod(tail, dtype=np.int64)))
        text = h5py.check_string_dtype(dtype) is not None
        item = 16 if text else dtype.itemsize
        self._dataset = group.create_dataset(
            name,
            shape=(0, *tail),
            maxshape=(None, *tail),
            chunks=(max(1, _CHUNK_BYTES // (width * item)), *(max(1, size) for size in tail)),
            dtype=dtype,
            fletcher32=not text,  # HDF5 sums only what it stores in place
            # Light: real text and per-segment audio repeat rows, and shrink fivefold at no cost.
            compression=None if text else "lzf",
            shuffle=not text,
            track_times=False,
        )
        self._row_bytes = width * item
        self._held: list[Any] = []
        self._held_rows = 0
        self._written = 0

    def append(self, rows: Any) -> None:
        self._held.append(rows)
        self._held_rows += len(rows)
        if self._held_rows * self._row_bytes >= _FLUSH_BYTES:
            # Whole chunks only: HDF5 would read, unpack and pack a half-filled one again.
            self._write(self._held_rows - self._held_rows % self._dataset.chunks[0])

    def flush(self) -> None:
        self._write(self._held_rows)

    def _write(self, count: int) -> None:
        if not count:
            return
        rows = np.concatenate(self._held)
        self._dataset.resize(self._written + count, axis=0)
        self._dataset[self._written :] = rows[:count]
        self._written += count
        self._held_rows -= count
        self._held = [rows[count:].copy()]

    @property
    def dataset(self) -> Any:
        return self._dataset


class AlignedWriter:
    """Appends features and words segment after segment, then `finish`es with the segments' table.

    A context manager: the file appears when the block ends after `finish`, and not at all
    otherwise. Calls of `append` for the modalities may interleave freely; each keeps its order.
    """

    def __init__(
        self, path: Path, feature_names: Mapping[str, tuple[str, ...]], *, words: bool
    ) -> None:
        self._path = Path(path)
        self._names = {modality: tuple(names) for modality, names in feature_names.items()}
        self._with_words = words
        self._lengths: dict[str, list[Array]] = {modality: [] for modality in self._names}
        self._word_lengths: list[Array] = []
        self._finished = False

    def __enter__(self) -> AlignedWriter:
        with ExitStack() as stack:
            temporary = stack.enter_context(whole_file(self._path))
            self._file, self._check = stack.enter_context(writing(temporary, self._path))
            features = self._file.create_group("features")
            self._values = {
                modality: _Appended(
                    features.create_group(modality), "values", (len(names),), np.dtype(np.float32)
                )
                for modality, names in self._names.items()
            }
            if self._with_words:
                group = self._file.create_group("words")
                self._text = _Appended(group, "text", (), h5py.string_dtype())
                self._intervals = _Appended(group, "intervals", (2,), np.dtype(np.float64))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._stack:
            # Raised inside, so that each of the stack's contexts sees it and nothing is left.
            if error is not None:
                raise error
            if not self._finished:
                raise DhmdError(f"{self._path}: the aligned features file was left unfinished")

    def append(self, modality: str, values: Array, lengths: Array) -> None:
        """Append segments of one modality: values `[ΣT, d]` float32, lengths `[n]`.

        Raises:
            DhmdError: a value is not finite, or the shapes do not fit.
        """
        values = np.ascontiguousarray(values, dtype=np.float32)
        lengths = np.asarray(lengths, dtype=np.int64)
        self._check_rows(f"features of {modality}", values, lengths, len(self._names[modality]))
        self._values[modality].append(values)
        self._check()
        self._lengths[modality].append(lengths)

    def append_words(self, words: Sequence[str], intervals: Array, lengths: Array) -> None:
        """Append segments of words: ΣT words, intervals `[ΣT, 2]` seconds, lengths `[n]`."""
        intervals = np.asarray(intervals, dtype=np.float64).reshape(-1, 2)
        lengths = np.asarray(lengths, dtype=np.int64)
        self._check_rows("word intervals", intervals, lengths, 2)
        if len(words) != len(intervals):
            raise DhmdError(f"{self._path}: {len(words)} words but {len(intervals)} intervals")
        self._text.append(np.array([str(word) for word in words], dtype=object))
        self._intervals.append(intervals)
        self._word_lengths.append(lengths)

    def _check_rows(self, what: str, values: Array, lengths: Array, width: int) -> None:
        """Check shapes; features must be finite (word times may be unknown: NaN)."""
        if values.ndim != 2 or values.shape[1] != width:
            raise DhmdError(
                f"{self._path}: {what} have shape {values.shape}, expected [rows, {width}]"
            )
        if lengths.ndim != 1 or (lengths < 0).any() or int(lengths.sum()) != len(values):
            raise DhmdError(
                f"{self._path}: {what}: {len(values)} rows do not fit the segments' lengths"
            )
        if values.dtype == np.float32 and not np.isfinite(values).all():
            raise DhmdError(f"{self._path}: {what} are not finite; clean them before writing")

    def finish(self, table: SegmentTable) -> None:
        """Write everything that has one value per segment, and the statistics of every fold.

        Raises:
            DhmdError: the table contradicts itself or the appended rows.
        """
        offsets = {modality: _offsets(lengths) for modality, lengths in self._lengths.items()}
        word_offsets = _offsets(self._word_lengths) if self._with_words else None
        _check_table(table, offsets, word_offsets, str(self._path))
        file = self._file
        for modality, names in self._names.items():
            self._values[modality].flush()
            group = file["features"][modality]
            _dataset(group, "offsets", offsets[modality])
            _strings(group, "names", names)
        if word_offsets is not None:
            self._text.flush()
            self._intervals.flush()
            _dataset(file["words"], "offsets", word_offsets)
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
                result = _statistics(self._values[modality].dataset, offsets[modality], use_N)
                _dataset(statistics, modality, np.stack([result.mean_d, result.std_d]))
        self._finished = True


def write_aligned(path: Path, data: CorpusData) -> None:
    """Write a corpus that is in memory.

    Raises:
        DhmdError: the data contradict themselves (shapes, non-finite features, labels out of
            range, an id twice, a video in two splits, an empty split), or the disk is full.
    """
    with AlignedWriter(path, data.feature_names, words=data.words is not None) as writer:
        for modality in data.modalities:
            rows = data.features[modality]
            writer.append(modality, rows.values, rows.lengths)
        if data.words is not None:
            flat = [word for segment in data.words for word in segment]
            lengths = np.array([len(segment) for segment in data.words], dtype=np.int64)
            intervals = data.word_intervals
            # NaN stands for unknown times.
            writer.append_words(
                flat,
                np.full((len(flat), 2), np.nan) if intervals is None else intervals.values,
                lengths,
            )
        writer.finish(data)


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
        # Names are free text (they may hold a /), so they are data and not datasets' names.
        _strings(group, "names", tuple(table.planted))
        columns = [np.asarray(values, dtype=np.float64) for values in table.planted.values()]
        _dataset(group, "values", np.stack(columns, axis=1))
    if table.tokens is not None:
        group = file.create_group("tokens")
        for name in TOKENS:
            kind = bool if name == "mask" else np.int64
            _dataset(group, name, np.asarray(getattr(table.tokens, name)).astype(kind))
    # Attributes hold 64 KiB at most, so these are datasets.
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
    return offsets_of(np.concatenate([np.zeros(0, np.int64), *lengths]))


def _statistics(values: Any, offsets: Array, use_N: Array) -> Statistics:
    """Mean and std over the rows of the segments in use, read back block by block."""
    rows, width = values.shape
    use = np.repeat(use_N, np.diff(offsets))
    step = max(1, _STATISTICS_ROWS_BYTES // (8 * max(1, width)))
    count, mean_d, squares_d = 0, np.zeros(width), np.zeros(width)
    for start in range(0, rows, step):
        chosen = use[start : start + step]
        if not chosen.any():
            continue
        block = values[start : start + step][chosen].astype(np.float64)
        block_mean_d = block.mean(axis=0)
        block -= block_mean_d
        delta_d = block_mean_d - mean_d
        total = count + len(block)
        squares_d += (block**2).sum(axis=0) + delta_d**2 * (count * len(block) / total)
        mean_d += delta_d * (len(block) / total)
        count = total
    std_d = np.sqrt(squares_d / max(1, count))
    # Constant up to float32's resolution: rounding alone must not be blown up to unit variance.
    std_d[std_d <= 1e-7 * np.abs(mean_d)] = 1.0
    return Statistics(mean_d=mean_d, std_d=std_d)


def _check_table(
    table: SegmentTable, offsets: Mapping[str, Array], word_offsets: Array | None, where: str
) -> None:
    """Check that the table agrees with itself and with the rows.

    Raises:
        DhmdError: shapes, an id twice, labels missing or out of range, a fold's defects.
    """
    count = len(table.ids)
    if not count:
        raise DhmdError(f"{where}: no segments are left")
    if len(set(table.ids)) != count:
        twice = Counter(table.ids).most_common(1)[0][0]
        raise DhmdError(f"{where}: the id {twice!r} occurs twice")
    if tuple(table.modalities) != tuple(offsets) or set(table.feature_names) != set(offsets):
        raise DhmdError(
            f"{where}: modalities {list(table.modalities)} do not match the features of"
            f" {list(offsets)}"
        )
    sizes: dict[str, int] = {"videos": len(table.videos), "labels": len(table.labels_N)}
    sizes.update({f"features of {name}": len(own) - 1 for name, own in offsets.items()})
    sizes.update({f"planted {name}": len(values) for name, values in table.planted.items()})
    if word_offsets is not None:
        sizes["words"] = len(word_offsets) - 1
    if table.tokens is not None:
        sizes["tokens"] = len(table.tokens.offsets) - 1
    for what, size in sizes.items():
        if size != count:
            raise DhmdError(f"{where}: {what} for {size} segments, but there are {count} ids")
    if np.shape(table.present_NM) != (count, len(table.modalities)):
        raise DhmdError(f"{where}: present_NM has shape {np.shape(table.present_NM)}")
    if table.alignment == "word":
        first = offsets[table.modalities[0]]
        for name, own in offsets.items():
            if not np.array_equal(own, first):
                raise DhmdError(f"{where}: {name} is not aligned with {table.modalities[0]}")
    _check_labels(table, where)
    if not table.folds:
        raise DhmdError(f"{where}: no folds")
    for fold, split_N in table.folds.items():
        if not fold or "/" in fold or fold == ".":
            raise DhmdError(f"{where}: {fold!r} cannot be a fold's name")
        if len(split_N) != count or not set(map(str, split_N)) <= set(SPLITS):
            raise DhmdError(f"{where}: fold {fold!r} does not give every segment its split")
        check_split(fold, table.videos, split_N, where)


def _check_labels(table: SegmentTable, where: str) -> None:
    labels_N = np.asarray(table.labels_N, dtype=np.float64)
    low, high = float(table.low), float(table.high)
    if table.task == "classification":
        low, high = 0.0, float(len(table.class_names) - 1)
    bad = ~(np.isfinite(labels_N) & (labels_N >= low - 1e-6) & (labels_N <= high + 1e-6))
    if table.task == "classification":
        bad |= labels_N != np.round(labels_N)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DhmdError(
            f"{where}: the label of {table.ids[row]!r} is {labels_N[row]:g},"
            f" allowed is {low:g} to {high:g}"
        )
