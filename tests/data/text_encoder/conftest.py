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
