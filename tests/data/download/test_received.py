"""The files of a raw folder that DVC's cache still has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from dhmd.base.errors import DhmdError
from dhmd.data.download import read_received, received_before

RAW = Path("data/raw/tiny")


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


def test_files_are_found_in_the_cache(tmp_path):
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
def test_a_listing_of_another_form_counts_as_none(tmp_path, listing):
    lock, cache = project(tmp_path, listing)
    assert received_before(lock, cache, RAW) == {}


@pytest.mark.parametrize("text", ["[]", "stages: 3", "stages: {a: 1}", "stages: {a: {outs: [1]}}"])
def test_a_lock_of_another_form_counts_as_none(tmp_path, text):
    lock, cache = project(tmp_path, [])
    lock.write_text(text)
    assert received_before(lock, cache, RAW) == {}


@pytest.mark.parametrize(("text", "said"), [(None, "is missing"), ("[1]", "is damaged")])
def test_a_missing_or_damaged_list_is_said(tmp_path, text, said):
    if text is not None:
        (tmp_path / "sources.json").write_text(text)
    with pytest.raises(DhmdError, match=f"sources.json {said}: run the download stage again"):
        read_received(tmp_path)
