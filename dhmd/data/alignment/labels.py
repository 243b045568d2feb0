"""Labels and planted truth: one row a segment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.data.alignment.sources import Sequences
from dhmd.data.csd import segment_id
from dhmd.recipes import Recipe

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class SegmentRows:
    """The label rows of one video.

    Attributes:
        intervals_S2: seconds, in the file's order.
        labels_S: float64, within the recipe's range.
        planted: dimension -> `[S]`.
        clipped: how many labels lay outside by no more than the tolerance.
    """

    intervals_S2: Array
    labels_S: Array
    planted: dict[str, Array]
    clipped: int


def read_segments(sequences: Sequences, recipe: Recipe, video: str) -> SegmentRows:
    """The video's label rows, checked.

    Raises:
        DhmdError: no such column, a label that is NaN or out of range, planted rows that do not
            match the label rows.
    """
    name = recipe.labels.sequence
    assert name is not None  # a recipe of computational sequences has one, dhmd/recipes checks it
    entry = sequences.segments(name, video)
    where = str(sequences[name].path)
    column = _column(sequences, name, recipe.labels.column, entry.features.shape[1])
    labels_S, clipped = _checked(_numbers(entry.features[:, column], where), recipe, where, video)
    planted: dict[str, Array] = {}
    if recipe.planted is not None:
        truth = sequences.segments(recipe.planted, video)
        if len(truth.features) != len(labels_S):
            raise DhmdError(
                f"{sequences.where(recipe.planted, video)} has {len(truth.features)} rows, but the"
                f" labels have {len(labels_S)}"
            )
        values = _numbers(truth.features, str(sequences[recipe.planted].path))
        names = dimension_names(sequences, recipe.planted, values.shape[1])
        planted = {dimension: values[:, d] for d, dimension in enumerate(names)}
    return SegmentRows(
        intervals_S2=entry.intervals, labels_S=labels_S, planted=planted, clipped=clipped
    )


def dimension_names(sequences: Sequences, name: str, width: int) -> tuple[str, ...]:
    """The sequence's dimension names if they fit its width, else `<sequence>_<i>`."""
    names = sequences[name].dimension_names
    if names is None or len(names) != width:
        return tuple(f"{name}_{d}" for d in range(width))
    return names


def _column(sequences: Sequences, name: str, column: int | str, width: int) -> int:
    where = f"{sequences[name].path}: labels.column is {column!r}, but the sequence has"
    if isinstance(column, int):
        if column >= width:
            raise DhmdError(f"{where} {width} column{'s' if width != 1 else ''}")
        return column
    names = sequences[name].dimension_names
    if names is None or len(names) != width or column not in names:
        raise DhmdError(f"{where} {'no names' if names is None else ', '.join(names)}")
    return names.index(column)


def _numbers(values: Array, where: str) -> Array:
    if values.dtype == object:
        raise DhmdError(f"{where} holds words where numbers are expected")
    return values.astype(np.float64)


def _checked(labels_S: Array, recipe: Recipe, where: str, video: str) -> tuple[Array, int]:
    spec = recipe.labels
    if spec.task == "classification":
        low, high, tolerance = 0.0, float(len(spec.classes) - 1), 0.0
        bad = ~np.isin(labels_S, np.arange(len(spec.classes)))
    else:
        assert spec.low is not None  # dhmd/recipes checks it
        assert spec.high is not None
        low, high, tolerance = spec.low, spec.high, spec.tolerance
        # Labels are float32 in the files: allow for what that rounds away.
        slack = tolerance + 1e-6 * max(abs(low), abs(high))
        bad = ~((labels_S >= low - slack) & (labels_S <= high + slack))
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        allowed = f"{low:g} to {high:g}" + (f" (± {tolerance:g})" if tolerance else "")
        raise DhmdError(
            f"{where}: the label of {segment_id(video, row)!r} is {labels_S[row]:g},"
            f" but {recipe.source} allows {allowed}"
        )
    clipped = np.clip(labels_S, low, high)
    return clipped, int(np.count_nonzero(np.abs(clipped - labels_S) > 1e-6))
