"""Which members train together: stacks of variants, and shares of processes.

On a CPU members gain nothing from training side by side, and a process gains nothing from a second
thread (docs/performance.md), so cores are used by processes of one thread each. A GPU trains all
members of a stack at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch

from dhmd.base.files import json_sha256
from dhmd.base.machine import installed_memory, usable_cores
from dhmd.data.aligned.corpus import Corpus
from dhmd.training.config import TrainConfig
from dhmd.training.configuration import Configuration
from dhmd.training.device import DEFAULT_THREADS

# A worker process takes some 3 s of a core to start. A job of less work than this, in passes of a
# member through an utterance, is left to one process. On the demo a second does some 1,000 passes
# in training and 100,000 in pretraining: two workers pay from 15 s of work on.
WORTH = {"pretrain": 1_500_000, "train": 15_000}

# Bytes of a process of torch with a small model; the corpus comes on top, at most four times:
# as read, what is present of it, normalised, and padded.
_PROCESS_BYTES = 600 << 20
_COPIES = 4

# Members of a stack at most, by device type: more gain nothing, however short the sequences.
_MOST = {"cpu": 30, "cuda": 512}
# Bytes that a stack may keep for its gradients: of a workstation's memory, of a large GPU's.
_KEPT = {"cpu": 6 << 30, "cuda": 32 << 30}
# Bytes of an attention weight: itself and the random bits of its dropout.
_WEIGHT = 6
# Bytes that an encoder's layer keeps of each value of its width: thirty intermediate results.
_VALUE = 30 * 4

T = TypeVar("T")


def choose_workers(
    train: TrainConfig, corpus: Corpus, device: torch.device, *, members: int, work: int, worth: int
) -> int:
    """How many processes train `members` members that can be trained apart.

    `train.workers` where it is set. Otherwise one per core (of as many threads as a process has),
    as far as half of the memory allows, and one if `work` is less than `worth`. On a GPU one.

    Free memory and other things that change from one moment to the next do not count: results
    differ by rounding between numbers of workers, and an interrupted job resumes only with the
    same number.
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


def split_evenly(items: Sequence[T], count: int) -> list[list[T]]:
    """Split the items, in order, into at most `count` lists of about equal size, larger first.

    Depends on the number of items and `count` alone, so that a job is always split the same way.
    """
    count = min(count, len(items))
    size, more = divmod(len(items), count)
    found, start = [], 0
    for index in range(count):
        end = start + size + (index < more)
        found.append(list(items[start:end]))
        start = end
    return found


def stacks(variants: Mapping[str, Configuration], most: int) -> list[list[str]]:
    """Group the variants that can train as one stack, at most `most` members each."""
    groups: dict[str, list[list[str]]] = {}
    for name, configuration in variants.items():
        stack = groups.setdefault(json_sha256(configuration.structure()), [[]])
        if (len(stack[-1]) + 1) * len(configuration.train.seeds) > most and stack[-1]:
            stack.append([])
        stack[-1].append(name)
    return [names for stack in groups.values() for names in stack]


def most_members(configuration: Configuration, corpus: Corpus, device: torch.device) -> int:
    """The most members that one stack trains within memory; at least one.

    From lengths and shapes alone, the same on every machine: what trains together must not depend
    on how much memory is free.
    """
    kept = _KEPT[device.type] // bytes_kept(configuration, corpus)
    return max(1, min(_MOST[device.type], kept))


def bytes_kept(configuration: Configuration, corpus: Corpus) -> int:
    """Estimate the bytes per member that a step of the full model keeps for its gradient.

    A batch is as long as its longest utterance; every modality attends to every one. Where
    sequences are long, as in unaligned corpora, the attention's weights are most of it.
    """
    rows = corpus.index("train")
    lengths = [corpus.features[name].lengths[rows] for name in configuration.modalities]
    steps = sum(int(each.max()) for each in lengths)
    model = configuration.model
    attention = model.heads * _WEIGHT * steps**2
    values = model.width * _VALUE * steps * len(lengths)
    return max(1, configuration.train.batch_size * model.layers * (attention + values))
