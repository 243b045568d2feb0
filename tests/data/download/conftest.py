"""A small corpus to download: two computational sequences, their recipe, and a server."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.download import download
from dhmd.data.download.web import RetryPolicy
from tests.data.download.server import Server, run_server, whole_body

QUICK = RetryPolicy(attempts=3, timeout_s=0.5, pause_s=0.001, max_pause_s=0.01)
WORDS = "/language/W.csd"
LABELS = "/labels/L.csd"


@dataclass(frozen=True)
class FakeSequence:
    path: str
    bytes: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class FakeRecipe:
    """The attributes of a recipe that the download uses."""

    name: str = "tiny"
    format: str = "csd"
    sources: tuple[str, ...] = ()
    sequences: dict[str, FakeSequence] = field(default_factory=dict)

    @property
    def source(self) -> str:
        return f"recipes/{self.name}.yaml"

    @property
    def required_sequences(self) -> dict[str, FakeSequence]:
        return self.sequences

    def pinned(self, name: str, **pins: object) -> FakeRecipe:
        sequence = replace(self.sequences[name], **pins)
        return replace(self, sequences={**self.sequences, name: sequence})


@dataclass(frozen=True)
class Project:
    """A project folder into which the dataset `tiny` is downloaded."""

    root: Path

    @property
    def output(self) -> Path:
        return self.root / "data" / "raw" / "tiny"

    def get(self, recipe: FakeRecipe, override: str | None = None, **options: object) -> None:
        policy = options.pop("policy", QUICK)
        options = {"override": override, "root": self.root, "policy": policy, **options}
        download(recipe, output=self.output, **options)  # type: ignore[arg-type]

    def error_message(
        self, recipe: FakeRecipe, override: str | None = None, **options: object
    ) -> str:
        """Return the error message of a download that must fail without leaving a file."""
        with pytest.raises(DhmdError) as caught:
            self.get(recipe, override, **options)
        assert list(self.output.parent.glob("*")) == []
        assert str(caught.value).isprintable()
        return str(caught.value)

    def read(self, file: str) -> bytes:
        return (self.output / file).read_bytes()


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def hdf5_body(seed: int, size: int = 200_000) -> bytes:
    """Return the bytes of an HDF5 file of about `size` bytes."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        noise = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)
        file.create_dataset("x", data=noise)
    return buffer.getvalue()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with run_server() as running_server:
        yield running_server


@pytest.fixture
def words() -> bytes:
    return hdf5_body(1)


@pytest.fixture
def labels() -> bytes:
    return hdf5_body(2, 5_000)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def recipe() -> FakeRecipe:
    return FakeRecipe(
        sequences={"words": FakeSequence(WORDS[1:]), "labels": FakeSequence(LABELS[1:])}
    )


@pytest.fixture
def served(recipe: FakeRecipe, server: Server, words: bytes, labels: bytes) -> FakeRecipe:
    """Return the recipe, with a server without faults as its only source."""
    server.files = {WORDS: whole_body(words, ETag='"w1"'), LABELS: whole_body(labels, ETag='"l1"')}
    return replace(recipe, sources=(server.url,))
