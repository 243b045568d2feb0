"""A pinned file that was received before is not fetched again; anything else is."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.download import download
from dhmd.data.download.web import Patience
from tests.data.download.conftest import FakeRecipe, hdf5_body
from tests.data.download.server import Server, whole


@pytest.fixture
def kept(tmp_path: Path, words: bytes) -> Path:
    path = tmp_path / "kept"
    path.write_bytes(words)
    return path


@pytest.fixture
def pinned(recipe: FakeRecipe, server: Server, words: bytes, labels: bytes) -> FakeRecipe:
    """Words are pinned, labels not; the good server has both."""
    server.files = {"/language/W.csd": whole(words), "/labels/L.csd": whole(labels)}
    served = replace(recipe, sources=(server.url,))
    return served.pinned("words", sha256=hashlib.sha256(words).hexdigest())


def get(recipe: FakeRecipe, root: Path, output: Path, earlier: dict[str, Path]) -> None:
    quick = Patience(attempts=1, timeout_s=1)
    options = {"override": None, "root": root, "output": output, "patience": quick}
    download(recipe, earlier=earlier, **options)  # type: ignore[arg-type]


def test_a_pinned_file_is_taken_from_what_was_received(
    pinned, server, kept, tmp_path, output, words
):
    get(pinned, tmp_path, output, {"words.csd": kept, "labels.csd": kept})
    # Nothing says whether the other file is still the server's.
    assert [path for path, _ in server.asked] == ["/labels/L.csd"]
    assert (output / "words.csd").read_bytes() == words
    assert not (output / "words.csd").samefile(kept)


def test_another_content_is_fetched_again(pinned, server, kept, tmp_path, output, words):
    kept.write_bytes(hdf5_body(8))
    get(pinned, tmp_path, output, {"words.csd": kept})
    assert (output / "words.csd").read_bytes() == words
    server.files.clear()
    with pytest.raises(DhmdError, match="tried what was received before: its content changed: sha"):
        get(pinned, tmp_path, output, {"words.csd": kept})
