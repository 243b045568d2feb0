"""Choose which members train together: stacks of variants, and the number of worker processes.

On a CPU neither larger stacks nor more threads per process are faster (docs/performance.md), so
there is one process of one thread per core. A GPU trains all members of a stack at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TypeVar

import torch

from dhmd.base.files import json_sha256
from dhmd.base.machine import installed_memory, usable_cores
from dhmd.data.aligned.corpus import Corpus
from dhmd.training.compute import ComputeConfig
from dhmd.training.configuration import Configuration
from dhmd.training.device import DEFAULT_THREADS, visible_gpus

# A job with less work than this uses one process, since a worker process takes about 3 s to start.
# Work is counted in forward passes of one member on one utterance. On the demo there are about
# 1,000 of them per second in training and 100,000 in pretraining, and two workers are faster from
# 15 s of work on.
MIN_PARALLEL_WORK = {"pretrain": 1_500_000, "train": 15_000}

# Bytes of a process with torch and a small model, without the corpus. A process has at most four
# copies of the corpus: as read, without absent modalities, normalised, and padded.
_PROCESS_BYTES = 600 << 20
_COPIES = 4

# The largest number of members of a stack by device type; larger stacks are not faster.
_MAX_MEMBERS = {"cpu": 30, "cuda": 512}
# Bytes that the activations of a stack may take, on a workstation and on a large GPU.
_MAX_ACTIVATION_BYTES = {"cpu": 6 << 30, "cuda": 32 << 30}
# Bytes per attention weight: the weight and the random bits of its dropout.
_ATTENTION_BYTES = 6
# Bytes per step and feature of an encoder layer, which stores about thirty intermediate results.
_FEATURE_BYTES = 30 * 4

T = TypeVar("T")


def choose_workers(
    compute: ComputeConfig,
    corpus: Corpus,
    device: torch.device,
    *,
    num_members: int,
    enough_work: bool = True,
) -> int:
    """Choose the number of processes for members that can be trained separately.

    It is `compute.workers` if that is set. Otherwise a cluster has one process per member, or one
    per stack if its tasks have GPUs. This machine has one process per GPU, or one per core as far
    as half of the installed memory allows; and only one process without enough work.

    The number does not depend on free memory or load: results differ by rounding between numbers
    of workers, and an interrupted job resumes only with the same number.

    Args:
        num_members: the number of members to train.
        enough_work: whether the job has at least `MIN_PARALLEL_WORK`.
    """
    on_gpu, workers = device.type != "cpu", compute.workers
    if compute.executor != "local":
        return min(workers or (1 if on_gpu else num_members), num_members)
    if workers is None and not enough_work:
        return 1
    if on_gpu:
        gpus = max(1, len(visible_gpus()))
        return min(workers or gpus, gpus, num_members)
    if workers is not None:
        return min(workers, num_members)
    processes = usable_cores() // (compute.threads or DEFAULT_THREADS)
    memory = installed_memory()
    if memory is not None:
        corpus_bytes = sum(ragged.values.nbytes for ragged in corpus.features.values())
        processes = min(processes, memory // 2 // (_PROCESS_BYTES + _COPIES * corpus_bytes))
    return max(1, min(processes, num_members))


def split_evenly(items: Sequence[T], count: int) -> list[list[T]]:
    """Split the items, in order, into at most `count` lists of about equal size, larger first."""
    size, larger = divmod(len(items), count)
    ends = [size * index + min(index, larger) for index in range(min(count, len(items)) + 1)]
    return [list(items[start:end]) for start, end in pairwise(ends)]


def group_by_structure(variants: Mapping[str, Configuration], limit: int) -> list[list[str]]:
    """Group the variants that can train as one stack of at most `limit` members.

    Returns:
        The names of the variants of each stack. A variant with more members is a stack alone.
    """
    groups: dict[str, list[list[str]]] = {}
    for name, configuration in variants.items():
        stack = groups.setdefault(json_sha256(configuration.structure()), [[]])
        if (len(stack[-1]) + 1) * len(configuration.train.seeds) > limit and stack[-1]:
            stack.append([])
        stack[-1].append(name)
    return [names for stack in groups.values() for names in stack]


def max_members(configuration: Configuration, corpus: Corpus, device: torch.device) -> int:
    """Return the largest number of members that fits into memory as one stack, at least 1.

    It depends only on lengths and shapes, so that it is the same on every machine.
    """
    fitting = _MAX_ACTIVATION_BYTES[device.type] // activation_bytes(configuration, corpus)
    return max(1, min(_MAX_MEMBERS[device.type], fitting))


def activation_bytes(configuration: Configuration, corpus: Corpus) -> int:
    """Estimate the bytes per member that a training step stores for its backward pass.

    A batch is as long as its longest utterance, and every modality attends to every modality. With
    long sequences, as in unaligned corpora, attention weights take most of the memory.
    """
    rows = corpus.index("train")
    lengths = [corpus.features[name].lengths[rows].max() for name in configuration.modalities]
    steps = int(sum(lengths))
    model = configuration.model
    attention = model.heads * _ATTENTION_BYTES * steps**2
    features = model.width * _FEATURE_BYTES * steps * len(lengths)
    return max(1, configuration.train.batch_size * model.layers * (attention + features))
