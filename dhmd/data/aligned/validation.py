"""What a cache must satisfy before it is written: each defect one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.data.aligned.corpus import SPLITS, Corpus, SegmentTable

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


def check_corpus(corpus: Corpus, where: str) -> None:
    """What was read agrees with itself, whoever wrote and sealed it.

    Raises:
        DhmdError: the first thing that does not.
    """
    count, modalities = len(corpus.ids), corpus.modalities
    wanted: dict[str, tuple[Array, tuple[int, ...], str]] = {
        "labels": (corpus.labels_N, (count,), "f"),
        "present": (corpus.present_NM, (count, len(modalities)), "b"),
    }
    for name in modalities:
        ragged, width = corpus.features[name], len(corpus.feature_names[name])
        rows = len(ragged.values)
        wanted[f"the features of {name}"] = (ragged.values, (rows, width), "f")
        wanted[f"the offsets of {name}"] = (ragged.offsets, (count + 1,), "i")
        statistics = corpus.statistics[name]
        wanted[f"the mean of {name}"] = (statistics.mean_d, (width,), "f")
        wanted[f"the deviation of {name}"] = (statistics.std_d, (width,), "f")
    for name, values in corpus.planted.items():
        wanted[f"planted {name}"] = (values, (count,), "f")
    for what, (values, shape, kind) in wanted.items():
        if values.shape != shape or values.dtype.kind != kind:
            raise DhmdError(
                f"{where} is damaged: {what} have the shape {values.shape} and type "
                f"{values.dtype}, where {shape} is expected"
            )
    if count < 1 or len(corpus.split_N) != count or len(corpus.videos) != count:
        raise DhmdError(f"{where} is damaged: ids, videos and splits differ in number")
    for name in modalities:
        check_offsets(corpus.features[name].offsets, len(corpus.features[name].values), where, name)
        statistics, values = corpus.statistics[name], corpus.features[name].values
        if not (np.isfinite(values).all() and np.isfinite(statistics.mean_d).all()):
            raise DhmdError(f"{where} is damaged: {name} holds values that are not finite")
        if not (np.isfinite(statistics.std_d).all() and (statistics.std_d > 0).all()):
            raise DhmdError(f"{where} is damaged: a deviation of {name} is not positive")
    if corpus.words is not None and len(corpus.words) != count:
        raise DhmdError(f"{where} is damaged: words for {len(corpus.words)} of {count} segments")
    known = corpus.labels_N[np.isin(corpus.split_N, ("train", "valid"))]
    if not np.isfinite(known).all():
        raise DhmdError(f"{where} is damaged: a label is not finite")
    classes = len(corpus.class_names)
    if corpus.task == "classification" and (
        (known < 0).any() or (known >= classes).any() or (known != np.round(known)).any()
    ):
        raise DhmdError(f"{where} is damaged: a label names none of the {classes} classes")


def check_offsets(offsets: Array, rows: int, where: str, name: str) -> None:
    """Offsets begin at 0, never fall and end at the number of rows."""
    if offsets[0] != 0 or offsets[-1] != rows or (np.diff(offsets) < 0).any():
        raise DhmdError(f"{where} is damaged: the offsets of {name} do not fit its {rows} rows")
