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


def code_words(inputs: Inputs, space: Space, code: int, most: int) -> list[Word]:
    """The words in whose utterances text fires the code most, over all splits.

    Ranked by how far the mean activation lies above that of all utterances, in standard errors: a
    rare word must stand out more than a frequent one.
    """
    words = inputs.corpus.words
    if words is None or "text" not in inputs.modalities:
        return []
    assert space.codes is not None
    text = inputs.modalities.index("text")
    there = np.flatnonzero(inputs.present[:, text])
    values = space.codes[there, text, code].astype(np.float64)
    spread = float(values.std())
    if spread == 0:
        return []
    members = _members([words[row] for row in there])
    ranked = []
    for word, rows in members.items():
        if len(rows) >= _LEAST_UTTERANCES:
            mean = float(values[rows].mean())
            above = (mean - float(values.mean())) / (spread / np.sqrt(len(rows)))
            if above >= _LEAST_ABOVE:
                ranked.append((-above, word, Word(word, len(rows), mean)))
    return [found for _, _, found in sorted(ranked, key=lambda entry: entry[:2])[:most]]


def _members(words: Sequence[Sequence[str]]) -> dict[str, list[int]]:
    """Word → the utterances that hold it, each once."""
    members: dict[str, list[int]] = {}
    for row, said in enumerate(words):
        for word in sorted(set(said)):
            members.setdefault(word, []).append(row)
    return members
