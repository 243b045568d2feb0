"""Draft a dataset config for a user's files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml

from dhmd.base.errors import DhmdError
from dhmd.base.files import file_sha256
from dhmd.config.modalities import MODALITIES, in_order
from dhmd.data.aligned import SPLITS
from dhmd.data.aligned.corpus import Array
from dhmd.data.formats.arrays import load_arrays
from dhmd.data.formats.conversion import as_labels, as_numbers, may_be_classes
from dhmd.data.formats.mmsa import LABELS, SEQUENCE, split_parts
from dhmd.data.formats.pickles import load_pickle
from dhmd.recipes import SCALE

_HEAD = "# Drafted by `dhmd import`: check it, and document where the files come from.\n"


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """The task and the labels of a new dataset.

    Attributes:
        task: "regression", "classification" or "multilabel"; None infers it from the labels.
        classes: the names of the classes, in order.
        scale: the range of the labels, which is mapped to -3 … 3; None does not scale them.
    """

    task: str | None = None
    classes: tuple[str, ...] = ()
    scale: tuple[float, float] | None = None


def draft_recipe(
    format: Literal["mmsa", "arrays"],
    name: str,
    path: Path,
    options: LabelOptions,
    *,
    padding: str = "marked",
    label_key: str | None = None,
) -> str:
    """Return the text of a dataset config for a user's files; it has all keys.

    Args:
        format: the format of the files.
        name: the dataset's name.
        path: the pickle, or the folder of arrays.
        options: the task and the labels.
        padding: `options.padding` of the recipe.
        label_key: the name of the array of labels; None for the format's default.

    Raises:
        DhmdError: a file is unsafe, damaged or of another format, or all labels are whole numbers
            and neither task nor classes are given.
    """
    classes, scale = options.classes, options.scale
    task = options.task or ("classification" if classes else "regression")
    if bool(classes) != (task != "regression"):
        raise DhmdError(
            "--classes names the classes of a classification or of --multi-label: give both or "
            "neither"
        )
    if scale is not None and task != "regression":
        raise DhmdError(f"--label-range is for a regression, but the task is {task}")
    if format == "mmsa":
        files = {SEQUENCE: path}
        id_key, key = None, label_key or LABELS[task]
        parts = {
            f"{path}: {s}.": part for s, part in split_parts(load_pickle(path), str(path)).items()
        }
    else:
        files = {split: _array_file(path, split) for split in SPLITS}
        id_key, key = "ids", label_key or "labels"
        parts = {f"{file}: ": load_arrays(file) for file in files.values()}
    steps: dict[str, int] = {}
    labels = []
    for where, part in parts.items():
        for required in filter(None, (id_key, key)):
            if required not in part:
                remedy = "name the labels' key with --label-key" if required == key else "add it"
                raise DhmdError(
                    f"{where}{required} is missing; it has {', '.join(map(str, part))}: {remedy}"
                )
        if task == "regression":
            count = len(part[key])
            labels.append(as_labels(part[key], count=count, where=f"{where}{key}"))
        others = [m for m in part if f"{m}_offsets" in part or f"{m}_lengths" in part]
        for modality in in_order(m for m in (*MODALITIES, *others) if m in part):
            longest = _longest(part, modality, f"{where}{modality}")
            steps[modality] = max(1, longest, steps.get(modality, 0))
    if not steps:
        raise DhmdError(f"{path} has none of {', '.join(MODALITIES)}")
    recipe: dict[str, Any] = {
        "title": f"{name}, imported",
        "format": format,
        "provenance": f"Imported from {', '.join(file.name for file in files.values())}.\n"
        f"Place the files in data/placed/{name}.\n",
        "sources": None,
        "generator": None,
        "options": None if padding == "marked" else {"padding": padding},
        "sequences": {sequence: sequence_entry(file) for sequence, file in files.items()},
        "modalities": {modality: modality for modality in steps},
        "reference": None,
        "labels": {
            "sequence": None,
            "column": label_key or 0,
            "task": task,
            **_range(labels, str(path), options),
            "tolerance": 0.0,
            "classes": list(classes) or None,
            **({} if scale is None else {"scale": list(scale)}),
        },
        "planted": None,
        "folds": None,
        "align": {"max_steps": max(steps.values()), "max_steps_unaligned": steps},
        **dict.fromkeys(("model", "kd", "pretrain", "train", "ablate")),
    }
    return _HEAD + yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)


def sequence_entry(path: Path) -> dict[str, Any]:
    """Return a file's entry in section `sequences` of a recipe, with its bytes and sha256."""
    return {"path": path.name, "bytes": path.stat().st_size, "sha256": file_sha256(path)}


def _array_file(folder: Path, split: str) -> Path:
    for suffix in (".npz", ".h5", ".hdf5"):
        if (path := folder / f"{split}{suffix}").is_file():
            return path
    raise DhmdError(f"{folder} has no {split}.npz and no {split}.h5")


def _longest(part: Mapping[str, Any], modality: str, where: str) -> int:
    """Return the number of steps of the longest utterance of a split."""
    values = as_numbers(part[modality], axes=None, where=where)
    if values.ndim == 3:
        return int(values.shape[1])
    offsets = part.get(f"{modality}_offsets")
    if values.ndim != 2 or offsets is None:
        raise DhmdError(
            f"{where} has shape {list(values.shape)}, but must be [utterances, steps, values], or"
            f" in arrays [rows, values] with {modality}_offsets"
        )
    return int(np.max(np.diff(as_numbers(offsets, axes=1, where=f"{where}_offsets")), initial=0))


def _range(labels: Sequence[Array], where: str, options: LabelOptions) -> dict[str, float | None]:
    """Return low and high of a regression's labels, as whole numbers; None without labels."""
    if not labels:
        return {"low": None, "high": None}
    if options.scale is not None:
        return {"low": float(-SCALE), "high": float(SCALE)}
    labels_N = np.concatenate(labels)
    finite = labels_N[np.isfinite(labels_N)]
    if not finite.size or finite.min() == finite.max():
        raise DhmdError(f"{where}: all labels are equal: correct the labels")
    if options.task is None and may_be_classes(finite):
        raise DhmdError(
            f"{where}: all labels are whole numbers from {finite.min():g} to {finite.max():g}; "
            "name the classes with --classes NAME,NAME,…, or add --task regression or "
            "--label-range LOW HIGH if they are points on a scale"
        )
    return {"low": float(math.floor(finite.min())), "high": float(math.ceil(finite.max()))}
