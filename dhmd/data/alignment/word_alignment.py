"""Word alignment: clean the rows, find those that overlap each word, and average them.

Legend: W reference intervals (words, or label segments), R rows of another sequence, d features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

EPSILON = 1e-5  # seconds; a shorter overlap is none (source: SDK; its copy on PyPI has 1e-3)

# A value counts as missing if it is −inf, inf or NaN (COVAREP has them in silence), or if its
# magnitude is larger than this (ours): no feature in use reaches it, and one such value would ruin
# the mean and deviation that normalise the features.
LARGEST = 1e10

_PAIRS_AT_ONCE = 1 << 20  # candidate pairs per block, which limits the memory
_VALUES_AT_ONCE = 1 << 21  # float64 values gathered at once


@dataclass(frozen=True, eq=False)
class Cleaned:
    """Features without missing values.

    Attributes:
        values_Td: `[T, d]`, 0 where a value is missing.
        bad_Td: `[T, d]` bool, the missing values, or None if there are none. Means leave them out.
        count: the number of missing values.
    """

    values_Td: Array
    bad_Td: Array | None
    count: int


def clean_values(features_Td: Array) -> Cleaned:
    """Replace missing values by 0 and count them, whatever the type of the features.

    The SDK keeps them, so that a word's mean is not finite either; papers then set that mean to 0.
    """
    wide_Td = features_Td
    if features_Td.dtype not in (np.float32, np.float64):
        # `LARGEST` is infinite in float16, and the smallest int8 has no magnitude in int8.
        wide_Td = features_Td.astype(np.float64)
    # `not (… <= …)` is also true for NaN.
    bad_Td = ~(np.abs(wide_Td) <= LARGEST)
    count = int(np.count_nonzero(bad_Td))
    if not count:
        return Cleaned(values_Td=features_Td, bad_Td=None, count=0)
    return Cleaned(values_Td=np.where(bad_Td, 0, features_Td), bad_Td=bad_Td, count=count)


def are_instants(rows_R2: Array, epsilon: float) -> bool:
    """Return whether a video's rows are instants: all of them start and end at the same time."""
    return len(rows_R2) > 0 and bool((rows_R2[:, 1] - rows_R2[:, 0] <= epsilon).all())


def overlap_pairs(reference_W2: Array, rows_R2: Array, epsilon: float) -> tuple[Array, Array]:
    """Find all (reference, row) pairs that overlap by more than ε (source: SDK).

    The SDK requires start < ref_end + ε and end > ref_start − ε, clips, and drops overlaps ≤ ε; the
    result is exactly min(end, ref_end) − max(start, ref_start) > ε. Reference intervals shorter
    than ε overlap nothing.

    Where all rows are instants no piece has a length: then a row belongs to the reference interval
    with ref_start ≤ start < ref_end (source: ours; the SDK drops such rows). Both borders are moved
    by −ε, so that rounding puts no row at a common border into both intervals, or into none.

    Args:
        reference_W2: seconds, in any order.
        rows_R2: seconds, starts ascending.
        epsilon: seconds.

    Returns:
        Two int64 arrays of equal length: indices into the reference, ascending, and into the rows,
        ascending within one reference interval.
    """
    start_W, end_W = reference_W2[:, 0], reference_W2[:, 1]
    start_R, end_R = rows_R2[:, 0], rows_R2[:, 1]
    instants = are_instants(rows_R2, epsilon)
    if instants:
        first_W = np.searchsorted(start_R, start_W - epsilon, side="left")
        last_W = np.searchsorted(start_R, end_W - epsilon, side="left")
    else:
        # Rows may nest, so ends need not ascend: their running maximum does, and is a lower bound.
        first_W = np.searchsorted(np.maximum.accumulate(end_R), start_W, side="right")
        last_W = np.searchsorted(start_R, end_W, side="left")
    count_W = np.where(end_W - start_W >= epsilon, np.maximum(last_W - first_W, 0), 0)
    references: list[Array] = [np.zeros(0, np.int64)]
    rows: list[Array] = [np.zeros(0, np.int64)]
    for part in _blocks(count_W, _PAIRS_AT_ONCE):
        count = count_W[part]
        reference = np.repeat(np.arange(part.start, part.stop), count)
        before = np.cumsum(count) - count
        row = np.arange(count.sum()) - np.repeat(before - first_W[part], count)
        if not instants:
            piece = np.minimum(end_R[row], end_W[reference]) - np.maximum(
                start_R[row], start_W[reference]
            )
            reference, row = reference[piece > epsilon], row[piece > epsilon]
        references.append(reference)
        rows.append(row)
    return np.concatenate(references), np.concatenate(rows)


def overlap_mean(
    reference_W2: Array,
    rows_R2: Array,
    values_Rd: Array,
    epsilon: float,
    bad_Rd: Array | None = None,
) -> tuple[Array, Array]:
    """Average the rows that overlap each reference interval, unweighted (source: SDK).

    Args:
        reference_W2, rows_R2, epsilon: as in overlap_pairs.
        values_Rd: finite features.
        bad_Rd: True where a value is missing; it is left out of the mean, dimension by dimension,
            and where nothing is left the mean is 0 (source: ours).

    Returns:
        mean_Wd float64 (zeros where nothing overlaps) and count_W int64, the rows that overlap.
    """
    width = values_Rd.shape[1]
    reference, row = overlap_pairs(reference_W2, rows_R2, epsilon)
    count_W = np.bincount(reference, minlength=len(reference_W2)).astype(np.int64)
    mean_Wd = np.zeros((len(reference_W2), width))
    some = np.flatnonzero(count_W)
    begin = np.cumsum(count_W[some]) - count_W[some]
    for part in _blocks(count_W[some], max(1, _VALUES_AT_ONCE // max(1, width))):
        into, starts = some[part], begin[part]
        chosen = row[starts[0] : starts[-1] + count_W[into[-1]]]
        starts = starts - starts[0]
        total = np.add.reduceat(values_Rd[chosen].astype(np.float64), starts, axis=0)
        if bad_Rd is None:
            mean_Wd[into] = total / count_W[into, None]
        else:
            good = np.add.reduceat((~bad_Rd[chosen]).astype(np.float64), starts, axis=0)
            mean_Wd[into] = total / np.maximum(good, 1.0)
    return mean_Wd, count_W


def _blocks(counts: Array, limit: int) -> Iterator[slice]:
    """Yield consecutive slices of at least one item whose counts sum to about `limit` at most."""
    total = np.cumsum(counts)
    start = 0
    while start < len(counts):
        done = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, done + limit, side="right")))
        yield slice(start, stop)
        start = stop
