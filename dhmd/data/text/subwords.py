"""Split words into the sub-words of an encoder.

Axes: T words (steps), K sub-words.
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
        ids: token ids, int64 `[K]`, including special tokens.
        types: token type ids, int64 `[K]`.
        steps: the index of each sub-word's word, int64 `[K]`, −1 for special tokens.
    """

    ids: Array
    types: Array
    steps: Array

    @staticmethod
    def from_lists(ids: Sequence[int], step: Sequence[int]) -> Subwords:
        """Return sub-words with the token type 0."""
        ids_K = np.array(ids, dtype=np.int64)
        return Subwords(ids_K, np.zeros_like(ids_K), np.array(step, dtype=np.int64))


def split_words(tokenizer: Any, words: Sequence[str], max_length: int) -> list[Subwords]:
    """Split the words of a sentence into sub-words.

    Each word has at least one sub-word: the unknown token replaces words that the tokenizer drops.

    Args:
        tokenizer: a fast transformers tokenizer.
        words: T words.
        max_length: the maximum number of sub-words per pass, including special tokens.

    Returns:
        The sub-words in one pass, or in several if there are more than `max_length`.
    """
    if not words:
        return []
    texts = list(words)
    whole = _encode(tokenizer, texts)
    dropped = set(range(len(texts))) - set(whole.steps.tolist())
    if dropped:
        unknown = tokenizer.unk_token or "?"
        texts = [unknown if word in dropped else text for word, text in enumerate(texts)]
        whole = _encode(tokenizer, texts)
    if len(whole.ids) <= max_length:
        return [whole]
    counts_T = np.bincount(whole.steps[whole.steps >= 0], minlength=len(texts))
    capacity = max_length - int(np.count_nonzero(whole.steps < 0))
    passes, start, used = [], 0, 0
    for word, count in enumerate(counts_T.tolist()):
        if used + count > capacity and word > start:
            passes.append(_encode(tokenizer, texts[start:word], start, max_length))
            start, used = word, 0
        used += count
    passes.append(_encode(tokenizer, texts[start:], start, max_length))
    return passes


def _encode(
    tokenizer: Any, words: Sequence[str], first: int = 0, max_length: int | None = None
) -> Subwords:
    """Encode words in one pass, which is truncated to `max_length`; `first` is the first step."""
    encoded = tokenizer(
        list(words),
        is_split_into_words=True,
        truncation=max_length is not None,
        max_length=max_length,
    )
    step = [NO_STEP if word is None else first + word for word in encoded.word_ids()]
    return Subwords.from_lists(encoded["input_ids"], step)
