"""A small corpus to fetch: two computational sequences, their recipe, a server."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.data.download.server import Server, running


@dataclass(frozen=True)
class FakeSequence:
    path: str
    bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class FakeRecipe:
    """The part of a recipe that the sources read."""

    name: str = "tiny"
    format: str = "csd"
    sources: tuple[str, ...] = ()
    sequences: dict[str, FakeSequence] = field(default_factory=dict)

    @property
    def needed(self) -> dict[str, FakeSequence]:
        return self.sequences

    def pinned(self, name: str, **pins: object) -> FakeRecipe:
        sequence = replace(self.sequences[name], **pins)
        return replace(self, sequences={**self.sequences, name: sequence})


def hdf5_body(seed: int, size: int = 200_000) -> bytes:
    """A whole HDF5 file of about `size` bytes."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        noise = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
        file.create_dataset("x", data=noise)
    return buffer.getvalue()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with running() as running_server:
        yield running_server


@pytest.fixture
def words() -> bytes:
    return hdf5_body(1)


@pytest.fixture
def labels() -> bytes:
    return hdf5_body(2, 5_000)


@pytest.fixture
def recipe() -> FakeRecipe:
    return FakeRecipe(
        sequences={
            "words": FakeSequence("language/W.csd"),
            "labels": FakeSequence("labels/L.csd"),
        }
    )


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "data" / "raw" / "tiny"
