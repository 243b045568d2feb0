"""The interface of a format's reader: it takes an `ImportJob` and returns a `ParsedCorpus`.

Axes: T steps, d features, K tokens.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.data.aligned.folds import ONLY_FOLD
from dhmd.data.alignment import CorpusJob

Array = np.ndarray[Any, Any]


class ProblemsFoundError(DhmdError):
    """The first of the problems that were collected."""


class Problems:
    """Collected problems and warnings: the first sentence of each kind, and how many there are."""

    def __init__(self) -> None:
        self._problems: dict[str, tuple[str, int]] = {}
        self._warnings: list[str] = []
        self._left_out: Counter[tuple[str, str]] = Counter()

    def add(self, kind: str, sentence: str) -> None:
        """Record a problem; problems of the same `kind` are counted together."""
        first, count = self._problems.get(kind, (sentence, 0))
        self._problems[kind] = first, count + 1

    def warn(self, sentence: str) -> None:
        """Record something that does not stop the import."""
        self._warnings.append(sentence)

    def leave_out(self, split: str, reason: str) -> None:
        """Count one utterance of a split that is left out."""
        self._left_out[split, reason] += 1

    def warnings(self) -> list[str]:
        """Return the warnings, with one sentence per split and reason to leave utterances out."""
        return self._warnings + [
            f"{count} utterance{'s' if count > 1 else ''} of {split} left out: {reason}"
            for (split, reason), count in self._left_out.items()
        ]

    def sentences(self) -> list[str]:
        """Return one sentence per kind of problem."""
        return [
            first if count == 1 else f"{first} ({count} in total)"
            for first, count in self._problems.values()
        ]

    def stop_if_any(self, dataset: str) -> None:
        """Raise the first problem and name the command that lists the others."""
        first, *others = self.sentences() or [""]
        if first:
            rest = f"; {len(others)} more: `dhmd data check {dataset}` lists them"
            raise ProblemsFoundError(first + (rest if others else ""))


@dataclass(frozen=True, kw_only=True)
class ImportJob(CorpusJob):
    """A corpus to import.

    Attributes:
        labelled: whether labels are read; files to predict need neither labels nor all splits.
        problems: collects what the reader finds wrong and can skip.
    """

    labelled: bool = True
    problems: Problems = field(default_factory=Problems)

    def file(self, sequence: str) -> Path:
        """Return the raw file of one of the recipe's sequences."""
        if sequence not in self.paths:
            raise DhmdError(
                f"{self.recipe.source} has no sequences.{sequence}, which format "
                f"{self.recipe.format} needs"
            )
        return self.paths[sequence]

    def options(self, **allowed: tuple[Any, ...]) -> list[Any]:
        """Return the recipe's options in the order of the arguments.

        Args:
            allowed: the values that each option may have; the first is the default.
        """
        recipe = self.recipe
        for name in recipe.options:
            if name not in allowed:
                known = f"has {', '.join(allowed)}" if allowed else "has none"
                raise DhmdError(
                    f"{recipe.source}: unknown key options.{name}; format {recipe.format} {known}"
                )
        values = [recipe.options.get(name, choices[0]) for name, choices in allowed.items()]
        for (name, choices), value in zip(allowed.items(), values, strict=True):
            if not any(type(value) is type(choice) and value == choice for choice in choices):
                words = ", ".join(str(choice).lower() for choice in choices)
                raise DhmdError(
                    f"{recipe.source}: options.{name} is {value!r}, but must be one of {words}"
                )
        return values


@dataclass(frozen=True, kw_only=True, eq=False)
class Segment:
    """One utterance as read from its file, neither cleaned nor cut.

    Attributes:
        id: `video[i]`.
        video: the splits never share it.
        split: "train", "valid" or "test", from the corpus's own files.
        label: a number, or the class's index.
        steps: modality -> `[T, d]`, without padding.
        words: T words, or () where there are none.
        tokens: a tokenizer's token ids and segment ids, `[K]` int64 each, or None.
    """

    id: str
    video: str
    split: str
    label: float
    steps: dict[str, Array]
    words: tuple[str, ...] = ()
    tokens: tuple[Array, Array] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ParsedCorpus:
    """What a reader returns.

    Attributes:
        feature_names: modality -> d names.
        segments: in the files' order; consumed once.
        has_words, has_tokens: whether segments have them.
        folds: fold -> split -> videos, besides the files' own splits; the first is the default.
        own_fold: the name of the fold of the files' own splits; None if it is not offered.
        notes: entries of the data report; may grow while segments are consumed.
    """

    feature_names: Mapping[str, tuple[str, ...]]
    segments: Iterator[Segment]
    has_words: bool = False
    has_tokens: bool = False
    folds: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    own_fold: str | None = ONLY_FOLD
    notes: dict[str, object] = field(default_factory=dict)


def validation_sample(ids: Iterable[object], salt: str) -> set[object]:
    """Return a tenth of the ids, at least one, by their hash, to validate on where a file has none.

    Adding an id moves few others, and the order of the ids has no influence.
    """
    ranked = sorted(ids, key=lambda one: hashlib.sha256(f"{salt}:{one}".encode()).digest())
    return set(ranked[: max(1, len(ranked) // 10)])


def numbered_names(modality: str, width: int) -> tuple[str, ...]:
    """Return names for features that have none."""
    return tuple(f"{modality}_{d}" for d in range(width))
