"""Which utterances meet in a step: length buckets whose shapes all members share.

Batches of similar length are trimmed to their bucket's longest. The sequence of buckets is a
function of corpus and epoch alone; only the order within a bucket is each member's own. So shapes
do not depend on company, and a seed alone follows the path it follows in company.

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
    """Utterances of similar length, and the steps a modality that hold them all."""

    rows: Array
    steps: tuple[int, ...]


@dataclass(frozen=True)
class PlannedBatch:
    """One step's utterances: `rows_EB` indices, `weight_EB` shares of the update's mean loss."""

    bucket: int
    steps: tuple[int, ...]
    rows_EB: Array
    weight_EB: Array


def make_buckets(
    rows: Array, lengths_MN: Array, count: int, batch_size: int, *, together: bool
) -> tuple[Bucket, ...]:
    """Sort by total length, cut into `count` groups of about equal size.

    All groups but the longest are whole batches, so that only one batch of an epoch is partly
    padding. `together`: all modalities of a bucket get the same steps, so that their encoders can
    run as one stack (word-aligned corpora, whose lengths differ only where one is absent).
    """
    lengths = lengths_MN[:, rows]
    ordered = rows[np.lexsort((rows, lengths.sum(0)))]
    batches = -(-len(rows) // batch_size)
    count = min(count, batches)
    cuts = [round(batches * index / count) * batch_size for index in range(count)]
    return tuple(
        Bucket(group, _steps(lengths_MN[:, group], together))
        for group in np.split(ordered, cuts[1:])
    )


def _steps(lengths_MB: Array, together: bool) -> tuple[int, ...]:
    longest = np.maximum(lengths_MB.max(1), 1)
    if together:
        longest[:] = longest.max()
    return tuple(int(steps) for steps in longest)


def evaluation_batches(buckets: tuple[Bucket, ...], batch_size: int) -> Iterator[PlannedBatch]:
    """Every utterance once, in a fixed order, the same for all members (`rows_EB` is `[1, B]`)."""
    for number, bucket in enumerate(buckets):
        for start in range(0, len(bucket.rows), batch_size):
            rows = bucket.rows[start : start + batch_size][None]
            yield PlannedBatch(number, bucket.steps, rows, np.ones(rows.shape, np.float32))


class EpochPlanner:
    """Plans the updates of an epoch.

    Args:
        buckets: of the train split.
        uses_EN: float `[E, N]`, 1 where a member trains on an utterance (cross-fitting leaves
            some out), 0 elsewhere.
        order: one generator a member, for the order within a bucket.
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
        """Updates, each a list of batches whose weights sum to 1 for every member.

        A member that trains on none of an update's utterances has weights 0 there.
        """
        batches: list[tuple[int, Array]] = []
        for index, bucket in enumerate(self.buckets):
            rows_EX = np.stack(
                [
                    bucket.rows[torch.randperm(len(bucket.rows), generator=g).numpy()]
                    for g in self.order
                ]
            )
            for start in range(0, len(bucket.rows), self.batch_size):
                batches.append((index, rows_EX[:, start : start + self.batch_size]))
        shuffled = np.random.default_rng([number, len(batches)]).permutation(len(batches))
        groups = [
            [batches[i] for i in shuffled[start : start + self.accumulate]]
            for start in range(0, len(batches), self.accumulate)
        ]
        return [self._update(group) for group in groups]

    def _update(self, group: list[tuple[int, Array]]) -> list[PlannedBatch]:
        members = np.arange(len(self.order))[:, None]
        weights = [self.uses_EN[members, rows] for _, rows in group]
        total = np.sum([weight.sum(1) for weight in weights], axis=0)
        share = (1 / np.maximum(total, 1))[:, None]
        planned = []
        for (index, rows), weight in zip(group, weights, strict=True):
            padding = ((0, 0), (0, self.batch_size - rows.shape[1]))
            planned.append(
                PlannedBatch(
                    index,
                    self.buckets[index].steps,
                    np.pad(rows, padding, mode="edge"),
                    np.pad(weight * share, padding).astype(np.float32),
                )
            )
        return planned
