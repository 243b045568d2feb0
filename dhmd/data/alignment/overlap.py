"""Which rows overlap which intervals, and their means: the arithmetic of the alignment.

W reference intervals (words, or label segments), R rows of another sequence, d features.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_PAIRS_AT_ONCE = 1 << 20  # candidates examined at once, so that nested intervals cost no memory
_VALUES_AT_ONCE = 1 << 21  # float64 values gathered at once


def overlap_pairs(reference_W2: Array, rows_R2: Array, epsilon: float) -> tuple[Array, Array]:
    """All (reference, row) pairs whose common piece is longer than ε (source: SDK).

    The SDK asks start < ref_end + ε and end > ref_start − ε, clips, and drops pieces ≤ ε; what is
    left is exactly min(end, ref_end) − max(start, ref_start) > ε. Reference intervals shorter than
    ε overlap nothing.

    Args:
        reference_W2: seconds, in any order.
        rows_R2: seconds, starts ascending.
        epsilon: seconds.

    Returns:
        two int64 arrays of equal length: indices into the reference, ascending, and into the rows,
        ascending within one reference interval.
    """
    start_W, end_W = reference_W2[:, 0], reference_W2[:, 1]
    start_E, end_E = rows_R2[:, 0], rows_R2[:, 1]
    # Rows may nest, so ends need not ascend: their running maximum does, and bounds from below.
    first_W = np.searchsorted(np.maximum.accumulate(end_E), start_W, side="right")
    last_W = np.searchsorted(start_E, end_W, side="left")
    count_W = np.maximum(last_W - first_W, 0)
    references: list[Array] = [np.zeros(0, np.int64)]
    rows: list[Array] = [np.zeros(0, np.int64)]
    for part in _blocks(count_W, _PAIRS_AT_ONCE):
        count = count_W[part]
        reference = np.repeat(np.arange(part.start, part.stop), count)
        before = np.cumsum(count) - count
        row = np.arange(count.sum()) - np.repeat(before - first_W[part], count)
        piece = np.minimum(end_E[row], end_W[reference]) - np.maximum(
            start_E[row], start_W[reference]
        )
        keep = piece > epsilon
        references.append(reference[keep])
        rows.append(row[keep])
    return np.concatenate(references), np.concatenate(rows)


def overlap_mean(
    reference_W2: Array,
    rows_R2: Array,
    values_Ed: Array,
    epsilon: float,
    bad_Ed: Array | None = None,
) -> tuple[Array, Array]:
    """The mean of the rows that overlap each reference interval, unweighted (source: SDK).

    Args:
        reference_W2, rows_R2, epsilon: as in overlap_pairs.
        values_Ed: finite features.
        bad_Ed: True where a value is missing; it is left out of the mean, dimension by dimension,
            and where nothing is left the mean is 0 (source: ours).

    Returns:
        mean_Wd float64 (zeros where nothing overlaps) and count_W int64, the rows that overlap.
    """
    width = values_Ed.shape[1]
    reference, row = overlap_pairs(reference_W2, rows_R2, epsilon)
    count_W = np.bincount(reference, minlength=len(reference_W2)).astype(np.int64)
    mean_Wd = np.zeros((len(reference_W2), width))
    some = np.flatnonzero(count_W)
    begin = np.cumsum(count_W[some]) - count_W[some]
    for part in _blocks(count_W[some], max(1, _VALUES_AT_ONCE // max(1, width))):
        into, starts = some[part], begin[part]
        chosen = row[starts[0] : starts[-1] + count_W[into[-1]]]
        starts = starts - starts[0]
        total = np.add.reduceat(values_Ed[chosen].astype(np.float64), starts, axis=0)
        if bad_Ed is None:
            mean_Wd[into] = total / count_W[into, None]
        else:
            good = np.add.reduceat((~bad_Ed[chosen]).astype(np.float64), starts, axis=0)
            mean_Wd[into] = total / np.maximum(good, 1.0)
    return mean_Wd, count_W


def _blocks(counts: Array, limit: int) -> Iterator[slice]:
    """Consecutive slices of at least one item whose counts sum to about `limit` at most."""
    total = np.cumsum(counts)
    start = 0
    while start < len(counts):
        done = total[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(total, done + limit, side="right")))
        yield slice(start, stop)
        start = stop
