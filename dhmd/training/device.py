"""Where and how a job computes: device, threads, determinism."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from dhmd.base.errors import DhmdError
from dhmd.training.config import TrainConfig


@contextmanager
def prepared(train: TrainConfig) -> Iterator[torch.device]:
    """The device to train on, with threads and determinism set for the time of a job.

    Raises:
        DhmdError: train.device is cuda and there is none.
    """
    if train.device == "cuda" and not torch.cuda.is_available():
        raise DhmdError("train.device is cuda, but torch sees no GPU here; use auto or cpu")
    use_gpu = train.device != "cpu" and torch.cuda.is_available()
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(train.threads or default_threads())
    torch.use_deterministic_algorithms(True)
    try:
        yield torch.device("cuda" if use_gpu else "cpu")
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)


def default_threads() -> int:
    """The cores this process may use, at most four: beyond that these sizes gain nothing."""
    return min(len(os.sched_getaffinity(0)), 4)
