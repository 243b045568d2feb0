"""Tiny text encoders for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.text.tiny import write_tiny
from tests.threads import one_thread

__all__ = ["one_thread"]


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an encoder with a small vocabulary."""
    return write_tiny(tmp_path_factory.mktemp("tiny") / "bert")


@pytest.fixture(scope="session")
def wide_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an encoder with all tokens of the small MMSA files."""
    return write_tiny(tmp_path_factory.mktemp("tiny") / "wide", vocabulary=1000)
