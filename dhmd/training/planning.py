"""Decide which members train together: stacks of variants, and shares of worker processes.

On a CPU neither larger stacks nor more threads per process are faster (docs/performance.md), so
there is one process with one thread per core. A GPU trains all members of a stack at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

import torch

from dhmd.base.files import json_sha256
from dhmd.base.machine import installed_memory, usable_cores
from dhmd.data.aligned.corpus import Corpus
from dhmd.training.compute import ComputeConfig
from dhmd.training.configuration import Configuration
from dhmd.training.device import DEFAULT_THREADS, visible_gpus

# A worker process takes about 3 s to start, so a job below this amount of work uses one process.
# Work is counted in forward passes of one member on one utterance: about 1,000 per second in
# training and 100,000 in pretraining on the demo. Two workers are faster from 15 s of work on.
WORTH = {"pretrain": 1_500_000, "train": 15_000}

# Bytes of a process with torch and a small model, without the corpus, of which a process has at
# most four copies: as read, without absent modalities, normalised, and padded.
_PROCESS_BYTES = 600 << 20
_COPIES = 4

# The most members of a stack by device type; larger stacks are not faster.
_MOST = {"cpu": 30, "cuda": 512}
# Bytes that a stack may keep for its gradients, on a workstation and on a large GPU.
_KEPT = {"cpu": 6 << 30, "cuda": 32 << 30}
# Bytes per attention weight: the weight and the random bits of its dropout.
_WEIGHT = 6
# Bytes per step and feature of an encoder layer, which keeps about thirty intermediate results.
_VALUE = 30 * 4

T = TypeVar("T")


def choose_workers(
    compute: ComputeConfig,
    corpus: Corpus,
    device: torch.device,
    *,
    members: int,
    work: int,
    worth: int,
) -> int:
    """Choose the number of processes for members that can be trained separately.

    It is `compute.workers` if that is set. Otherwise there is one process per member on a cluster,
    or one per stack if its tasks have GPUs; on this machine one per GPU, or one per core as far as
    half of the installed memory allows, and one process if `work` is less than `worth`.

    The number does not depend on free memory or load: results differ by rounding between numbers
    of workers, and an interrupted job resumes only with the same number.
    """
    on_gpu, chosen = device.type != "cpu", compute.workers
    if compute.executor != "local":
        return min(chosen or (1 if on_gpu else members), members)
    if chosen is None and work < worth:
        return 1
    if on_gpu:
        most = max(1, len(visible_gpus()))
        return min(chosen or most, most, members)
    if chosen is not None:
        return min(chosen, members)
    most = usable_cores() // (compute.threads or DEFAULT_THREADS)
    memory = installed_memory()
    if memory is not None:
        read = sum(ragged.values.nbytes for ragged in corpus.features.values())
        most = min(most, memory // 2 // (_PROCESS_BYTES + _COPIES * read))
    return max(1, min(most, members))


def split_evenly(items: Sequence[T], count: int) -> list[list[T]]:
    """Split the items, in order, into at most `count` lists of about equal size, larger first.

    The split depends only on the number of items and `count`, so that it is always the same.
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
    """Return the largest number of members that fits into memory as one stack; at least one.

    It depends only on lengths and shapes, so that it is the same on every machine.
    """
    kept = _KEPT[device.type] // bytes_kept(configuration, corpus)
    return max(1, min(_MOST[device.type], kept))


def bytes_kept(configuration: Configuration, corpus: Corpus) -> int:
    """Estimate the bytes per member that a step of the full model keeps for its gradient.

    A batch is as long as its longest utterance, and every modality attends to every modality. With
    long sequences, as in unaligned corpora, attention weights need most of the memory.
    """
    rows = corpus.index("train")
    lengths = [corpus.features[name].lengths[rows] for name in configuration.modalities]
    steps = sum(int(each.max()) for each in lengths)
    model = configuration.model
    attention = model.heads * _WEIGHT * steps**2
    values = model.width * _VALUE * steps * len(lengths)
    return max(1, configuration.train.batch_size * model.layers * (attention + values))
