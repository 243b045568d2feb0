"""What every format's reader gets and gives: one segment after the other, in one form.

N segments, T steps, d features, K tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.data.aligned.folds import ONLY_FOLD
from dhmd.data.alignment import AlignConfig
from dhmd.data.formats.problems import Problems
from dhmd.recipes import Recipe

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What is to be imported, and how.

    Attributes:
        recipe: the corpus.
        raw: the folder that the download stage filled.
        align: section `align`.
        alignment: "word" or "none".
        sources: file -> sha256.
        folds_path: the recipe's folds file, where it names one.
        problems: what the reader finds wrong and can read past.
    """

    recipe: Recipe
    raw: Path
    align: AlignConfig
    alignment: Literal["word", "none"]
    sources: Mapping[str, str]
    folds_path: Path | None
    problems: Problems

    def file(self, sequence: str) -> Path:
        """The raw file of one of the recipe's sequences.

        Raises:
            DhmdError: the recipe has no such sequence.
        """
        found = self.recipe.sequences.get(sequence)
        if found is None:
            raise DhmdError(
                f"{self.recipe.source} has no sequences.{sequence}, which format "
                f"{self.recipe.format} needs"
            )
        return self.raw / Path(found.path).name


@dataclass(frozen=True, kw_only=True, eq=False)
class Segment:
    """One utterance as its file holds it: neither cleaned nor cut.

    Attributes:
        id: `video[i]`.
        video: what splits must not share.
        split: "train", "valid" or "test" as the corpus's own files say.
        label: a number, or the class's index.
        steps: modality -> `[T, d]`, real steps only.
        words: T words, or () where there are none.
        tokens: a tokenizer's output, ids and segment ids, `[K]` int64 each, or None.
    """

    id: str
    video: str
    split: str
    label: float
    steps: dict[str, Array]
    words: tuple[str, ...] = ()
    tokens: tuple[Array, Array] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """A corpus as a reader gives it.

    Attributes:
        feature_names: modality -> d names.
        segments: in the files' order; consumed once.
        has_words, has_tokens: whether segments carry them.
        folds: fold -> split -> videos, beside the files' own splits; the first is the default.
        own_fold: what the files' own splits are called, or None where they are not offered.
        notes: what the data report says of this format; may grow while segments are consumed.
    """

    feature_names: Mapping[str, tuple[str, ...]]
    segments: Iterator[Segment]
    has_words: bool = False
    has_tokens: bool = False
    folds: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    own_fold: str | None = ONLY_FOLD
    notes: dict[str, object] = field(default_factory=dict)


def numbered(modality: str, width: int) -> tuple[str, ...]:
    """Names for features that have none."""
    return tuple(f"{modality}_{d}" for d in range(width))


def option(recipe: Recipe, name: str, default: Any, allowed: tuple[Any, ...]) -> Any:
    """One of the recipe's options.

    Raises:
        DhmdError: it has a value that is not allowed.
    """
    value = recipe.options.get(name, default)
    if not any(type(value) is type(one) and value == one for one in allowed):
        words = ", ".join(
            str(one).lower() if isinstance(one, bool) else str(one) for one in allowed
        )
        raise DhmdError(f"{recipe.source}: options.{name} is {value!r}, but must be one of {words}")
    return value


def known_options(recipe: Recipe, *names: str) -> None:
    """Refuse options that the format does not have.

    Raises:
        DhmdError: an unknown one; the sentence names those that there are.
    """
    unknown = [name for name in recipe.options if name not in names]
    if unknown:
        known = f"has {', '.join(names)}" if names else "has none"
        raise DhmdError(
            f"{recipe.source}: unknown key options.{unknown[0]}; format {recipe.format} {known}"
        )
