"""The tests of this folder use one thread and share tiny artefacts."""

from tests.threads import one_thread
from tests.training.artefacts import tiny

__all__ = ["one_thread", "tiny"]
