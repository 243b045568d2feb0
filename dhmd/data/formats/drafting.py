"""A first recipe for files that have none: what they hold, written down for a person to go over."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.base.files import file_sha256
from dhmd.data.aligned import SPLITS
from dhmd.data.formats.arrays import load_arrays
from dhmd.data.formats.conversion import Budget, mapping, numbers
from dhmd.data.formats.mmsa import SEQUENCE
from dhmd.data.formats.pickles import load_pickle

Array = np.ndarray[Any, Any]

_MODALITIES = ("text", "audio", "vision")


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A recipe before it is text.

    Attributes:
        format: mmsa or arrays.
        files: sequence -> file.
        modalities: those that the files have; the key of each is its name.
        low, high: the labels' range, in whole numbers around what the files hold.
        steps: modality -> the longest utterance.
        options: the format's options.
    """

    name: str
    format: str
    files: Mapping[str, Path]
    modalities: tuple[str, ...]
    low: float
    high: float
    steps: Mapping[str, int]
    options: Mapping[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """The recipe, every key in its place."""
        lines = [
            "# Written by `dhmd import`: go over it and say where the files come from.",
            f"title: {self.name}, imported",
            f"format: {self.format}",
            "provenance: |",
            f"  Imported from {', '.join(path.name for path in self.files.values())}.",
            f"  Place the files in data/placed/{self.name}.",
            "sources: null",
            "generator: null",
            *_block("options", self.options),
            "sequences:",
        ]
        for sequence, path in self.files.items():
            lines += [
                f"  {sequence}:",
                f"    path: {_quoted(path.name)}",
                f"    bytes: {path.stat().st_size}",
                f'    sha256: "{file_sha256(path)}"',
            ]
        lines += [
            *_block("modalities", {modality: modality for modality in self.modalities}),
            "reference: null",
            "labels:",
            "  sequence: null",
            "  column: 0",
            "  task: regression",
            f"  low: {self.low:.1f}",
            f"  high: {self.high:.1f}",
            "  tolerance: 0.0",
            "  classes: null",
            "planted: null",
            "folds: null                 # the splits of the files",
            "align:",
            f"  max_steps: {max(self.steps.values())}",
            "  max_steps_unaligned:",
            *(f"    {modality}: {steps}" for modality, steps in self.steps.items()),
            "model: null",
            "kd: null",
            "pretrain: null",
            "train: null",
            "ablate: null",
        ]
        return "\n".join(lines) + "\n"


def draft_mmsa(name: str, path: Path, padding: str) -> Draft:
    """A recipe for an MMSA pickle.

    Raises:
        DhmdError: the file is hostile, damaged or not such a file.
    """
    top = mapping(load_pickle(path), where=str(path))
    parts = {s: mapping(top[s], where=f"{path}: {s}") for s in SPLITS if s in top}
    if not parts:
        keys = ", ".join(repr(key)[:40] for key in list(top)[:8]) or "none"
        raise DhmdError(
            f"{path} is no MMSA feature file: its top-level keys are {keys}, "
            "expected train, valid and test"
        )
    steps: dict[str, int] = {}
    labels = []
    budget = Budget(path.stat().st_size)
    for split, part in parts.items():
        for modality in _MODALITIES:
            if modality in part:
                where = f"{path}: {split}.{modality}"
                shape = np.shape(numbers(part[modality], axes=3, where=where, budget=budget))
                steps[modality] = max(1, shape[1], steps.get(modality, 0))
        if "regression_labels" not in part:
            raise DhmdError(f"{path}: {split} has no 'regression_labels'")
        labels.append(np.ravel(numbers(part["regression_labels"], axes=1, where=str(path))))
    low, high = _range(np.concatenate(labels), str(path))
    return Draft(
        name=name,
        format="mmsa",
        files={SEQUENCE: path},
        modalities=_named(steps, str(path)),
        low=low,
        high=high,
        steps=steps,
        options={} if padding == "marked" else {"padding": padding},
    )


def draft_arrays(name: str, folder: Path) -> Draft:
    """A recipe for a folder of arrays, one file a split.

    Raises:
        DhmdError: a split's file is missing, damaged or lacks an array.
    """
    files: dict[str, Path] = {}
    steps: dict[str, int] = {}
    labels = []
    for split in SPLITS:
        candidates = [folder / f"{split}{suffix}" for suffix in (".npz", ".h5", ".hdf5")]
        found = next((path for path in candidates if path.is_file()), None)
        if found is None:
            raise DhmdError(f"{folder} has no {split}.npz and no {split}.h5")
        files[split] = found
        content = load_arrays(found)
        for modality in _MODALITIES:
            if modality in content:
                longest = _longest(content, modality, str(found))
                steps[modality] = max(1, longest, steps.get(modality, 0))
        if "labels" not in content:
            raise DhmdError(f"{found} has no array 'labels'")
        labels.append(numbers(content["labels"], axes=1, where=f"{found}: labels"))
    low, high = _range(np.concatenate(labels), str(folder))
    return Draft(
        name=name,
        format="arrays",
        files=files,
        modalities=_named(steps, str(folder)),
        low=low,
        high=high,
        steps=steps,
    )


def _longest(content: Mapping[str, Array], modality: str, where: str) -> int:
    if content[modality].ndim == 0:
        raise DhmdError(f"{where}: {modality} is a single value, expected rows")
    offsets = content.get(f"{modality}_offsets")
    if content[modality].ndim == 3 or offsets is None or offsets.dtype.kind not in "biuf":
        return int(np.shape(content[modality])[min(1, content[modality].ndim - 1)])
    return int(np.max(np.diff(offsets), initial=0))


def _range(labels: Array, where: str) -> tuple[float, float]:
    finite = labels[np.isfinite(labels)]
    if not finite.size or finite.min() == finite.max():
        raise DhmdError(f"{where}: the labels are all the same, there is nothing to learn")
    return float(math.floor(finite.min())), float(math.ceil(finite.max()))


def _named(steps: Mapping[str, int], where: str) -> tuple[str, ...]:
    if not steps:
        raise DhmdError(f"{where} has none of {', '.join(_MODALITIES)}")
    return tuple(modality for modality in _MODALITIES if modality in steps)


def _block(key: str, values: Mapping[str, str]) -> list[str]:
    if not values:
        return [f"{key}: null"]
    return [f"{key}:", *(f"  {name}: {value}" for name, value in values.items())]


def _quoted(text: str) -> str:
    """A YAML single-quoted scalar: nothing in a file's name can end it."""
    return "'" + text.replace("'", "''") + "'"
