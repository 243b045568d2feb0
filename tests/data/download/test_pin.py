"""Pins go into the recipe's text, and nothing else of it changes."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest
import yaml

from dhmd.base.errors import DhmdError
from dhmd.data.download import pin
from dhmd.data.download.manifest import FileRecord
from dhmd.data.download.pin import edited
from tests.data.download.conftest import FakeRecipe, FakeSequence

RECIPE = """\
title: a corpus   # said shortly
sequences:        # name -> file
  words:          # the reference
    path: language/W.csd   # as on the server
    bytes: null   # once known
    sha256: null

  labels:
    path: labels/L.csd
    # from the second release
    sha256: 00ff
modalities:
  text: words     # bytes: 3
"""
RECORDS = {
    "words": FileRecord(sha256="ab" * 32, bytes=12),
    "labels": FileRecord(sha256="12" * 32, bytes=345),
}


def test_values_are_replaced_or_added_and_comments_kept():
    assert (
        edited(RECIPE, RECORDS, where="r.yaml")
        == f"""\
title: a corpus   # said shortly
sequences:        # name -> file
  words:          # the reference
    path: language/W.csd   # as on the server
    bytes: 12   # once known
    sha256: "{"ab" * 32}"

  labels:
    path: labels/L.csd
    bytes: 345
    # from the second release
    sha256: "{"12" * 32}"
modalities:
  text: words     # bytes: 3
"""
    )


@pytest.mark.parametrize(
    "text",
    [
        "sequences:\n  words:\n    bytes:\n    path: W.csd\n    sha256:   # later\n",
        "sequences:\n  words: {path: W.csd, bytes: null}\n",
        "sequences: {words: {path: W.csd}}\n",
        "sequences:\n  words:\n    path: W.csd",
        "sequences:\n  words:\n    sha256: ~\n    path: 'W.csd'\n",
    ],
)
def test_every_way_to_write_the_entry(text):
    new = edited(text, {"words": RECORDS["words"]}, where="r.yaml")
    assert yaml.safe_load(new) == {
        "sequences": {"words": {"path": "W.csd", "bytes": 12, "sha256": "ab" * 32}}
    }
    assert edited(new, {"words": RECORDS["words"]}, where="r.yaml") == new


def test_digits_only_hash_stays_a_string():
    record = FileRecord(sha256="1" * 64, bytes=1)
    new = edited("sequences:\n  w:\n    path: x\n", {"w": record}, where="r.yaml")
    assert yaml.safe_load(new)["sequences"]["w"]["sha256"] == "1" * 64


def test_unknown_sequence_is_refused():
    with pytest.raises(DhmdError, match=r"r\.yaml has no sequences\.audio\.path to pin"):
        edited(RECIPE, {"audio": RECORDS["words"]}, where="r.yaml")


def test_shared_anchor_is_not_edited_wrongly():
    text = "a: &e {path: W.csd, bytes: 1}\nsequences:\n  words: *e\n"
    with pytest.raises(DhmdError, match="aliases"):
        edited(text, {"words": RECORDS["words"]}, where="r.yaml")


def test_pin_reads_the_raw_folder(tmp_path):
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "words.csd").write_bytes(b"abc")
    recipe_file = tmp_path / "tiny.yaml"
    recipe_file.write_text("sequences:\n  words:\n    path: W.csd\n")
    recipe = FakeRecipe(sequences={"words": FakeSequence("W.csd")})
    assert pin(recipe, recipe_file=recipe_file, raw=raw)["words"].bytes == 3
    assert yaml.safe_load(recipe_file.read_text())["sequences"]["words"] == {
        "path": "W.csd",
        "bytes": 3,
        "sha256": hashlib.sha256(b"abc").hexdigest(),
    }
    (raw / "words.csd").unlink()
    with pytest.raises(DhmdError, match="run the download stage for tiny before pinning"):
        pin(recipe, recipe_file=recipe_file, raw=raw)
    with pytest.raises(DhmdError, match="nothing to pin"):
        pin(replace(recipe, format="generated"), recipe_file=recipe_file, raw=raw)
