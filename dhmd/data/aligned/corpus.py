"""The data classes of a corpus: its table of segments (`SegmentTable`) and `Corpus`.

Axes: N segments, M modalities, d features, ΣT rows of all segments, concatenated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.base.files import json_sha256

Array = np.ndarray[Any, Any]
Task = Literal["regression", "classification", "multilabel"]
Alignment = Literal["word", "none"]

SPLITS = ("train", "valid", "test")
# The key of the text encoder's sha256 among the sources, if an encoder computed the text features.
ENCODER_SOURCE = "features.encoder"


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of N segments of different lengths, concatenated.

    Attributes:
        values: `[ΣT, d]`, float32 for features, float64 seconds for intervals.
        offsets: `[N + 1]` int64, from 0 to ΣT; segment n is `values[offsets[n]:offsets[n + 1]]`.
    """

    values: Array
    offsets: Array

    @property
    def lengths(self) -> Array:
        """`[N]` int64, the number of rows of each segment."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, segment: int) -> Array:
        """Return the rows of one segment, `[T, d]`."""
        return self.values[self.offsets[segment] : self.offsets[segment + 1]]


@dataclass(frozen=True, eq=False)
class Tokens:
    """A tokenizer's output for N segments, concatenated.

    Attributes:
        ids: `[ΣT]` int64, token ids.
        mask: `[ΣT]` bool, the attention mask.
        offsets: `[N + 1]` int64; segment n is `ids[offsets[n]:offsets[n + 1]]`.
        types: `[ΣT]` int64, token type ids.
        steps: `[ΣT]` int64, the index of the token's step of text, −1 for none.
    """

    ids: Array
    mask: Array
    offsets: Array
    types: Array
    steps: Array

    @property
    def lengths(self) -> Array:
        """`[N]` int64, the number of tokens of each segment."""
        return np.diff(self.offsets)


@dataclass(frozen=True, eq=False)
class Statistics:
    """Statistics of one modality over the train segments in which it is present.

    Attributes:
        mean_d: means, float64 `[d]`.
        std_d: population standard deviations, float64 `[d]`; 1 for constant dimensions, to allow
            division.
    """

    mean_d: Array
    std_d: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class _Table:
    """The fields of a corpus that do not depend on a fold.

    Attributes:
        name: the dataset's name.
        task: regression, classification or multilabel.
        low, high: the range of the labels, or of the class indices.
        class_names: the names of the classes; () for regression.
        alignment: "word" (one row per word, equal lengths) or "none" (lengths differ).
        ids: N distinct segment ids `video[i]`.
        videos: the video of each segment.
        modalities: the names of the M modalities.
        feature_names: the d feature names of each modality.
        present_NM: bool `[N, M]`, whether a segment has a real row of a modality.
        labels_N: float32 `[N]`; the class index in a classification, the encoded set of classes
            in a multi-label task (dhmd/base/label_sets.py).
        planted: the ground truth of generated data, `[N]` per name; {} for other data.
        tokens: the tokenizer's output, or None.
        sources: the sha256 of each source file.
        report: the data report as JSON values.
    """

    name: str
    task: Task
    low: float
    high: float
    class_names: tuple[str, ...] = ()
    alignment: Alignment
    ids: tuple[str, ...]
    videos: tuple[str, ...]
    modalities: tuple[str, ...]
    feature_names: Mapping[str, tuple[str, ...]]
    present_NM: Array
    labels_N: Array
    planted: Mapping[str, Array] = field(default_factory=dict)
    tokens: Tokens | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentTable(_Table):
    """All values of a corpus except its features and words.

    Attributes:
        folds: the splits of each fold, `[N]` str of "train", "valid", "test"; the first fold
            is the default.
        recipe: what defines the corpus, as JSON (`Recipe.definition`); part of its identity.
    """

    folds: Mapping[str, Array]
    recipe: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Corpus(_Table):
    """A corpus with the splits of one fold.

    `labels_N` and `planted` are NaN for the test split unless it was read with test_labels=True.

    Attributes:
        features: float32 `[ΣT, d]` per modality, finite, not normalised.
        words: N tuples of words, or None if the format has no words.
        word_intervals: start and end of the words in seconds, `[ΣT, 2]`, or None.
        fold: the fold's name.
        folds: the names of all folds.
        split_N: `[N]` str, "train", "valid" or "test".
        statistics: the statistics of each modality over the fold's train split.
        identity: the sha256 of `corpus_identity`.
    """

    features: Mapping[str, Ragged]
    words: tuple[tuple[str, ...], ...] | None
    word_intervals: Ragged | None
    fold: str
    folds: tuple[str, ...]
    split_N: Array
    statistics: Mapping[str, Statistics]
    identity: str

    def __repr__(self) -> str:
        splits = ", ".join(f"{len(self.index(split)):,} {split}" for split in SPLITS)
        widths = ", ".join(f"{len(names)} of {m}" for m, names in self.feature_names.items())
        return f"Corpus({self.name!r}: {self.task}, utterances: {splits}; features: {widths})"

    def index(self, split: str) -> Array:
        """Return the indices of a split's segments, int64, ascending."""
        if split not in SPLITS:
            raise DhmdError(f"no split {split!r}; there are {', '.join(SPLITS)}")
        return np.flatnonzero(self.split_N == split).astype(np.int64)


def corpus_identity(
    *,
    name: str,
    recipe: Mapping[str, object],
    fold: str,
    ids: Sequence[str],
    split_N: Array,
    labels_N: Array,
    sources: Mapping[str, str],
) -> str:
    """Return the sha256 of everything that two comparable results must share.

    These are the recipe, fold, ids, splits, labels and the sha256 of the sources, but not the
    features, because their last digits depend on the processor.
    """
    return json_sha256(
        {
            "recipe": dict(recipe) | {"name": name},
            "fold": fold,
            "ids": list(ids),
            "splits": [str(split) for split in split_N],
            "labels": [float(label) for label in np.asarray(labels_N, dtype=np.float32)],
            "sources": dict(sources),
        }
    )
