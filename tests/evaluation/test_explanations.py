"""Test the words of dictionary codes; tests/prediction tests the explanations of a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dhmd.evaluation.explanations import Word, WordIndex, words_of_codes

# Six utterances, one modality, two codes: "good" activates code 0, "bad" code 1, "uh" both.
WORDS = (
    ("good", "uh"),
    ("good", "good"),
    ("good",),
    ("bad", "uh"),
    ("bad",),
    ("bad", "rare"),
) * 3
CODES = np.array(
    [[[0.9, 0.1]], [[0.8, 0.2]], [[1.0, 0.0]], [[0.1, 0.9]], [[0.0, 1.0]], [[0.2, 0.8]]] * 3
)


def words_of(
    code: int, codes: Any = CODES, words: Any = WORDS, rows: Any = range(18)
) -> list[Word]:
    return WordIndex(words, np.array(rows)).words_of(codes[:, 0, code], 5)


def test_words_are_ranked_by_their_increase_of_activation() -> None:
    (first,) = words_of(0)
    assert (first.text, first.num_utterances) == ("good", 9)  # twice in one utterance counts once
    assert first.activation == pytest.approx((0.9 + 0.8 + 1.0) / 3)
    # "rare" is in three utterances: too few. "uh" (mean .5) does not lie above the mean (.5).
    (second,) = words_of(1)
    assert second.text == "bad"


def test_constant_codes_and_empty_vocabularies_have_no_words() -> None:
    assert words_of(0, np.full((18, 1, 2), 0.5)) == []
    assert words_of(0, words=((),) * 18) == []
    assert words_of(0, rows=np.zeros(0, int)) == []


def test_absent_utterances_do_not_count() -> None:
    (first,) = words_of(0, rows=range(1, 18))
    assert first.num_utterances == 8
    assert first.activation == pytest.approx((2.7 * 3 - 0.9) / 8)


def test_words_need_text() -> None:
    present = np.ones((18, 1), dtype=bool)
    code_words = words_of_codes({"homogeneous": CODES}, WORDS, ("text",), present)
    assert {key: [word.text for word in words] for key, words in code_words.items()} == {
        ("homogeneous", 0): ["good"],
        ("homogeneous", 1): ["bad"],
    }
    assert words_of_codes({"homogeneous": CODES}, WORDS, ("audio",), present) == {}
