"""The tests of this folder use one thread and share tiny artefacts."""

from tests.threads import one_thread
from tests.training.artefacts import tiny_artefacts

__all__ = ["one_thread", "tiny_artefacts"]
