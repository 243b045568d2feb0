"""Pins are written into the recipe's text; its comments and other values do not change."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from dhmd.base.errors import DhmdError
from dhmd.data.download import FileRecord
from dhmd.data.download.pin import pin, pinned_text
from tests.data.download.conftest import FakeRecipe, FakeSequence

ROOT = Path(__file__).parents[3]
RECIPE = """\
title: a corpus   # in short
sources:
  - http://host   # the first
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


def changed_lines(old: str, new: str) -> list[str]:
    """Return the lines of the diff between two texts."""
    lines = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0)
    return [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]


def test_values_are_replaced_or_added_and_comments_are_kept():
    new = pinned_text(RECIPE, RECORDS, where="r.yaml")
    before = yaml.safe_load(RECIPE)
    for name, record in RECORDS.items():
        before["sequences"][name] |= {"bytes": record.bytes, "sha256": record.sha256}
    assert yaml.safe_load(new) == before
    for line in RECIPE.splitlines():
        if "#" in line:
            assert line.partition("#")[2] in new
    assert pinned_text(new, RECORDS, where="r.yaml") == new


@pytest.mark.parametrize("name", ["mosi", "mosei", "mustard", "my_arrays", "mosi_mmsa"])
def test_only_the_pins_of_shipped_recipes_change(name):
    text = (ROOT / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")
    sequences = yaml.safe_load(text)["sequences"]
    records = {key: FileRecord(sha256="ab" * 32, bytes=12) for key in sequences}
    new = pinned_text(text, records, where=name)
    lines = changed_lines(text, new)
    assert len(lines) <= 4 * len(sequences)
    assert all(line[1:].strip().startswith(("bytes:", "sha256:")) for line in lines)


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
def test_pins_are_added_to_any_form_of_an_entry(text):
    record = FileRecord(sha256="1" * 64, bytes=12)  # digits only: it stays a string
    new = pinned_text(text, {"words": record}, where="r.yaml")
    expected = {"path": "W.csd", "bytes": 12, "sha256": "1" * 64}
    assert yaml.safe_load(new) == {"sequences": {"words": expected}}


def test_recipes_without_the_sequence_are_errors():
    with pytest.raises(DhmdError, match=r"r\.yaml has no sequences\.audio\.path to pin"):
        pinned_text(RECIPE, {"audio": RECORDS["words"]}, where="r.yaml")
    with pytest.raises(DhmdError, match=r"r\.yaml is not YAML"):
        pinned_text("a: [", RECORDS, where="r.yaml")


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
