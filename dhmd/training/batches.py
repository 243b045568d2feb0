"""Plan batches of utterances of similar length, in shapes that all ensemble members share.

Utterances are divided into buckets by length, and every batch is trimmed to the longest utterance
of its bucket. The sequence of buckets depends only on the corpus and the epoch; members differ only
in the order within a bucket. So shapes do not depend on the other members, and a seed that trains
alone takes the same steps.

Legend: E members, N utterances, B batch size, M modalities.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from dhmd.data.aligned.corpus import Array


@dataclass(frozen=True)
class Bucket:
    """Utterances of similar length, and the number of steps per modality that fits all of them."""

    rows: Array
    steps: tuple[int, ...]


@dataclass(frozen=True)
class PlannedBatch:
    """The utterances of one step.

    Attributes:
        steps: the number of steps to which each modality is trimmed or padded.
        rows_EB: indices of the utterances.
        weight_EB: weights of the utterances in the update's mean loss, 0 on padding.
    """

    steps: tuple[int, ...]
    rows_EB: Array
    weight_EB: Array


def make_buckets(
    rows: Array, lengths_MN: Array, count: int, batch_size: int, *, same_steps: bool
) -> tuple[Bucket, ...]:
    """Sort utterances by total length and divide them into `count` buckets of about equal size.

    All buckets except the last consist of whole batches, so that only one batch per epoch has
    padding rows.

    Args:
        same_steps: whether all modalities of a bucket have the same number of steps, so that their
            encoders can run as one stack. This suits word-aligned corpora, in which lengths differ
            only where a modality is absent.
    """
    lengths = lengths_MN[:, rows]
    ordered = rows[np.lexsort((rows, lengths.sum(0)))]
    batches = -(-len(rows) // batch_size)
    count = min(count, batches)
    starts = [round(batches * index / count) * batch_size for index in range(count)]
    return tuple(
        Bucket(group, longest_steps(lengths_MN[:, group], same_steps=same_steps))
        for group in np.split(ordered, starts[1:])
    )


def longest_steps(lengths_MB: Array, *, same_steps: bool) -> tuple[int, ...]:
    """Return the number of steps per modality that fits all utterances, at least 1."""
    longest = np.maximum(lengths_MB.max(1), 1)
    if same_steps:
        longest[:] = longest.max()
    return tuple(int(steps) for steps in longest)


def evaluation_batches(buckets: tuple[Bucket, ...], batch_size: int) -> Iterator[PlannedBatch]:
    """Yield every utterance once, in a fixed order that all members share (rows `[1, B]`)."""
    for bucket in buckets:
        for start in range(0, len(bucket.rows), batch_size):
            rows = bucket.rows[start : start + batch_size][None]
            yield PlannedBatch(bucket.steps, rows, np.ones(rows.shape, np.float32))


def video_groups(rows: Array, videos_N: Array) -> list[Array]:
    """Group utterances by video, in the order of the corpus."""
    rows = np.sort(rows)
    _, first = np.unique(videos_N[rows], return_index=True)
    return [rows[videos_N[rows] == videos_N[rows[start]]] for start in np.sort(first)]


def evaluation_videos(
    rows: Array, videos_N: Array, steps: tuple[int, ...], batch_size: int
) -> Iterator[PlannedBatch]:
    """Yield batches of whole videos with about `batch_size` utterances each."""
    batch: list[Array] = []
    groups = video_groups(rows, videos_N)
    for index, group in enumerate(groups):
        batch.append(group)
        if sum(map(len, batch)) >= batch_size or index + 1 == len(groups):
            rows_1B = np.concatenate(batch)[None]
            yield PlannedBatch(steps, rows_1B, np.ones(rows_1B.shape, np.float32))
            batch = []


class EpochPlanner:
    """Plans the updates of an epoch.

    Args:
        buckets: the buckets of the train split.
        train_mask_EN: float `[E, N]`, 1 where a member trains on an utterance, otherwise 0
            (cross-fitting leaves utterances out).
        order: one random generator per member, for the order within a bucket.
        batch_size: utterances per batch.
        accumulate: batches per update.
    """

    def __init__(
        self,
        buckets: tuple[Bucket, ...],
        train_mask_EN: Array,
        order: list[torch.Generator],
        *,
        batch_size: int,
        accumulate: int,
    ) -> None:
        self.buckets, self.train_mask_EN, self.order = buckets, train_mask_EN, order
        self.batch_size, self.accumulate = batch_size, accumulate

    def epoch(self, number: int) -> list[list[PlannedBatch]]:
        """Return the updates of an epoch: lists of batches whose weights sum to 1 per member.

        A member that trains on no utterance of an update has only weights 0 there.
        """
        batches = self._batches()
        shuffled = np.random.default_rng([number, len(batches)]).permutation(len(batches))
        groups = [
            [batches[i] for i in shuffled[start : start + self.accumulate]]
            for start in range(0, len(batches), self.accumulate)
        ]
        return [self._update(group) for group in groups]

    def _batches(self) -> list[PlannedBatch]:
        """Return the batches of an epoch, with weight 1 for utterances and 0 for padding."""
        batches = []
        for bucket in self.buckets:
            rows_EX = np.stack(
                [
                    bucket.rows[torch.randperm(len(bucket.rows), generator=g).numpy()]
                    for g in self.order
                ]
            )
            for start in range(0, len(bucket.rows), self.batch_size):
                rows = rows_EX[:, start : start + self.batch_size]
                batches.append(PlannedBatch(bucket.steps, rows, np.ones(rows.shape, np.float32)))
        return batches

    def _update(self, group: list[PlannedBatch]) -> list[PlannedBatch]:
        members = np.arange(len(self.order))[:, None]
        weights = [self.train_mask_EN[members, batch.rows_EB] * batch.weight_EB for batch in group]
        total = np.sum([weight.sum(1) for weight in weights], axis=0)
        share = (1 / np.maximum(total, 1))[:, None]
        planned = []
        for batch, weight in zip(group, weights, strict=True):
            padding = ((0, 0), (0, max(0, self.batch_size - batch.rows_EB.shape[1])))
            rows_EB = np.pad(batch.rows_EB, padding, mode="edge")
            weight_EB = np.pad(weight * share, padding).astype(np.float32)
            planned.append(PlannedBatch(batch.steps, rows_EB, weight_EB))
        return planned


class VideoPlanner(EpochPlanner):
    """Plans updates whose batches are whole videos; every member has its own order of videos.

    Every batch has the same number of videos, so that it has about `batch_size` utterances.
    """

    def __init__(
        self,
        rows: Array,
        videos_N: Array,
        steps: tuple[int, ...],
        train_mask_EN: Array,
        order: list[torch.Generator],
        *,
        batch_size: int,
        accumulate: int,
    ) -> None:
        super().__init__((), train_mask_EN, order, batch_size=batch_size, accumulate=accumulate)
        self.videos, self.steps = video_groups(rows, videos_N), steps
        self.videos_per_batch = max(1, round(batch_size * len(self.videos) / len(rows)))

    def _batches(self) -> list[PlannedBatch]:
        orders = [torch.randperm(len(self.videos), generator=g).tolist() for g in self.order]
        sizes = sorted((len(video) for video in self.videos), reverse=True)
        width = sum(sizes[: self.videos_per_batch])  # the size of the largest possible batch
        batches = []
        for start in range(0, len(self.videos), self.videos_per_batch):
            rows, weights = [], []
            for order in orders:
                videos = order[start : start + self.videos_per_batch]
                utterances = np.concatenate([self.videos[video] for video in videos])
                padding = (0, width - len(utterances))
                rows.append(np.pad(utterances, padding, mode="edge"))
                weights.append(np.pad(np.ones(len(utterances), np.float32), padding))
            batches.append(PlannedBatch(self.steps, np.stack(rows), np.stack(weights)))
        return batches
