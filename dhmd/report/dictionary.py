"""What the dictionaries' codes stand for: their use, by modality and class, and their words.

N utterances, M modalities, K codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from dhmd.report.inputs import Array, Inputs, Space

# A word in fewer utterances says more of these utterances than of a code.
_LEAST_UTTERANCES: Final = 5
# In standard errors: below it, a word does not stand out.
_LEAST_ABOVE: Final = 1.0


@dataclass(frozen=True)
class Word:
    """A word, in how many utterances it is, and the code's mean activation in these."""

    text: str
    utterances: int
    activation: float


def used_codes(codes: Array, present: Array, most: int) -> Array:
    """The codes with the largest mean activation over present modalities, in falling order.

    Codes that never fire are left out, so that there may be fewer than `most`.
    """
    usage = mean_activation(codes, present)
    order = np.argsort(-usage, kind="stable")[:most]
    used: Array = order[usage[order] > 0]
    return used


def mean_activation(codes: Array, there: Array) -> Array:
    """`[K]` the mean over the chosen utterances and modalities `there` [N, M]; 0 without any."""
    if not there.any():
        return np.zeros(codes.shape[2])
    mean: Array = codes[there].mean(0, dtype=np.float64)
    return mean


def by_group(inputs: Inputs, space: Space, chosen: Array) -> tuple[list[str], Array]:
    """Names and mean activations `[G, len(chosen)]` of test utterances by modality and class."""
    assert space.codes is not None
    codes = space.codes[inputs.rows]
    there = inputs.present[inputs.rows]
    names, lines = [], []
    for index, modality in enumerate(inputs.modalities):
        for name, members in label_groups(inputs).items():
            kept = np.zeros_like(there)
            kept[:, index] = there[:, index] & members
            names.append(f"{modality}, {name}")
            lines.append(mean_activation(codes, kept)[chosen])
    return names, np.array(lines)


def label_groups(inputs: Inputs) -> dict[str, Array]:
    """Test utterances by class; of regression by sign. Name → `[T]` bool."""
    labels = inputs.labels
    if inputs.task == "classification":
        return {name: labels == index for index, name in enumerate(inputs.corpus.class_names)}
    return {"negative": labels < 0, "neutral": labels == 0, "positive": labels > 0}


@dataclass(frozen=True, eq=False)
class WordIndex:
    """Which words are in which utterances, each once, of all splits where text is there.

    Attributes:
        rows: the utterances' rows in the corpus.
        words: the vocabulary, sorted.
        word_P, place_P: pairs of a word's number and an utterance's place in `rows`.
    """

    rows: Array
    words: Sequence[str]
    word_P: Array
    place_P: Array


def word_index(inputs: Inputs) -> WordIndex | None:
    """None where the corpus holds no words or the model reads no text."""
    words = inputs.corpus.words
    if words is None or "text" not in inputs.modalities:
        return None
    rows = np.flatnonzero(inputs.present[:, inputs.modalities.index("text")])
    said = [sorted(set(words[row])) for row in rows]
    vocabulary = sorted({word for utterance in said for word in utterance})
    numbers = {word: number for number, word in enumerate(vocabulary)}
    flat = [numbers[word] for utterance in said for word in utterance]
    places = np.repeat(np.arange(len(rows)), [len(utterance) for utterance in said])
    return WordIndex(rows, vocabulary, np.array(flat, dtype=np.int64), places)


def code_words(index: WordIndex, activation_N: Array, most: int) -> list[Word]:
    """The words in whose utterances text fires a code most.

    Ranked by how far the mean activation lies above that of all utterances, in standard errors: a
    rare word must stand out more than a frequent one. `activation_N`: text's, of that code.
    """
    values = activation_N[index.rows].astype(np.float64)
    spread = float(values.std()) if len(values) else 0.0
    if spread == 0:
        return []
    count = np.bincount(index.word_P, minlength=len(index.words))
    total = np.bincount(index.word_P, weights=values[index.place_P], minlength=len(index.words))
    mean = total / np.maximum(count, 1)
    above = (mean - values.mean()) / (spread / np.sqrt(np.maximum(count, 1)))
    # Equal words stay in the vocabulary's order.
    order = np.argsort(-above, kind="stable")
    kept = order[(count[order] >= _LEAST_UTTERANCES) & (above[order] >= _LEAST_ABOVE)]
    return [Word(index.words[n], int(count[n]), float(mean[n])) for n in kept[:most]]
