"""Dataset configs (`recipes/<dataset>.yaml`), called recipes in the code.

A recipe lists the files of a corpus, their sources and their roles. It also has starting values for
sections of params.yaml, which are used where params.yaml has null.
"""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from pydantic.dataclasses import dataclass

from dhmd.base.errors import DhmdError
from dhmd.base.label_sets import MAX_CLASSES
from dhmd.config.modalities import MODALITIES, in_order
from dhmd.config.schema import CONFIG, key_names, load_section
from dhmd.config.yaml12 import load_yaml

RECIPES_FOLDER = "recipes"

# Sections of params.yaml that a recipe may give starting values for.
STARTING_SECTIONS = ("align", "model", "kd", "pretrain", "train", "ablate")

SCALE = 3  # labels of a regression are between -SCALE and SCALE; 0 is neutral

Format = Literal["csd", "generated", "mmsa", "urfunny", "mustard", "arrays", "dialogues"]
SEQUENCE_FORMATS = ("csd", "generated")  # dhmd/data/formats has a reader for each of the others
Values = Mapping[str, Any]

_DATASET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_SEQUENCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_MODALITY_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")  # part of variants' and HDF5 groups' names


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class SequenceFile:
    """One file, with its path relative to a source.

    `dhmd data pin` writes `bytes` and `sha256`, which every copy of the file must then match.
    """

    path: str
    bytes: PositiveInt | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        if self.sha256 is not None and not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(f"sha256 is {self.sha256!r}, but must be 64 digits of 0-9a-f")


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Labels:
    """The sequence and column of the labels, and their allowed values.

    Labels outside [low, high] by at most `tolerance` are clipped (some labels of MOSEI are slightly
    above 3); others are refused. If the labels of the files have another range, `scale` states it,
    and they are mapped to [low, high].

    A multi-label task has one column per class, starting at `column` (or in the array of that
    name): a class is present if its value is above 0.
    """

    sequence: str | None = None
    column: NonNegativeInt | str = 0
    task: Literal["regression", "classification", "multilabel"] = "regression"
    low: float | None = None
    high: float | None = None
    tolerance: NonNegativeFloat = 0.0
    classes: tuple[str, ...] = ()
    scale: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.scale is not None and (
            self.task != "regression" or not self.scale[0] < self.scale[1]
        ):
            raise ValueError(
                f"scale is {list(self.scale)} and task is {self.task}, but scale must be the "
                "lowest and the highest label of a regression, in this order"
            )
        if self.task != "regression":
            if len(set(self.classes)) < max(2, len(self.classes)):
                raise ValueError(
                    f"classes must be two or more different names, since task is {self.task}"
                )
            if self.task == "multilabel" and len(self.classes) > MAX_CLASSES:
                raise ValueError(
                    f"classes has {len(self.classes)} names, but a multi-label task may have at "
                    f"most {MAX_CLASSES}"
                )
            return
        if self.classes:
            raise ValueError(
                "classes belong to a classification or a multilabel task, but task is regression"
            )
        if self.low is None or self.high is None or not self.low < self.high:
            raise ValueError(
                f"a regression needs low < high, but low is {self.low} and high is {self.high}"
            )
        if self.low < -SCALE or self.high > SCALE or math.ceil(self.low) > self.high:
            raise ValueError(
                f"low is {self.low} and high is {self.high}, but both must be between -{SCALE} and "
                f"{SCALE} with a whole number in their range, because ACC7, ACC2 and F1 round "
                "labels and split them at 0: set scale, or use classes"
            )

    def rescale(self, labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Map the files' labels from `scale`, if there is one, to [low, high]."""
        if self.scale is None:
            return labels
        (first, last), (low, high) = self.scale, self.range
        return low + (labels - first) * ((high - low) / (last - first))

    def definition(self) -> dict[str, Any]:
        """Return what defines the labels, as JSON values."""
        values = asdict(self) | {"classes": list(self.classes)}
        if self.scale is None:
            del values["scale"]  # recipes without the key have the identity of earlier versions
        return values

    @property
    def range(self) -> tuple[float, float]:
        """The lowest and the highest label: values, class indices, or encoded sets of classes."""
        count = len(self.classes)
        if self.task == "classification":
            return 0.0, float(count - 1)
        if self.task == "multilabel":
            return float(1 << count), float((2 << count) - 1)
        assert self.low is not None  # checked above
        assert self.high is not None
        return self.low, self.high


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Folds:
    """The file, relative to recipes/, that maps each split to its videos."""

    file: str

    def __post_init__(self) -> None:
        path = PurePosixPath(self.file)
        special = set(self.file) & set("\\:") or any(ord(letter) < 32 for letter in self.file)
        outside = path.is_absolute() or ".." in path.parts
        if special or outside or not path.parts or self.file.endswith("/"):
            raise ValueError(f"file is {self.file!r}, but must be a plain path below recipes/")


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class RecipeFile:
    """The keys of recipes/<dataset>.yaml.

    Attributes:
        provenance: where the files come from, their licence, and what results compare with.
        sources: addresses and folders of the files, in the order in which they are tried.
        generator: the settings of a generated corpus (dhmd/data/synthetic/config.py).
        options: the settings of an imported format.
        sequences: the files by sequence name.
        modalities: name of the sequence (or array) with the features of each modality.
        reference: the sequence whose rows are the words that the others are aligned to.
        planted: the sequence with the ground truth and the latent factors of a generated corpus.
    """

    title: str
    format: Format
    provenance: str = ""
    sources: tuple[str, ...] = ()
    generator: Values = field(default_factory=dict)
    options: Values = field(default_factory=dict)
    sequences: Mapping[str, SequenceFile] = field(default_factory=dict)
    modalities: Mapping[str, str] = field(default_factory=dict)
    reference: str | None = None
    labels: Labels
    planted: str | None = None
    folds: Folds | None = None
    align: Values = field(default_factory=dict)
    model: Values = field(default_factory=dict)
    kd: Values = field(default_factory=dict)
    pretrain: Values = field(default_factory=dict)
    train: Values = field(default_factory=dict)
    ablate: Values = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.generator and self.format != "generated":
            raise ValueError(f"generator belongs to format generated, but format is {self.format}")
        if self.options and self.format in SEQUENCE_FORMATS:
            raise ValueError(f"options belong to imported formats, but format is {self.format}")
        for key, names, pattern, allowed in (
            ("sequences", self.sequences, _SEQUENCE_NAME, "letters, digits, '_', '-' and '.'"),
            ("modalities", self.modalities, _MODALITY_NAME, "a letter, then letters, digits, '_'"),
        ):
            for name in names:
                if not pattern.fullmatch(name):
                    raise ValueError(f"{key}: {name!r} is not a valid name ({allowed})")
        # A generated corpus need not list its files: its generator knows them.
        if self.format == "csd" or (self.format == "generated" and self.sequences):
            self._check_roles()

    def _check_roles(self) -> None:
        """Check that a corpus of computational sequences names the sequence of each role."""
        if not self.modalities:
            raise ValueError("modalities is empty, but must name at least one with its sequence")
        roles = {f"modalities.{name}": sequence for name, sequence in self.modalities.items()}
        for role, sequence in (
            ("reference", self.reference),
            ("labels.sequence", self.labels.sequence),
        ):
            if sequence is None:
                raise ValueError(f"{role} is null, but must name a sequence")
            roles[role] = sequence
        if self.planted is not None:
            roles["planted"] = self.planted
        for role, sequence in roles.items():
            if sequence not in self.sequences:
                raise ValueError(
                    f"{role} is {sequence!r}, but sequences has only "
                    f"{', '.join(self.sequences) or 'none'}"
                )


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Recipe(RecipeFile):
    """A recipe and the name of its dataset, which is also that of the file."""

    name: str

    @property
    def source(self) -> str:
        """The path of the recipe's file, for messages."""
        return f"{RECIPES_FOLDER}/{self.name}.yaml"

    @property
    def modality_names(self) -> tuple[str, ...]:
        """The modalities: text, audio, vision, then the others as the recipe lists them."""
        return in_order(self.modalities)

    @property
    def settable_modalities(self) -> tuple[str, ...]:
        """The modalities that settings may name: text, audio, vision and those of the recipe."""
        return in_order(dict.fromkeys((*MODALITIES, *self.modalities)))

    @property
    def text_is_words(self) -> bool:
        """Whether the text modality is the words, for which a text encoder computes vectors."""
        return self.reference is not None and self.modalities.get("text") == self.reference

    @property
    def imported(self) -> bool:
        """Whether dhmd/data/formats reads the files; otherwise they are computational sequences."""
        return self.format not in SEQUENCE_FORMATS

    @property
    def required_sequences(self) -> dict[str, SequenceFile]:
        """The files to download, by name.

        A recipe of computational sequences may list alternatives: only sequences with a role are
        required. In other formats all files are.
        """
        if self.imported:
            return dict(self.sequences)
        roles = {*self.modalities.values(), self.reference, self.labels.sequence, self.planted}
        return {name: file for name, file in self.sequences.items() if name in roles}

    def starting_values(self) -> dict[str, Values]:
        """Return the recipe's values for sections of params.yaml."""
        return {section: getattr(self, section) for section in STARTING_SECTIONS}

    def definition(self) -> dict[str, Any]:
        """Return the keys that define the corpus, as JSON values: part of the corpus's identity.

        Two recipes that differ only in prose, sources, pins or starting values define the same
        corpus. Folds and ids are left out because they are stored with the data.
        """
        return {
            "name": self.name,
            "format": self.format,
            "generator": dict(self.generator),
            "options": dict(self.options),
            "modalities": dict(self.modalities),
            "reference": self.reference,
            "labels": self.labels.definition(),
            "planted": self.planted,
        }


def repository_root(start: Path | None = None) -> Path:
    """Return the root of the user's repository, to which relative sources refer.

    DVC runs queued and temporary experiments in a copy below .dvc/tmp and sets DVC_ROOT to the
    user's workspace. Without DVC_ROOT, the root is the nearest folder with a params.yaml: `start`
    (the working folder by default), one of its parents, or else `start` itself.
    """
    if start is None and (root := os.environ.get("DVC_ROOT")):
        return Path(root)
    folder = (start or Path.cwd()).resolve()
    for candidate in (folder, *folder.parents):
        if (candidate / "params.yaml").is_file():
            return candidate
    return folder


def defaults_folder() -> Path:
    """Return the folder of the params.yaml and recipes that come with the package."""
    package = Path(__file__).parent
    shipped = package / "defaults"  # only in a wheel (setup.py)
    return shipped if shipped.is_dir() else package.parent


def recipe_names(root: Path) -> tuple[str, ...]:
    """Return the datasets that have a recipe below `root`, sorted."""
    return tuple(sorted(path.stem for path in (root / RECIPES_FOLDER).glob("*.yaml")))


def recipe_path(name: str, root: Path) -> Path:
    """Return the file of the recipe `name` below `root`.

    Raises:
        DhmdError: the name is not valid, or there is no such file.
    """
    if not _DATASET_NAME.fullmatch(name):
        raise DhmdError(
            f"{name!r} is not a valid name of a dataset: use letters, digits, '_' and '-' (its "
            f"recipe is {RECIPES_FOLDER}/<name>.yaml)"
        )
    path = root / RECIPES_FOLDER / f"{name}.yaml"
    if not path.is_file():
        names = recipe_names(root)
        similar = difflib.get_close_matches(name, names, n=1)
        hint = f"the datasets are {', '.join(names)}" if names else "there are no recipes"
        if similar:
            hint = f"did you mean {similar[0]}?"
        raise DhmdError(f"no recipe {RECIPES_FOLDER}/{name}.yaml for dataset {name}; {hint}")
    return path


def load_recipe(name: str, root: Path) -> Recipe:
    """Read recipes/<name>.yaml below `root`."""
    path = recipe_path(name, root)
    return parse_recipe(name, load_yaml(path, f"{RECIPES_FOLDER}/{name}.yaml"))


def parse_recipe(name: str, mapping: object) -> Recipe:
    """Build the recipe `name` from the content of its file."""
    recipe_file = load_section(RecipeFile, mapping, source=f"{RECIPES_FOLDER}/{name}.yaml")
    return Recipe(name=name, **vars(recipe_file))


def check_recipe_file(name: str, root: Path) -> None:
    """Check that a recipe is valid and has every key: DVC tracks each key and needs its presence.

    Raises:
        DhmdError: a key is absent, a value is not valid, or the folds file is missing.
    """
    recipe = load_recipe(name, root)
    content = load_yaml(recipe_path(name, root), recipe.source)
    assert isinstance(content, Mapping)  # load_recipe refuses anything else
    absent = [key for key in key_names(RecipeFile) if key not in content]
    if absent:
        raise DhmdError(
            f"{recipe.source} lacks {', '.join(absent)}: every key must be present, null for no "
            "value"
        )
    folds = recipe.folds
    if folds is not None and not (root / RECIPES_FOLDER / folds.file).is_file():
        raise DhmdError(f"{recipe.source}: folds.file is {folds.file}, but there is no such file")
