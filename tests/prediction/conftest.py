"""Models for all tests of this folder; each is trained once."""

from __future__ import annotations

import pytest

from tests.prediction.corpora import Pipeline, run_pipeline
from tests.threads import one_thread

__all__ = ["one_thread"]


@pytest.fixture(scope="session")
def trained_regression(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Train a regression on three word-aligned modalities."""
    return run_pipeline(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="session")
def trained_classification(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    """Train a classification on two unaligned modalities."""
    return run_pipeline(
        tmp_path_factory.mktemp("classes"),
        task="classification",
        alignment="none",
        modalities=("text", "vision"),
        epochs=1,
    )
