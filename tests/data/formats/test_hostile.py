"""Hostile and wrong MMSA files as the pipeline meets them: each with its whole sentence."""

from __future__ import annotations

import fractions
import os
import pickle
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.formats.files import mmsa_splits
from tests.data.formats.recipes import mmsa_recipe, refused
from tests.data.formats.test_pickles import Calls


def with_value(key: str, value: Any) -> bytes:
    """A whole file in which `train` holds `value` under `key`."""
    content = mmsa_splits()
    content["train"][key] = value
    return pickle.dumps(content, protocol=4)


def executes(folder: Path) -> bytes:
    return with_value("id", Calls(os.system, f"touch {folder / 'ran'}"))


def unknown_class(_: Path) -> bytes:
    return with_value("id", fractions.Fraction(1, 3))


def truncated(_: Path) -> bytes:
    return pickle.dumps(mmsa_splits(), protocol=2)[:-1]


def ten_gigabytes(_: Path) -> bytes:
    return b"\x80\x05\x8e" + struct.pack("<Q", 10 * 2**30) + b"abc."


def wrong_keys(_: Path) -> bytes:
    content: dict[str, Any] = mmsa_splits()
    return pickle.dumps({"train": content["train"], "dev": content["valid"]})


def objects(_: Path) -> bytes:
    return with_value("audio", np.array([{"a": 1}] * 12, dtype=object))


def ragged(_: Path) -> bytes:
    return with_value("audio", np.array([np.ones(2), np.ones(3)], dtype=object))


def ragged_lists(_: Path) -> bytes:
    return with_value("audio", [[[1.0], [2.0, 3.0]]])


def swapped(_: Path) -> bytes:
    content = mmsa_splits()
    return pickle.dumps(content | {"train": content["test"], "test": content["train"]})


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            executes,
            " holds posix.system, which is neither an array nor a plain container: refused, and "
            "nothing of it was run",
        ),
        (
            unknown_class,
            " holds fractions.Fraction, which is neither an array nor a plain container: refused, "
            "and nothing of it was run",
        ),
        (
            truncated,
            " is truncated or damaged: it announces a block of 1 bytes, and the file has {size}",
        ),
        (
            ten_gigabytes,
            " is truncated or damaged: reading it takes more memory than its {size} bytes may need",
        ),
        (
            wrong_keys,
            " is no MMSA feature file: its top-level keys are 'train', 'dev', expected train, "
            "valid and test",
        ),
        (objects, ": an array of objects holds a dict, admitted are text and numbers"),
        (ragged, ": a ragged array (rows of different lengths) is not admitted"),
        (ragged_lists, ": train.audio is ragged: its rows have different lengths"),
        (swapped, ": train has 6 utterances and test 12: the splits are swapped"),
    ],
)
def test_nothing_runs_and_the_sentence_says_what_is_wrong(
    tmp_path: Path, make: Callable[[Path], bytes], sentence: str
) -> None:
    path = tmp_path / "file.pkl"
    path.write_bytes(make(tmp_path))
    sentence = sentence.format(size=path.stat().st_size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert refused(mmsa_recipe(), tmp_path) == f"{path}{sentence}"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB
    assert sorted(tmp_path.iterdir()) == [path]
