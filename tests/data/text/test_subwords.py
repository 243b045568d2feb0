"""Words as sub-words: each keeps its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dhmd.data.text.encoder import load_encoder
from dhmd.data.text.subwords import split_words
from tests.data.text.tiny import VOCABULARY


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> object:
    return load_encoder(str(tiny), tiny).tokenizer


def pieces(ids: np.ndarray) -> list[str]:
    return [VOCABULARY[index] for index in ids]


def test_each_sub_word_says_its_word(tokenizer: object) -> None:
    (subwords,) = split_words(tokenizer, ["I", "like", "ungoodness"], 64)
    assert pieces(subwords.ids) == ["[CLS]", "i", "like", "un", "##good", "##ness", "[SEP]"]
    assert subwords.steps.tolist() == [-1, 0, 1, 2, 2, 2, -1]
    assert subwords.types.tolist() == [0] * 7


def test_punctuation_within_a_word_stays_with_it(tokenizer: object) -> None:
    (subwords,) = split_words(tokenizer, ["i't", "bad"], 64)
    assert pieces(subwords.ids) == ["[CLS]", "i", "'", "t", "bad", "[SEP]"]
    assert subwords.steps.tolist() == [-1, 0, 0, 0, 1, -1]


def test_a_word_that_gives_nothing_is_unknown(tokenizer: object) -> None:
    (subwords,) = split_words(tokenizer, ["good", "\u200b", "", "bad", "日"], 64)
    assert pieces(subwords.ids) == ["[CLS]", "good", "[UNK]", "[UNK]", "bad", "[UNK]", "[SEP]"]
    assert subwords.steps.tolist() == [-1, 0, 1, 2, 3, 4, -1]


def test_too_many_go_in_several_passes(tokenizer: object) -> None:
    words = ["good", "ungood", "one", "ungoodness", "bad"]
    passes = split_words(tokenizer, words, 5)
    assert [pieces(one.ids)[1:-1] for one in passes] == [
        ["good", "un", "##good"],
        ["one"],
        ["un", "##good", "##ness"],
        ["bad"],
    ]
    assert [one.steps[1:-1].tolist() for one in passes] == [[0, 1, 1], [2], [3, 3, 3], [4]]
    assert all(len(one.ids) <= 5 for one in passes)


def test_a_word_longer_than_a_pass_is_cut(tokenizer: object) -> None:
    passes = split_words(tokenizer, ["bad", "abcdefgh", "bad"], 6)
    assert [len(one.ids) for one in passes] == [3, 6, 3]
    assert [one.steps[1] for one in passes] == [0, 1, 2]
