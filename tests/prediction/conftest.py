"""Models that the tests of this folder share; each is trained once."""

from __future__ import annotations

import pytest

from tests.prediction.corpora import Pipeline, run_pipeline
from tests.threads import one_thread

__all__ = ["one_thread"]


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """A regression on three word-aligned modalities."""
    return run_pipeline(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def trained_classes(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """A classification of two modalities, each at its own rate."""
    return run_pipeline(
        tmp_path_factory.mktemp("classes"),
        task="classification",
        alignment="none",
        modalities=("text", "vision"),
        epochs=1,
    )
