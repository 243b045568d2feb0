"""Plan which utterances form a batch: length buckets whose shapes all members share.

Batches of similar length are trimmed to the longest of their bucket. The sequence of buckets
depends only on corpus and epoch; only the order within a bucket differs between members. Shapes
therefore do not depend on the other members, and a seed takes the same steps alone.

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
        steps: to trim or pad each modality to.
        rows_EB: indices of utterances.
        weight_EB: shares of the update's mean loss, 0 on padding.
    """

    steps: tuple[int, ...]
    rows_EB: Array
    weight_EB: Array


def make_buckets(
    rows: Array, lengths_MN: Array, count: int, batch_size: int, *, together: bool
) -> tuple[Bucket, ...]:
    """Sort by total length and divide into `count` groups of about equal size.

    All groups except the longest consist of whole batches, so that only one batch per epoch has
    padding rows.

    Args:
        together: give all modalities of a bucket the same steps, so that their encoders can run as
            one stack (word-aligned corpora, whose lengths differ only where one is absent).
    """
    lengths = lengths_MN[:, rows]
    ordered = rows[np.lexsort((rows, lengths.sum(0)))]
    batches = -(-len(rows) // batch_size)
    count = min(count, batches)
    cuts = [round(batches * index / count) * batch_size for index in range(count)]
    return tuple(
        Bucket(group, longest_steps(lengths_MN[:, group], together=together))
        for group in np.split(ordered, cuts[1:])
    )


def longest_steps(lengths_MB: Array, *, together: bool) -> tuple[int, ...]:
    """Return the number of steps per modality that fits all utterances, at least 1."""
    longest = np.maximum(lengths_MB.max(1), 1)
    if together:
        longest[:] = longest.max()
    return tuple(int(steps) for steps in longest)


def evaluation_batches(buckets: tuple[Bucket, ...], batch_size: int) -> Iterator[PlannedBatch]:
    """Yield every utterance once, in a fixed order, the same for all members (`[1, B]`)."""
    for bucket in buckets:
        for start in range(0, len(bucket.rows), batch_size):
            rows = bucket.rows[start : start + batch_size][None]
            yield PlannedBatch(bucket.steps, rows, np.ones(rows.shape, np.float32))


def video_groups(rows: Array, videos_N: Array) -> list[Array]:
    """Divide utterances by video; videos and their utterances stay in the order of the corpus."""
    rows = np.sort(rows)
    _, first = np.unique(videos_N[rows], return_index=True)
    return [rows[videos_N[rows] == videos_N[rows[start]]] for start in np.sort(first)]


def evaluation_videos(
    rows: Array, videos_N: Array, steps: tuple[int, ...], batch_size: int
) -> Iterator[PlannedBatch]:
    """Yield batches of whole videos with about `batch_size` utterances each."""
    waiting: list[Array] = []
    groups = video_groups(rows, videos_N)
    for index, group in enumerate(groups):
        waiting.append(group)
        if sum(map(len, waiting)) >= batch_size or index + 1 == len(groups):
            some = np.concatenate(waiting)[None]
            yield PlannedBatch(steps, some, np.ones(some.shape, np.float32))
            waiting = []


class EpochPlanner:
    """Plans the updates of an epoch.

    Args:
        buckets: of the train split.
        uses_EN: float `[E, N]`, 1 where a member trains on an utterance, 0 elsewhere (cross-fitting
            leaves some out).
        order: one generator per member, for the order within a bucket.
    """

    def __init__(
        self,
        buckets: tuple[Bucket, ...],
        uses_EN: Array,
        order: list[torch.Generator],
        *,
        batch_size: int,
        accumulate: int,
    ) -> None:
        self.buckets, self.uses_EN, self.order = buckets, uses_EN, order
        self.batch_size, self.accumulate = batch_size, accumulate

    def epoch(self, number: int) -> list[list[PlannedBatch]]:
        """Return updates, each a list of batches whose weights sum to 1 for every member.

        A member that trains on none of an update's utterances has weights 0 there.
        """
        batches = self._batches()
        shuffled = np.random.default_rng([number, len(batches)]).permutation(len(batches))
        groups = [
            [batches[i] for i in shuffled[start : start + self.accumulate]]
            for start in range(0, len(batches), self.accumulate)
        ]
        return [self._update(group) for group in groups]

    def _batches(self) -> list[PlannedBatch]:
        """Return the batches of an epoch, with weight 1, or 0 where a row is padding."""
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
        weights = [self.uses_EN[members, batch.rows_EB] * batch.weight_EB for batch in group]
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
    """Plans updates whose batches are whole videos, in each member's own order.

    Every batch has the same number of videos, about as many as give `batch_size` utterances.
    """

    def __init__(
        self,
        rows: Array,
        videos_N: Array,
        steps: tuple[int, ...],
        uses_EN: Array,
        order: list[torch.Generator],
        *,
        batch_size: int,
        accumulate: int,
    ) -> None:
        super().__init__((), uses_EN, order, batch_size=batch_size, accumulate=accumulate)
        self.videos, self.steps = video_groups(rows, videos_N), steps
        self.per_batch = max(1, round(batch_size * len(self.videos) / len(rows)))

    def _batches(self) -> list[PlannedBatch]:
        orders = [torch.randperm(len(self.videos), generator=g).tolist() for g in self.order]
        sizes = sorted((len(video) for video in self.videos), reverse=True)
        width = sum(sizes[: self.per_batch])  # the most that a batch can have
        batches = []
        for start in range(0, len(self.videos), self.per_batch):
            rows, real = [], []
            for order in orders:
                own = np.concatenate(
                    [self.videos[i] for i in order[start : start + self.per_batch]]
                )
                padding = (0, width - len(own))
                rows.append(np.pad(own, padding, mode="edge"))
                real.append(np.pad(np.ones(len(own), np.float32), padding))
            batches.append(PlannedBatch(self.steps, np.stack(rows), np.stack(real)))
        return batches
