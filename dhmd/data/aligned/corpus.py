"""A corpus: its table before a fold is chosen (`SegmentTable`) and all of it after (`Corpus`).

Legend: N segments, M modalities, d features, ΣT rows of all segments one after the other.
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
# Where an encoder computed text's vectors, its sha256 is listed beside the files' by this name.
ENCODER_SOURCE = "features.encoder"


@dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of N segments, stored one after the other.

    Attributes:
        values: `[ΣT, d]` (float32 for features, float64 seconds for intervals).
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
    """A tokenizer's output for N segments, ragged.

    Attributes:
        ids: `[ΣT]` int64.
        mask: `[ΣT]` bool, False where attention is masked.
        offsets: `[N + 1]` int64.
        types: `[ΣT]` int64, segment ids.
        steps: `[ΣT]` int64, the step of text that a token is a part of, −1 for none.
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
    """Mean and deviation of one modality over the train segments in which it is present.

    Attributes:
        mean_d: `[d]` float64.
        std_d: `[d]` float64 (population), 1 where a dimension is constant, to allow division.
    """

    mean_d: Array
    std_d: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class _Table:
    """The fields of a corpus that do not depend on a fold.

    Attributes:
        name: the dataset's name.
        task: regression, classification or multilabel.
        low, high: the labels' range (classes: of their numbers).
        class_names: () for regression.
        alignment: "word" (rows are words, equal lengths) or "none" (each modality its own).
        ids: N distinct ids `video[i]`.
        videos: each segment's video; no video is in two splits of a fold.
        modalities: the M modalities' names.
        feature_names: modality -> d names.
        present_NM: bool `[N, M]`, whether a segment has a real row of a modality.
        labels_N: float32 `[N]`, the class index for classification; of a multi-label task the set
            of classes (dhmd/base/label_sets.py).
        planted: name -> `[N]`, the ground truth of generated data; {} elsewhere.
        tokens: a tokenizer's output, where the format has it.
        sources: file -> sha256.
        report: the data report as JSON values; `warnings` are sentences for the user.
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
    """All values of a corpus that exist once per segment.

    Attributes:
        folds: fold -> `[N]` str of "train", "valid", "test"; the first fold is the default.
        recipe: what defines the corpus, as JSON values (Recipe.definition()); part of its identity.
    """

    folds: Mapping[str, Array]
    recipe: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class Corpus(_Table):
    """A corpus under one fold, as training, evaluation and the report read it.

    `labels_N` and `planted` are NaN on the test split unless it was read with test_labels=True.

    Attributes:
        features: modality -> Ragged, float32 `[ΣT, d]`, finite, not normalised.
        words: N tuples of words, or None where the format has none.
        word_intervals: Ragged `[ΣT, 2]` seconds, or None.
        fold: the chosen fold.
        folds: all folds' names.
        split_N: `[N]` str, "train", "valid" or "test".
        statistics: modality -> Statistics of the fold's train split.
        identity: see corpus_identity.
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
        """Return the rows of a split, int64, ascending."""
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
    """Return the sha256 of everything that must agree for two results to be comparable.

    That is recipe, fold, ids, splits, labels and the sources' sha256, not the bytes of the aligned
    features file: features differ between processors in their last digits.
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
