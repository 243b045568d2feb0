"""What a recipe says, as frozen dataclasses."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

MODALITIES = ("text", "audio", "vision")

Format = Literal["csd", "generated", "mmsa", "urfunny", "mustard", "arrays"]

# Sections of params.yaml that a recipe may give starting values for.
STARTING_SECTIONS = ("align", "model", "kd", "pretrain", "train", "ablate")

SCALE = 3  # the field's scale of sentiment, in both directions; 0 is neutral

_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def _optional(default: Any = None) -> Any:
    """A key that may be null: then it is empty."""
    if default is None:
        return field(default_factory=dict, metadata={"null_default": True})
    return field(default=default, metadata={"null_default": True})


@dataclass(frozen=True, kw_only=True)
class SequenceFile:
    """One file below a source; `bytes` and `sha256` are null until `dhmd data pin` writes them."""

    path: str
    bytes: int | None = field(default=None, metadata={"min": 1})
    sha256: str | None = None

    def __post_init__(self) -> None:
        if self.sha256 is not None and not _SHA256.fullmatch(self.sha256):
            raise ValueError(f"sha256 is {self.sha256!r}, but must be 64 digits of 0-9a-f")


@dataclass(frozen=True, kw_only=True)
class Labels:
    """Which column of which sequence is the label, and what its values may be.

    Labels outside [low, high] by at most `tolerance` are clipped (real MOSEI labels reach a little
    over 3), others are refused.
    """

    sequence: str | None = None
    column: int | str = field(default=0, metadata={"min": 0})
    task: Literal["regression", "classification"] = "regression"
    low: float | None = None
    high: float | None = None
    tolerance: float = field(default=0.0, metadata={"min": 0.0})
    classes: tuple[str, ...] = _optional(())

    def __post_init__(self) -> None:
        if self.task == "regression":
            if self.low is None or self.high is None or not self.low < self.high:
                raise ValueError(
                    f"a regression needs low < high, but low is {self.low} and high is {self.high}"
                )
            if self.low < -SCALE or self.high > SCALE or math.ceil(self.low) > self.high:
                raise ValueError(
                    f"a regression's labels lie from -{SCALE} to {SCALE} with a whole number among "
                    "them, since ACC7, ACC2 and F1 round them and split them at 0, but low is "
                    f"{self.low} and high is {self.high}: shift or scale them, or name classes"
                )
            if self.classes:
                raise ValueError("classes belong to a classification, but task is regression")
        elif len(set(self.classes)) < max(2, len(self.classes)):
            raise ValueError("a classification needs classes: two or more different names")


@dataclass(frozen=True, kw_only=True)
class Folds:
    """The file, relative to recipes/, that says which video belongs to which split."""

    file: str

    def __post_init__(self) -> None:
        path = PurePosixPath(self.file)
        odd = set(self.file) & set("\\:") or any(ord(letter) < 32 for letter in self.file)
        leaves = path.is_absolute() or ".." in path.parts
        if odd or leaves or not path.parts or self.file.endswith("/"):
            raise ValueError(f"file is {self.file!r}, but must be a plain path below recipes/")


@dataclass(frozen=True, kw_only=True)
class RecipeFile:
    """The keys of recipes/<name>.yaml; what each means is said in the shipped files' comments."""

    title: str
    format: Format
    provenance: str = _optional("")
    sources: tuple[str, ...] = _optional(())
    generator: Mapping[str, Any] = _optional()
    options: Mapping[str, Any] = _optional()
    sequences: Mapping[str, SequenceFile] = _optional()
    modalities: Mapping[str, str] = _optional()
    reference: str | None = None
    labels: Labels
    planted: str | None = None
    folds: Folds | None = None
    align: Mapping[str, Any] = _optional()
    model: Mapping[str, Any] = _optional()
    kd: Mapping[str, Any] = _optional()
    pretrain: Mapping[str, Any] = _optional()
    train: Mapping[str, Any] = _optional()
    ablate: Mapping[str, Any] = _optional()

    def __post_init__(self) -> None:
        if self.generator and self.format != "generated":
            raise ValueError(f"generator belongs to format generated, but format is {self.format}")
        if self.options and self.format in ("csd", "generated"):
            raise ValueError(f"options belong to imported formats, but format is {self.format}")
        for name in self.sequences:
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"sequences: {name!r} is no name (letters, digits, '_', '-' and '.')"
                )
        unknown = [name for name in self.modalities if name not in MODALITIES]
        if unknown:
            raise ValueError(f"modalities: {unknown[0]!r} is not one of {', '.join(MODALITIES)}")
        # A generated corpus need not list its files: its generator knows them.
        if self.format == "csd" or (self.format == "generated" and self.sequences):
            self._check_sequences()

    def _check_sequences(self) -> None:
        """A corpus of computational sequences names each role's sequence."""
        if not self.modalities:
            raise ValueError("modalities names no sequence: give one, two or three")
        roles: dict[str, str | None] = {
            f"modalities.{name}": sequence for name, sequence in self.modalities.items()
        }
        roles["reference"] = self.reference
        roles["labels.sequence"] = self.labels.sequence
        for role, sequence in roles.items():
            if sequence is None:
                raise ValueError(f"{role} is null, but must name a sequence")
        if self.planted is not None:
            roles["planted"] = self.planted
        for role, sequence in roles.items():
            if sequence not in self.sequences:
                raise ValueError(
                    f"{role} is {sequence!r}, but sequences has only "
                    f"{', '.join(self.sequences) or 'none'}"
                )


@dataclass(frozen=True, kw_only=True)
class Recipe(RecipeFile):
    """A recipe with its name: the name of its dataset and of its file, recipes/<name>.yaml."""

    name: str

    @property
    def source(self) -> str:
        """What messages call the recipe's file."""
        return f"recipes/{self.name}.yaml"

    @property
    def modality_names(self) -> tuple[str, ...]:
        """The modalities it has, always in the order text, audio, vision."""
        return tuple(name for name in MODALITIES if name in self.modalities)

    @property
    def text_is_words(self) -> bool:
        """Whether its text is the words themselves, without vectors: an encoder gives them some."""
        return self.reference is not None and self.modalities.get("text") == self.reference

    @property
    def needed(self) -> dict[str, SequenceFile]:
        """The files to get. A corpus of computational sequences may list more, for a user to choose
        from: only those that a role names are needed. Of other formats, all are."""
        if self.format not in ("csd", "generated"):
            return dict(self.sequences)
        roles = {*self.modalities.values(), self.reference, self.labels.sequence, self.planted}
        return {name: file for name, file in self.sequences.items() if name in roles}

    def corpus(self) -> dict[str, Any]:
        """What defines the corpus, as JSON values: no prose, no places, no starting values.

        Two recipes that differ only in title, sources, pins or training values give the same
        corpus; fold and ids are not in it, they come with the data.
        """
        return {
            "name": self.name,
            "format": self.format,
            "generator": dict(self.generator),
            "options": dict(self.options),
            "modalities": dict(self.modalities),
            "reference": self.reference,
            "labels": {**asdict(self.labels), "classes": list(self.labels.classes)},
            "planted": self.planted,
        }
