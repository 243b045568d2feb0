"""Tests of this folder run on one thread and share what is pretrained."""

from tests.threads import one_thread
from tests.training.bench import bench

__all__ = ["bench", "one_thread"]
