"""Split words into the sub-words of an encoder, each with the index of its word.

Legend: T words (steps), K sub-words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

NO_STEP = -1


@dataclass(frozen=True, eq=False)
class Subwords:
    """The sub-words of one utterance in one pass of an encoder.

    Attributes:
        ids: `[K]` int64, the special tokens of beginning and end among them.
        types: `[K]` int64, the segment ids (0 where a text is one sentence).
        steps: `[K]` int64, the word that each is a part of, −1 for none.
    """

    ids: Array
    types: Array
    steps: Array

    @staticmethod
    def from_lists(ids: Sequence[int], step: Sequence[int]) -> Subwords:
        """Return the sub-words of one sentence."""
        found = np.array(ids, dtype=np.int64)
        return Subwords(found, np.zeros_like(found), np.array(step, dtype=np.int64))


def split_words(tokenizer: Any, words: Sequence[str], most: int) -> list[Subwords]:
    """Split the words of a sentence into sub-words; more than one pass where they are too many.

    Every word has at least one sub-word: one that the tokenizer drops becomes its unknown token.

    Args:
        tokenizer: a fast one of transformers.
        words: T words.
        most: sub-words per pass, special tokens among them.
    """
    if not words:
        return []
    known = list(words)
    whole = _encoded(tokenizer, known)
    dropped = set(range(len(known))) - set(whole.steps.tolist())
    if dropped:
        unknown = tokenizer.unk_token or "?"
        known = [unknown if word in dropped else text for word, text in enumerate(known)]
        whole = _encoded(tokenizer, known)
    if len(whole.ids) <= most:
        return [whole]
    counts_T = np.bincount(whole.steps[whole.steps >= 0], minlength=len(known))
    room = most - int(np.count_nonzero(whole.steps < 0))
    passes, start, filled = [], 0, 0
    for word, count in enumerate(counts_T.tolist()):
        if filled + count > room and word > start:
            passes.append(_encoded(tokenizer, known[start:word], start, most))
            start, filled = word, 0
        filled += count
    passes.append(_encoded(tokenizer, known[start:], start, most))
    return passes


def _encoded(
    tokenizer: Any, words: Sequence[str], first: int = 0, most: int | None = None
) -> Subwords:
    """Encode words, of which the first is step `first`, in one pass of at most `most` sub-words."""
    encoded = tokenizer(
        list(words), is_split_into_words=True, truncation=most is not None, max_length=most
    )
    step = [NO_STEP if word is None else first + word for word in encoded.word_ids()]
    return Subwords.from_lists(encoded["input_ids"], step)
