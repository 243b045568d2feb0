"""One tiny encoder for all tests of a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.text_encoder.tiny import write_tiny
from tests.threads import one_thread

__all__ = ["one_thread"]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "bert")


@pytest.fixture(scope="session")
def tiny_wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that knows as many tokens as the generated MMSA files hold."""
    return write_tiny(tmp_path_factory.mktemp("tiny") / "wide", vocabulary=1000)
