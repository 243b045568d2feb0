"""Overlap and mean: equal to the plain definition, and invariant where time is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dhmd.data.alignment import overlap_mean, overlap_pairs

Array = np.ndarray[Any, Any]

# Times on a grid of 1/16 s: sums and differences are exact, and ties with ε do happen.
GRID = 16
EPSILONS = (1e-5, 1 / GRID, 3 / GRID)


@st.composite
def intervals(draw: st.DrawFn, least: int = 0) -> Array:
    """Any intervals: nested, overlapping, equal, of no length, in no order."""
    count = draw(st.integers(least, 8))
    start = draw(hnp.arrays(np.int64, count, elements=st.integers(0, 40)))
    length = draw(hnp.arrays(np.int64, count, elements=st.integers(0, 30)))
    return np.stack([start, start + length], axis=1).reshape(-1, 2) / GRID


@st.composite
def rows(draw: st.DrawFn) -> Array:
    """Intervals sorted by start, as a sequence's rows are when they get here."""
    unsorted = draw(intervals())
    return unsorted[np.argsort(unsorted[:, 0], kind="stable")]


def plain_pairs(reference: Array, other: Array, epsilon: float) -> list[tuple[int, int]]:
    """The SDK's definition, step by step; rows that are all instants belong where they start."""
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
    found = overlap_pairs(reference, other, epsilon)
    return list(zip(*(index.tolist() for index in found), strict=True))


@given(intervals(), rows(), st.sampled_from(EPSILONS))
def test_pairs_are_the_sdks(reference: Array, other: Array, epsilon: float) -> None:
    assert pairs_of(reference, other, epsilon) == plain_pairs(reference, other, epsilon)


@given(intervals(), rows(), st.sampled_from(EPSILONS))
def test_instants_belong_where_they_start(reference: Array, other: Array, epsilon: float) -> None:
    instants = np.stack([other[:, 0], other[:, 0]], axis=1)
    assert pairs_of(reference, instants, epsilon) == plain_pairs(reference, instants, epsilon)


def test_every_instant_of_a_second_belongs_to_one_word() -> None:
    """A thousand words of 0.3 s: rounding puts no instant into two words, or into none."""
    start = np.arange(1000) * 0.3
    words = np.stack([start, start + 0.3], axis=1)
    at = np.arange(6000) / 20
    word, row = overlap_pairs(words, np.stack([at, at], axis=1), 1e-5)
    np.testing.assert_array_equal(row, np.arange(6000))
    np.testing.assert_array_equal(word, np.arange(6000) // 6)


@given(intervals(), rows(), st.sampled_from(EPSILONS), st.data())
def test_means_are_the_plain_ones(
    reference: Array, other: Array, epsilon: float, data: st.DataObject
) -> None:
    values = data.draw(
        hnp.arrays(np.float64, (len(other), 2), elements=st.floats(-1e6, 1e6, width=32))
    )
    bad = data.draw(hnp.arrays(np.bool_, (len(other), 2)))
    mean, count = overlap_mean(reference, other, np.where(bad, 0, values), epsilon, bad)
    pairs = plain_pairs(reference, other, epsilon)
    for w in range(len(reference)):
        chosen = [r for at, r in pairs if at == w]
        assert count[w] == len(chosen)
        for d in range(2):
            good = [values[r, d] for r in chosen if not bad[r, d]]
            expected = sum(good) / len(good) if good else 0.0
            assert mean[w, d] == pytest.approx(expected, rel=1e-12, abs=1e-9)


@given(intervals(), rows(), st.integers(-64, 64))
def test_time_may_be_shifted(reference: Array, other: Array, shift: int) -> None:
    by = shift / 4
    assert pairs_of(reference + by, other + by, 1e-5) == pairs_of(reference, other, 1e-5)


@given(rows(), st.data())
def test_a_segment_split_between_words_shares_them_out(other: Array, data: st.DataObject) -> None:
    """Rows that do not cross the cut go to exactly one of the halves, in the same order."""
    times = data.draw(st.lists(st.integers(0, 70), min_size=3, max_size=3))
    start, cut, end = (time / GRID for time in sorted(times))
    other = other[(other[:, 1] <= cut) | (other[:, 0] >= cut)]
    whole = [r for _, r in pairs_of(np.array([[start, end]]), other, 1e-5)]
    halves = [r for _, r in pairs_of(np.array([[start, cut], [cut, end]]), other, 1e-5)]
    assert sorted(halves) == whole


@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_blocks_change_nothing(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    start = np.sort(rng.uniform(0, 10, 200))
    other = np.stack([start, start + rng.gamma(1, 1, 200)], axis=1)
    reference = np.stack([start[::7], start[::7] + 0.7], axis=1)
    values = rng.normal(size=(200, 3))
    pairs, (mean, count) = (
        pairs_of(reference, other, 1e-5),
        overlap_mean(reference, other, values, 1e-5),
    )
    monkeypatch.setattr("dhmd.data.alignment.word_alignment._PAIRS_PER_BLOCK", limit)
    monkeypatch.setattr("dhmd.data.alignment.word_alignment._VALUES_PER_BLOCK", limit)
    assert pairs_of(reference, other, 1e-5) == pairs
    again, count_again = overlap_mean(reference, other, values, 1e-5)
    np.testing.assert_array_equal(again, mean)
    np.testing.assert_array_equal(count_again, count)
