"""Word alignment: clean the rows, find those that overlap each word, and average them.

Axes: W reference intervals (words, or label segments), R rows of another sequence, d features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

EPSILON = 1e-5  # seconds; shorter overlaps do not count (source: SDK; its copy on PyPI has 1e-3)

# A value counts as missing if it is −inf, inf or NaN (COVAREP has them in silence), or if its
# magnitude is larger than this (ours): no known feature reaches it, and one such value would
# dominate the mean and standard deviation that normalise the features.
MAX_MAGNITUDE = 1e10

_PAIRS_PER_BLOCK = 1 << 20  # candidate pairs; limits the memory
_VALUES_PER_BLOCK = 1 << 21  # gathered float64 values; limits the memory


@dataclass(frozen=True, eq=False)
class CleanedFeatures:
    """Features whose missing values are replaced by 0.

    Attributes:
        values_Td: `[T, d]`, 0 where a value is missing.
        missing_Td: `[T, d]` bool, True where a value is missing; None if no value is.
        count: the number of missing values.
    """

    values_Td: Array
    missing_Td: Array | None
    count: int


def clean_values(features_Td: Array) -> CleanedFeatures:
    """Replace missing values by 0 and count them; accepts any numeric type.

    The SDK does not replace them, so the mean of a word with one is not finite; published code then
    sets that mean to 0.
    """
    wide_Td = features_Td
    if features_Td.dtype not in (np.float32, np.float64):
        # float16 cannot represent `MAX_MAGNITUDE`, nor int8 the magnitude of its smallest value.
        wide_Td = features_Td.astype(np.float64)
    # `not (… <= …)` is also true for NaN.
    missing_Td = ~(np.abs(wide_Td) <= MAX_MAGNITUDE)
    count = int(np.count_nonzero(missing_Td))
    if not count:
        return CleanedFeatures(values_Td=features_Td, missing_Td=None, count=0)
    values_Td = np.where(missing_Td, 0, features_Td)
    return CleanedFeatures(values_Td=values_Td, missing_Td=missing_Td, count=count)


def are_instants(rows_R2: Array, epsilon: float) -> bool:
    """Return whether all rows of a video are instants, whose start and end are equal."""
    return len(rows_R2) > 0 and bool((rows_R2[:, 1] - rows_R2[:, 0] <= epsilon).all())


def overlap_pairs(reference_W2: Array, rows_R2: Array, epsilon: float) -> tuple[Array, Array]:
    """Find all pairs of a reference interval and a row that overlap by more than ε (source: SDK).

    The SDK requires start < ref_end + ε and end > ref_start − ε, clips, and drops overlaps ≤ ε,
    which is equivalent to min(end, ref_end) − max(start, ref_start) > ε. Reference intervals
    shorter than ε overlap no row.

    If all rows are instants, no overlap has a length. Then a row belongs to the reference interval
    with ref_start ≤ start < ref_end (source: ours; the SDK drops such rows). Both bounds are
    shifted by −ε, so that despite rounding a row at a common bound belongs to exactly one interval.

    Args:
        reference_W2: start and end in seconds, in any order.
        rows_R2: start and end in seconds, sorted by start.
        epsilon: the minimum overlap in seconds.

    Returns:
        Two int64 arrays of equal length: indices of reference intervals, ascending, and indices of
        rows, ascending within one reference interval.
    """
    start_W, end_W = reference_W2[:, 0], reference_W2[:, 1]
    start_R, end_R = rows_R2[:, 0], rows_R2[:, 1]
    instants = are_instants(rows_R2, epsilon)
    if instants:
        first_W = np.searchsorted(start_R, start_W - epsilon, side="left")
        last_W = np.searchsorted(start_R, end_W - epsilon, side="left")
    else:
        # Rows may nest, so their ends need not ascend, but the running maximum of the ends does.
        first_W = np.searchsorted(np.maximum.accumulate(end_R), start_W, side="right")
        last_W = np.searchsorted(start_R, end_W, side="left")
    count_W = np.where(end_W - start_W >= epsilon, np.maximum(last_W - first_W, 0), 0)
    references: list[Array] = [np.zeros(0, np.int64)]
    rows: list[Array] = [np.zeros(0, np.int64)]
    for block in _blocks(count_W, _PAIRS_PER_BLOCK):
        count = count_W[block]
        reference = np.repeat(np.arange(block.start, block.stop), count)
        before = np.cumsum(count) - count
        row = np.arange(count.sum()) - np.repeat(before - first_W[block], count)
        if not instants:
            overlap = np.minimum(end_R[row], end_W[reference]) - np.maximum(
                start_R[row], start_W[reference]
            )
            reference, row = reference[overlap > epsilon], row[overlap > epsilon]
        references.append(reference)
        rows.append(row)
    return np.concatenate(references), np.concatenate(rows)


def overlap_mean(
    reference_W2: Array,
    rows_R2: Array,
    values_Rd: Array,
    epsilon: float,
    missing_Rd: Array | None = None,
) -> tuple[Array, Array]:
    """Average the rows that overlap each reference interval, unweighted (source: SDK).

    Args:
        reference_W2, rows_R2, epsilon: as in overlap_pairs.
        values_Rd: finite features, 0 where a value is missing.
        missing_Rd: True where a value is missing. The mean of each dimension omits missing values,
            and is 0 if all are missing (source: ours).

    Returns:
        The means, float64 `[W, d]`, 0 where no row overlaps; and the number of rows that overlap
        each interval, int64 `[W]`.
    """
    width = values_Rd.shape[1]
    reference, row = overlap_pairs(reference_W2, rows_R2, epsilon)
    count_W = np.bincount(reference, minlength=len(reference_W2)).astype(np.int64)
    mean_Wd = np.zeros((len(reference_W2), width))
    nonempty = np.flatnonzero(count_W)
    first_pair = np.cumsum(count_W[nonempty]) - count_W[nonempty]
    for block in _blocks(count_W[nonempty], max(1, _VALUES_PER_BLOCK // max(1, width))):
        intervals, starts = nonempty[block], first_pair[block]
        rows = row[starts[0] : starts[-1] + count_W[intervals[-1]]]
        starts = starts - starts[0]
        total = np.add.reduceat(values_Rd[rows].astype(np.float64), starts, axis=0)
        if missing_Rd is None:
            mean_Wd[intervals] = total / count_W[intervals, None]
        else:
            valid = np.add.reduceat((~missing_Rd[rows]).astype(np.float64), starts, axis=0)
            mean_Wd[intervals] = total / np.maximum(valid, 1.0)
    return mean_Wd, count_W


def _blocks(counts: Array, limit: int) -> Iterator[slice]:
    """Yield consecutive slices whose counts sum to at most `limit`, or that have one item."""
    total = np.cumsum(counts)
    start = 0
    while start < len(counts):
        before = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, before + limit, side="right")))
        yield slice(start, stop)
        start = stop
