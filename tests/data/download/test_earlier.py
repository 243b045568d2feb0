"""A pinned file that was received before is not fetched again; anything else is."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from dhmd.base.errors import DhmdError
from dhmd.data.download import download, received_before
from dhmd.data.download.web import Patience
from tests.data.download.conftest import FakeRecipe, hdf5_body
from tests.data.download.server import Server, whole

RAW = Path("data/raw/tiny")


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


def project(folder: Path, listing: object, **files: bytes) -> tuple[Path, Path]:
    """dvc.lock and a cache that holds `listing` as the raw folder's, and files by hash."""
    cache = folder / "cache"
    tree = json.dumps(listing).encode()
    for md5, body in {"ab" * 16 + ".dir": tree, **files}.items():
        path = cache / "files" / "md5" / md5[:2] / md5[2:]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    out = {"path": "data/raw/tiny", "hash": "md5", "md5": "ab" * 16 + ".dir"}
    stages = {
        "download@other": {"cmd": "c", "outs": [{"path": "data/raw/other", "md5": "00" * 16}]},
        "download@tiny": {"cmd": "c", "outs": [out]},
    }
    lock = folder / "dvc.lock"
    lock.write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    return lock, cache


def test_files_are_found_in_the_cache(tmp_path: Path) -> None:
    listing = [
        {"md5": "12" * 16, "relpath": "words.csd"},
        {"md5": "34" * 16, "relpath": "labels.csd"},
        {"md5": "../../../etc/passwd", "relpath": "x"},
    ]
    lock, cache = project(tmp_path, listing, **{"12" * 16: b"body"})
    found = received_before(lock, cache, RAW)
    assert list(found) == ["words.csd"]
    assert found["words.csd"].read_bytes() == b"body"
    assert received_before(lock, cache, Path("data/raw/other")) == {}
    assert received_before(lock, cache, Path("data/raw/third")) == {}
    assert received_before(tmp_path / "absent", cache, RAW) == {}


@pytest.mark.parametrize("listing", [{"a": 1}, [1], [{"md5": "12" * 16}], None])
def test_a_listing_of_another_form_counts_as_none(tmp_path: Path, listing: object) -> None:
    lock, cache = project(tmp_path, listing)
    assert received_before(lock, cache, RAW) == {}


@pytest.mark.parametrize("text", ["[]", "stages: 3", "stages: {a: 1}", "stages: {a: {outs: [1]}}"])
def test_a_lock_of_another_form_counts_as_none(tmp_path: Path, text: str) -> None:
    lock, cache = project(tmp_path, [])
    lock.write_text(text)
    assert received_before(lock, cache, RAW) == {}
