"""Tests of this folder run on one thread and share what is pretrained."""

from tests.threads import one_thread
from tests.training.artefacts import tiny

__all__ = ["one_thread", "tiny"]
