"""Planned batches: every utterance once per epoch, in shapes that do not depend on members."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dhmd.training.batches import (
    EpochPlanner,
    PlannedBatch,
    VideoPlanner,
    evaluation_batches,
    evaluation_videos,
    make_buckets,
)

lengths_of = st.lists(st.integers(0, 30), min_size=1, max_size=60)


def corpus(lengths: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return every second row of a corpus, and the lengths of all its rows by modality."""
    first = np.array(lengths)
    lengths_MN = np.stack([first * (m + 1) // 2 + m for m in range(2)])
    spread = np.repeat(lengths_MN, 2, axis=1)
    return np.arange(len(first)) * 2, spread


def planner(
    lengths: list[int],
    *,
    seeds: tuple[int, ...] = (1, 2),
    batch_size: int = 4,
    accumulate: int = 1,
    train_mask_EN: np.ndarray | None = None,
) -> EpochPlanner:
    rows, lengths_MN = corpus(lengths)
    planned_buckets = make_buckets(rows, lengths_MN, 3, batch_size, same_steps=False)
    if train_mask_EN is None:
        train_mask_EN = np.ones((len(seeds), lengths_MN.shape[1]), np.float32)
    order = [torch.Generator().manual_seed(seed) for seed in seeds]
    return EpochPlanner(
        planned_buckets, train_mask_EN, order, batch_size=batch_size, accumulate=accumulate
    )


@settings(max_examples=60, deadline=None)
@given(lengths_of, st.integers(1, 6), st.integers(1, 9), st.booleans())
def test_buckets_divide_the_rows_by_length(
    lengths: list[int], count: int, batch_size: int, same_steps: bool
) -> None:
    rows, lengths_MN = corpus(lengths)
    buckets = make_buckets(rows, lengths_MN, count, batch_size, same_steps=same_steps)
    assert len(buckets) == min(count, -(-len(rows) // batch_size))
    assert sorted(np.concatenate([bucket.rows for bucket in buckets])) == sorted(rows)
    totals = [lengths_MN[:, bucket.rows].sum(0) for bucket in buckets]
    for shorter, longer in pairwise(totals):
        assert shorter.max() <= longer.min()
    for bucket in buckets:
        longest = np.maximum(lengths_MN[:, bucket.rows].max(1), 1)
        expected = [longest.max()] * len(longest) if same_steps else longest
        assert list(bucket.steps) == list(expected)
    for bucket in buckets[:-1]:
        assert len(bucket.rows) % batch_size == 0
        assert len(bucket.rows) > 0


@settings(max_examples=60, deadline=None)
@given(lengths_of, st.integers(1, 5), st.integers(1, 4), st.integers(1, 3))
def test_an_epoch_has_every_row_once_with_weights_that_sum_to_one(
    lengths: list[int], batch_size: int, accumulate: int, epoch: int
) -> None:
    plan = planner(lengths, batch_size=batch_size, accumulate=accumulate)
    updates = plan.epoch(epoch)
    batches = [batch for update in updates for batch in update]
    expected = sorted(np.concatenate([bucket.rows for bucket in plan.buckets]))
    for member in range(2):
        rows = [row for b in batches for row in b.rows_EB[member][b.weight_EB[member] > 0]]
        assert sorted(rows) == expected
    for update in updates[:-1]:
        assert len(update) == accumulate
    for update in updates:
        total = sum(batch.weight_EB.sum(1) for batch in update)
        assert total == pytest.approx([1, 1])
        weights = np.concatenate([b.weight_EB[b.weight_EB > 0] for b in update])
        assert weights == pytest.approx(np.full_like(weights, weights[0]))
    for batch in batches:
        assert batch.rows_EB.shape == batch.weight_EB.shape == (2, batch_size)
        assert batch.weight_EB.dtype == np.float32
        _, lengths_MN = corpus(lengths)
        assert (lengths_MN[:, batch.rows_EB].max((1, 2)) <= np.array(batch.steps)).all()


LENGTHS = [3, 9, 1, 4, 7, 7, 2, 8, 5, 6, 12, 30, 11, 2, 9, 4, 1]


def shapes(plan: EpochPlanner, epoch: int) -> list[list[tuple[int, ...]]]:
    return [[batch.steps for batch in update] for update in plan.epoch(epoch)]


def test_shapes_depend_only_on_corpus_and_epoch() -> None:
    planners = [
        planner(LENGTHS, seeds=seeds, accumulate=2) for seeds in ((1, 2), (3,), (9, 8, 7, 1))
    ]
    for epoch in (1, 2, 3, 4):
        first, *others = [shapes(plan, epoch) for plan in planners]
        assert all(other == first for other in others)
    same_planner = planner(LENGTHS, accumulate=2)
    assert shapes(same_planner, 2) == shapes(planners[0], 2)
    assert len({str(shapes(same_planner, epoch)) for epoch in range(1, 9)}) > 1


def test_the_order_of_rows_does_not_depend_on_other_seeds() -> None:
    three_seeds, one_seed = planner(LENGTHS, seeds=(5, 6, 7)), planner(LENGTHS, seeds=(6,))
    orders = set()
    for epoch in (1, 2, 3):
        batches = [batch for update in three_seeds.epoch(epoch) for batch in update]
        single_batches = [batch for update in one_seed.epoch(epoch) for batch in update]
        for batch_alone, batch_of_three in zip(single_batches, batches, strict=True):
            assert (batch_alone.rows_EB[0] == batch_of_three.rows_EB[1]).all()
            assert (batch_alone.weight_EB[0] == batch_of_three.weight_EB[1]).all()
        orders.add(str([list(batch.rows_EB[0]) for batch in single_batches]))
        assert any((b.rows_EB[0] != b.rows_EB[1]).any() for b in batches)
    assert len(orders) == 3


def test_unused_rows_have_weight_zero() -> None:
    rows, lengths_MN = corpus(LENGTHS)
    train_mask_EN = np.ones((3, lengths_MN.shape[1]), np.float32)
    train_mask_EN[1, rows[:6]] = 0
    train_mask_EN[2] = 0
    plan = planner(LENGTHS, seeds=(1, 2, 3), accumulate=2, train_mask_EN=train_mask_EN)
    used_rows = set()
    for update in plan.epoch(1):
        total = sum(batch.weight_EB.sum(1) for batch in update)
        for member in range(3):
            member_rows = [
                row
                for batch in update
                for row in batch.rows_EB[member][batch.weight_EB[member] > 0]
            ]
            assert total[member] == pytest.approx(1.0 if member_rows else 0.0)
            if member == 1:
                used_rows |= set(member_rows)
    assert used_rows == set(rows[6:])


def test_evaluation_has_every_row_once_in_a_fixed_order() -> None:
    rows, lengths_MN = corpus(LENGTHS)
    buckets = make_buckets(rows, lengths_MN, 2, 5, same_steps=False)

    def batches() -> list[PlannedBatch]:
        return list(evaluation_batches(buckets, 5))

    all_rows = np.concatenate([batch.rows_EB[0] for batch in batches()])
    assert sorted(all_rows) == list(rows)
    for one, other in zip(batches(), batches(), strict=True):
        assert (one.rows_EB == other.rows_EB).all()
        assert (one.weight_EB == 1).all()
        assert one.rows_EB.shape[1] <= 5


# ---- whole videos --------------------------------------------------------------------------------

VIDEOS = np.array([3, 3, 0, 0, 0, 1, 2, 2, 2, 2, 4, 1])  # of 12 utterances
ROWS = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11])


def video_planner(*seeds: int) -> VideoPlanner:
    order = [torch.Generator().manual_seed(seed) for seed in seeds]
    train_mask_EN = np.ones((len(seeds), len(VIDEOS)), np.float32)
    return VideoPlanner(ROWS, VIDEOS, (9,), train_mask_EN, order, batch_size=5, accumulate=1)


def test_an_epoch_has_every_video_once_and_whole() -> None:
    plan = video_planner(5, 6, 7)
    for epoch in (1, 2):
        batches = [batch for update in plan.epoch(epoch) for batch in update]
        assert len({batch.rows_EB.shape for batch in batches}) == 1
        for member in range(3):
            all_rows = []
            for batch in batches:
                rows = batch.rows_EB[member][batch.weight_EB[member] > 0]
                for video in set(VIDEOS[rows]):
                    assert sorted(rows[VIDEOS[rows] == video]) == sorted(
                        ROWS[VIDEOS[ROWS] == video]
                    )
                assert batch.weight_EB[member].sum() == pytest.approx(1)
                all_rows += list(rows)
            assert sorted(all_rows) == list(ROWS)


def test_the_order_of_videos_does_not_depend_on_other_seeds() -> None:
    three_seeds, one_seed = video_planner(5, 6, 7).epoch(1), video_planner(6).epoch(1)
    for (batch_of_three,), (batch_alone,) in zip(three_seeds, one_seed, strict=True):
        assert (batch_of_three.rows_EB[1] == batch_alone.rows_EB[0]).all()
        assert (batch_of_three.weight_EB[1] == batch_alone.weight_EB[0]).all()


def test_evaluation_by_video_keeps_videos_whole() -> None:
    batches = list(evaluation_videos(ROWS, VIDEOS, (9,), 5))
    rows = [list(batch.rows_EB[0]) for batch in batches]
    assert rows == [[0, 1, 2, 3, 4], [5, 11, 6, 7, 8, 9]]
