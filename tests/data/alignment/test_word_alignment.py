"""Overlaps and means match the SDK's definition, and do not depend on a shift of time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dhmd.data.alignment.word_alignment import overlap_mean, overlap_pairs

Array = np.ndarray[Any, Any]

# Times are multiples of 1/16 s, so sums and differences are exact, and overlaps can equal ε.
GRID = 16
EPSILONS = (1e-5, 1 / GRID, 3 / GRID)


@st.composite
def intervals(draw: st.DrawFn) -> Array:
    """Draw intervals: nested, overlapping, equal or of zero length, in any order."""
    count = draw(st.integers(0, 8))
    start = draw(hnp.arrays(np.int64, count, elements=st.integers(0, 40)))
    length = draw(hnp.arrays(np.int64, count, elements=st.integers(0, 30)))
    return np.stack([start, start + length], axis=1).reshape(-1, 2) / GRID


@st.composite
def rows(draw: st.DrawFn) -> Array:
    """Draw intervals sorted by start, like the rows of a sequence."""
    unsorted = draw(intervals())
    return unsorted[np.argsort(unsorted[:, 0], kind="stable")]


def plain_pairs(reference: Array, other: Array, epsilon: float) -> list[tuple[int, int]]:
    """Find pairs by the SDK's definition; an instant belongs to the interval of its start."""
    pairs = []
    instants = all(end - start <= epsilon for start, end in other)
    for w, (ref_start, ref_end) in enumerate(reference):
        if ref_end - ref_start < epsilon:
            continue
        for r, (start, end) in enumerate(other):
            if instants:
                if ref_start - epsilon <= start < ref_end - epsilon:
                    pairs.append((w, r))
            elif start < ref_end + epsilon and end > ref_start - epsilon:
                clipped_start, clipped_end = max(start, ref_start), min(end, ref_end)
                if abs(clipped_end - clipped_start) > epsilon:
                    pairs.append((w, r))
    return pairs


def pairs_of(reference: Array, other: Array, epsilon: float) -> list[tuple[int, int]]:
    """Return the pairs of `overlap_pairs` as a list."""
    references, rows = overlap_pairs(reference, other, epsilon)
    return list(zip(references.tolist(), rows.tolist(), strict=True))


@given(intervals(), rows(), st.sampled_from(EPSILONS))
def test_pairs_are_those_of_the_sdk(reference: Array, other: Array, epsilon: float) -> None:
    assert pairs_of(reference, other, epsilon) == plain_pairs(reference, other, epsilon)


@given(intervals(), rows(), st.sampled_from(EPSILONS))
def test_instants_belong_to_the_interval_of_their_start(
    reference: Array, other: Array, epsilon: float
) -> None:
    instants = np.stack([other[:, 0], other[:, 0]], axis=1)
    assert pairs_of(reference, instants, epsilon) == plain_pairs(reference, instants, epsilon)


def test_every_instant_of_a_second_belongs_to_one_word() -> None:
    """Check that despite rounding, each instant is in exactly one of a thousand words."""
    start = np.arange(1000) * 0.3
    words = np.stack([start, start + 0.3], axis=1)
    time = np.arange(6000) / 20
    word, row = overlap_pairs(words, np.stack([time, time], axis=1), 1e-5)
    np.testing.assert_array_equal(row, np.arange(6000))
    np.testing.assert_array_equal(word, np.arange(6000) // 6)


@given(intervals(), rows(), st.sampled_from(EPSILONS), st.data())
def test_means_are_those_of_the_pairs(
    reference: Array, other: Array, epsilon: float, data: st.DataObject
) -> None:
    values = data.draw(
        hnp.arrays(np.float64, (len(other), 2), elements=st.floats(-1e6, 1e6, width=32))
    )
    missing = data.draw(hnp.arrays(np.bool_, (len(other), 2)))
    cleaned = np.where(missing, 0, values)
    mean, count = overlap_mean(reference, other, cleaned, epsilon, missing)
    pairs = plain_pairs(reference, other, epsilon)
    for w in range(len(reference)):
        overlapping = [r for interval, r in pairs if interval == w]
        assert count[w] == len(overlapping)
        for d in range(2):
            valid = [values[r, d] for r in overlapping if not missing[r, d]]
            expected = sum(valid) / len(valid) if valid else 0.0
            assert mean[w, d] == pytest.approx(expected, rel=1e-12, abs=1e-9)


@given(intervals(), rows(), st.integers(-64, 64))
def test_a_shift_of_time_changes_nothing(reference: Array, other: Array, shift: int) -> None:
    by = shift / 4
    assert pairs_of(reference + by, other + by, 1e-5) == pairs_of(reference, other, 1e-5)


@given(rows(), st.data())
def test_each_row_belongs_to_one_half_of_a_divided_segment(
    other: Array, data: st.DataObject
) -> None:
    """Check this for rows that do not cross the cut."""
    times = data.draw(st.lists(st.integers(0, 70), min_size=3, max_size=3))
    start, cut, end = (time / GRID for time in sorted(times))
    other = other[(other[:, 1] <= cut) | (other[:, 0] >= cut)]
    whole = [r for _, r in pairs_of(np.array([[start, end]]), other, 1e-5)]
    halves = [r for _, r in pairs_of(np.array([[start, cut], [cut, end]]), other, 1e-5)]
    assert sorted(halves) == whole


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_results_do_not_depend_on_the_block_size(
    limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    start = np.sort(rng.uniform(0, 10, 200))
    other = np.stack([start, start + rng.gamma(1, 1, 200)], axis=1)
    reference = np.stack([start[::7], start[::7] + 0.7], axis=1)
    values = rng.normal(size=(200, 3))
    pairs = pairs_of(reference, other, 1e-5)
    mean, count = overlap_mean(reference, other, values, 1e-5)
    monkeypatch.setattr("dhmd.data.alignment.word_alignment._PAIRS_PER_BLOCK", limit)
    monkeypatch.setattr("dhmd.data.alignment.word_alignment._VALUES_PER_BLOCK", limit)
    assert pairs_of(reference, other, 1e-5) == pairs
    again, count_again = overlap_mean(reference, other, values, 1e-5)
    np.testing.assert_array_equal(again, mean)
    np.testing.assert_array_equal(count_again, count)
