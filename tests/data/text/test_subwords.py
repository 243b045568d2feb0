"""Words are split into sub-words, with the index of their word."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dhmd.data.text.encoder import load_encoder
from dhmd.data.text.subwords import split_words
from tests.data.text.tiny import VOCABULARY


@pytest.fixture(scope="module")
def tokenizer(tiny_encoder: Path) -> object:
    return load_encoder(str(tiny_encoder), tiny_encoder).tokenizer


def pieces(ids: np.ndarray) -> list[str]:
    return [VOCABULARY[index] for index in ids]


def test_each_sub_word_has_the_index_of_its_word(tokenizer: object) -> None:
    (subwords,) = split_words(tokenizer, ["I", "like", "ungoodness"], 64)
    assert pieces(subwords.ids) == ["[CLS]", "i", "like", "un", "##good", "##ness", "[SEP]"]
    assert subwords.steps.tolist() == [-1, 0, 1, 2, 2, 2, -1]
    assert subwords.types.tolist() == [0] * 7


def test_punctuation_belongs_to_its_word(tokenizer: object) -> None:
    (subwords,) = split_words(tokenizer, ["i't", "bad"], 64)
    assert pieces(subwords.ids) == ["[CLS]", "i", "'", "t", "bad", "[SEP]"]
    assert subwords.steps.tolist() == [-1, 0, 0, 0, 1, -1]


def test_a_word_without_sub_words_is_unknown(tokenizer: object) -> None:
    (subwords,) = split_words(tokenizer, ["good", "\u200b", "", "bad", "日"], 64)
    assert pieces(subwords.ids) == ["[CLS]", "good", "[UNK]", "[UNK]", "bad", "[UNK]", "[SEP]"]
    assert subwords.steps.tolist() == [-1, 0, 1, 2, 3, 4, -1]


def test_long_sentences_need_several_passes(tokenizer: object) -> None:
    words = ["good", "ungood", "one", "ungoodness", "bad"]
    passes = split_words(tokenizer, words, 5)
    assert [pieces(subwords.ids)[1:-1] for subwords in passes] == [
        ["good", "un", "##good"],
        ["one"],
        ["un", "##good", "##ness"],
        ["bad"],
    ]
    steps = [subwords.steps[1:-1].tolist() for subwords in passes]
    assert steps == [[0, 1, 1], [2], [3, 3, 3], [4]]
    assert all(len(subwords.ids) <= 5 for subwords in passes)


def test_a_word_longer_than_a_pass_is_cut(tokenizer: object) -> None:
    passes = split_words(tokenizer, ["bad", "abcdefgh", "bad"], 6)
    assert [len(subwords.ids) for subwords in passes] == [3, 6, 3]
    assert [subwords.steps[1] for subwords in passes] == [0, 1, 2]
