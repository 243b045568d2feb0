"""What a cache must satisfy before it is written: each defect one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.cache.corpus import SPLITS, SegmentTable

Array = np.ndarray[Any, Any]


def check_rows(values: Array, lengths: Array, width: int, where: str) -> None:
    """Rows fit their lengths and width; features are finite (word times may be unknown: NaN)."""
    if values.ndim != 2 or values.shape[1] != width:
        raise DhmdError(f"{where} have shape {values.shape}, expected [rows, {width}]")
    if lengths.ndim != 1 or (lengths < 0).any() or int(lengths.sum()) != len(values):
        raise DhmdError(f"{where}: {len(values)} rows do not fit the segments' lengths")
    if values.dtype == np.float32 and not np.isfinite(values).all():
        raise DhmdError(f"{where} hold values that are not finite; clean them before writing")


def check_table(
    table: SegmentTable, offsets: Mapping[str, Array], word_offsets: Array | None, where: str
) -> None:
    """The table agrees with itself and with the rows.

    Raises:
        DhmdError: shapes, an id twice, labels missing or out of range, a fold's defects.
    """
    count = len(table.ids)
    if not count:
        raise DhmdError(f"{where}: no segments are left")
    if len(set(table.ids)) != count:
        seen: set[str] = set()
        twice = next(i for i in table.ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
        raise DhmdError(f"{where}: the id {twice!r} comes twice")
    if tuple(table.modalities) != tuple(offsets) or set(table.feature_names) != set(offsets):
        raise DhmdError(
            f"{where}: modalities {list(table.modalities)} do not match the features of"
            f" {list(offsets)}"
        )
    sizes: dict[str, int] = {"videos": len(table.videos), "labels": len(table.labels_N)}
    sizes.update({f"features of {name}": len(o) - 1 for name, o in offsets.items()})
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
    _check_folds(table, where)


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


def _check_folds(table: SegmentTable, where: str) -> None:
    if not table.folds:
        raise DhmdError(f"{where}: no folds")
    for fold, split_N in table.folds.items():
        if not fold or "/" in fold or fold == ".":
            raise DhmdError(f"{where}: {fold!r} cannot be a fold's name")
        if len(split_N) != len(table.ids) or not set(map(str, split_N)) <= set(SPLITS):
            raise DhmdError(f"{where}: fold {fold!r} does not give every segment its split")
        for split in SPLITS:
            if split not in split_N:
                raise DhmdError(f"{where}: split {split!r} of fold {fold!r} holds no segment")
        split_of: dict[str, str] = {}
        for video, split in zip(table.videos, map(str, split_N), strict=True):
            if split_of.setdefault(video, split) != split:
                raise DhmdError(
                    f"{where}: video {video!r} is in both {split_of[video]} and {split} of fold"
                    f" {fold!r}; splits never share a video"
                )
