"""The interface of format readers: they take an `ImportJob` and return a `ParsedCorpus`.

Axes: T steps, d features, K tokens.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dhmd.base.errors import DhmdError
from dhmd.data.aligned.corpus import Array
from dhmd.data.aligned.folds import ONLY_FOLD
from dhmd.data.alignment import CorpusJob


class ProblemsFoundError(DhmdError):
    """The first problem of `Problems`, raised as an error."""


class Problems:
    """A collection of problems and warnings; of each kind of problem, the first and a count."""

    def __init__(self) -> None:
        self._problems: dict[str, tuple[str, int]] = {}
        self._warnings: list[str] = []
        self._left_out: Counter[tuple[str, str]] = Counter()

    def add(self, kind: str, sentence: str) -> None:
        """Record a problem; only the first sentence of each `kind` is stored."""
        first, count = self._problems.get(kind, (sentence, 0))
        self._problems[kind] = first, count + 1

    def warn(self, sentence: str) -> None:
        """Record a warning, which does not stop the import."""
        self._warnings.append(sentence)

    def leave_out(self, split: str, reason: str) -> None:
        """Count an utterance of a split that is left out."""
        self._left_out[split, reason] += 1

    def warnings(self) -> list[str]:
        """Return the warnings, including one per split and reason for leaving utterances out."""
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

    def raise_first(self, dataset: str) -> None:
        """Raise the first problem if there is one.

        Raises:
            ProblemsFoundError: the message also has the command that lists all problems.
        """
        first, *others = self.sentences() or [""]
        if first:
            rest = f"; {len(others)} more: `dhmd data check {dataset}` lists them"
            raise ProblemsFoundError(first + (rest if others else ""))


@dataclass(frozen=True, kw_only=True)
class ImportJob(CorpusJob):
    """A corpus to import.

    Attributes:
        labelled: whether labels are read; files to predict need neither labels nor all splits.
        problems: records errors after which the reader can continue.
    """

    labelled: bool = True
    problems: Problems = field(default_factory=Problems)

    def file(self, sequence: str) -> Path:
        """Return the raw file of a sequence of the recipe.

        Raises:
            DhmdError: the recipe does not have the sequence.
        """
        if sequence not in self.paths:
            raise DhmdError(
                f"{self.recipe.source} has no sequences.{sequence}, which format "
                f"{self.recipe.format} requires"
            )
        return self.paths[sequence]

    def options(self, **allowed: tuple[Any, ...]) -> list[Any]:
        """Return the values of the recipe's options in the order of the arguments.

        Args:
            allowed: the allowed values of each option; the first is the default.

        Raises:
            DhmdError: the recipe has another option or another value.
        """
        recipe = self.recipe
        for name in recipe.options:
            if name not in allowed:
                known = f"has {', '.join(allowed)}" if allowed else "has no options"
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
    """One utterance as read from a file; the importer cleans and cuts it.

    Attributes:
        id: `video[i]`.
        video: the video's id; a video must not be in two splits.
        split: "train", "valid" or "test", according to the file.
        label: a number, or the class index.
        steps: the steps `[T, d]` of each modality, without padding.
        words: T words, or () if the format has none.
        tokens: token ids and token type ids, `[K]` int64 each, or None.
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
    """The return value of a reader.

    Attributes:
        feature_names: the d feature names of each modality.
        segments: the segments in the order of the files; iterated once.
        has_words, has_tokens: whether the segments have words, or tokens.
        folds: the videos of each split of each fold, in addition to `file_fold`; the first fold is
            the default.
        file_fold: the name of the fold whose splits are those of the segments; None to omit it.
        notes: entries of the data report; readers may add some while `segments` is iterated.
    """

    feature_names: Mapping[str, tuple[str, ...]]
    segments: Iterator[Segment]
    has_words: bool = False
    has_tokens: bool = False
    folds: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    file_fold: str | None = ONLY_FOLD
    notes: dict[str, object] = field(default_factory=dict)


def validation_sample(ids: Iterable[object], salt: str) -> set[object]:
    """Return a tenth of the ids, at least one, for files without a validation split.

    The ids with the smallest hashes are chosen, so the result does not depend on their order, and
    changes little if an id is added.
    """
    ranked = sorted(ids, key=lambda name: hashlib.sha256(f"{salt}:{name}".encode()).digest())
    return set(ranked[: max(1, len(ranked) // 10)])


def numbered_names(modality: str, width: int) -> tuple[str, ...]:
    """Return the feature names `<modality>_<i>`, for formats that do not name features."""
    return tuple(f"{modality}_{d}" for d in range(width))
