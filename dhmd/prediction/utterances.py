"""Utterances to predict, from any source.

Axes: N utterances, M modalities, P steps of all utterances of a modality, d features.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.data.aligned.corpus import Corpus, Tokens

Array = np.ndarray[Any, Any]


class Collector:
    """Collects aligned features in memory; it has the methods of `AlignedWriter`.

    Attributes:
        values: features [P, d] of each modality, one array per call.
        lengths: number of steps per segment of each modality, one array per call.
        words: the words of each segment.
    """

    def __init__(self) -> None:
        self.values: dict[str, list[Array]] = {}
        self.lengths: dict[str, list[Array]] = {}
        self.words: list[tuple[str, ...]] = []

    def append(self, modality: str, values: Array, lengths: Array) -> None:
        """Append features of one or more segments."""
        self.values.setdefault(modality, []).append(values)
        self.lengths.setdefault(modality, []).append(lengths)

    def append_words(self, words: Sequence[str], intervals: Array, lengths: Array) -> None:
        """Append the words of one or more segments."""
        start = 0
        for length in lengths.tolist():
            self.words.append(tuple(words[start : start + length]))
            start += length


@dataclass(frozen=True, eq=False)
class Utterances:
    """Utterances with the features that a model reads.

    Attributes:
        ids: N ids `video[i]`.
        intervals_N2: start and end in seconds; NaN if they are unknown.
        lengths: number of steps [N] of each modality; 0 if it is absent.
        values: features [P, d] of each modality, float32, not normalised.
        words: N tuples of words; None if they are unknown.
        tokens: the sub-words, for a fine-tuned text encoder.
        cut: number of words that are cut off, and number of all words.
        notes: warnings for the user, one sentence each.
    """

    ids: tuple[str, ...]
    intervals_N2: Array
    lengths: Mapping[str, Array]
    values: Mapping[str, Array]
    words: tuple[tuple[str, ...], ...] | None = None
    tokens: Tokens | None = None
    cut: tuple[int, int] = (0, 0)
    notes: tuple[str, ...] = ()

    @staticmethod
    def from_collector(
        ids: Sequence[str],
        intervals_N2: Array,
        collector: Collector,
        modalities: Sequence[str],
        present_NM: Array,
        *,
        has_words: bool,
        tokens: Tokens | None,
        cut: tuple[int, int],
        notes: Sequence[str],
    ) -> Utterances:
        """Return the utterances in a collector, without the features of absent modalities.

        Raises:
            DhmdError: there are no utterances.
        """
        if not ids:
            reason = "; ".join(notes) or "no segment was requested"
            raise DhmdError(f"no segment is left to predict: {reason}")
        lengths, values = {}, {}
        for m, name in enumerate(modalities):
            length_N = np.concatenate(collector.lengths[name])
            present_P = np.repeat(present_NM[:, m], length_N)
            lengths[name] = np.where(present_NM[:, m], length_N, 0)
            values[name] = np.concatenate(collector.values[name])[present_P]
        words = tuple(collector.words) if has_words else None
        return Utterances(
            tuple(ids), intervals_N2, lengths, values, words, tokens, cut, tuple(notes)
        )

    @staticmethod
    def from_corpus(
        corpus: Corpus, features: Mapping[str, Sequence[str]], alignment: str
    ) -> Utterances:
        """Return all utterances of an aligned corpus.

        Args:
            corpus: the corpus.
            features: the names of the features that the model reads, by modality.
            alignment: the alignment of the model's training data.

        Raises:
            DhmdError: the corpus has other features or another alignment.
        """
        if corpus.alignment != alignment:
            raise DhmdError(
                f"{corpus.name} has data.alignment {corpus.alignment}, but the model was trained "
                f"with {alignment}"
            )
        lengths, values = {}, {}
        for name, names in features.items():
            if tuple(corpus.feature_names.get(name, ())) != tuple(names):
                raise DhmdError(
                    f"{corpus.name} has other features of {name} than the training data of the "
                    "model"
                )
            ragged = corpus.features[name]
            present_N = corpus.present_NM[:, corpus.modalities.index(name)]
            lengths[name] = np.where(present_N, ragged.lengths, 0)
            values[name] = ragged.values[np.repeat(present_N, ragged.lengths)]
        intervals_N2 = np.full((len(corpus.ids), 2), np.nan)
        if corpus.word_intervals is not None:
            for n in np.flatnonzero(corpus.word_intervals.lengths).tolist():
                rows = corpus.word_intervals[n]
                intervals_N2[n] = rows[:, 0].min(), rows[:, 1].max()
        return Utterances(corpus.ids, intervals_N2, lengths, values, corpus.words, corpus.tokens)
