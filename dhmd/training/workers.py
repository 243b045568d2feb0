"""How many processes share a job's members, and which of them gets what.

On a CPU members gain nothing from each other's company, and a process gains nothing from a second
thread (docs/performance.md): so cores are used by processes of one thread each.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch

from dhmd.base.machine import installed_memory, usable_cores
from dhmd.data.aligned.corpus import Corpus
from dhmd.training.config import TrainConfig
from dhmd.training.device import DEFAULT_THREADS

# A worker takes some 3 s of a core to start. A job of less work than this, in passes of a member
# through an utterance (validation aside), is left to one process. On the demo a second does some
# 1,000 such passes in training and 100,000 in pretraining: with 15 s of work two workers pay.
WORTH = {"pretrain": 1_500_000, "train": 15_000}

# Bytes of a process of torch with a small model; the corpus comes on top, at most four times:
# as read, what is present of it, normalised, and padded.
_PROCESS_BYTES = 600 << 20
_COPIES = 4

T = TypeVar("T")


def chosen_workers(
    train: TrainConfig,
    corpus: Corpus,
    device: torch.device,
    *,
    members: int,
    work: int,
    worth: int,
) -> int:
    """How many processes train `members` members that can be trained apart.

    `train.workers` where it is given; else one a core (of as many threads as a process has), as far
    as half of the memory allows, and one where the work is not worth more. On a GPU always one.

    Nothing that changes from one moment to the next takes part, such as free memory: a number of
    workers has its own last bits, and an interrupted job goes on only with the same.
    """
    if device.type != "cpu":
        return 1
    if train.workers is not None:
        return min(train.workers, members)
    if work < worth:
        return 1
    most = usable_cores() // (train.threads or DEFAULT_THREADS)
    memory = installed_memory()
    if memory is not None:
        read = sum(ragged.values.nbytes for ragged in corpus.features.values())
        most = min(most, memory // 2 // (_PROCESS_BYTES + _COPIES * read))
    return max(1, min(most, members))


def shares(items: Sequence[T], count: int) -> list[list[T]]:
    """The items in their order, in at most `count` shares of about equal size, larger ones first.

    Of the number of items and `count` alone, so that a job is always split the same way.
    """
    count = min(count, len(items))
    size, more = divmod(len(items), count)
    found, start = [], 0
    for index in range(count):
        end = start + size + (index < more)
        found.append(list(items[start:end]))
        start = end
    return found
