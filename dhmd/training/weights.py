"""Model folders: one safetensors file per seed, and model.json with everything else.

A model folder is all that is needed to predict. Loading never runs code from it. Every file is
checked against its sha256 in model.json, so that a cut file or a flipped bit is refused by name.

Legend: E members, S seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dhmd.base.artefacts import DESCRIPTION, load_description
from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import file_sha256
from dhmd.models.learner import Learner
from dhmd.models.members import Members
from dhmd.models.registry import Corpus, baseline_names, build
from dhmd.models.task import Task
from dhmd.training.checkpoint import write_tensors
from dhmd.training.configuration import Configuration
from dhmd.training.device_corpus import Normalisation

_FORMAT = 2


@dataclass(frozen=True, kw_only=True)
class Description:
    """The content of model.json, without the files' hashes.

    Attributes:
        features: names of the features by modality, in the order of the inputs.
        steps: the longest sequence of each modality in the corpus.
        origin: which sequences the features come from and how they were aligned, so that new ones
            can be aligned alike; None if the corpus was not made of computational sequences.
    """

    configuration: Configuration
    features: Mapping[str, Sequence[str]]
    normalisation: Mapping[str, Normalisation]
    task: Task
    class_names: tuple[str, ...]
    seeds: tuple[int, ...]
    dataset: str
    alignment: str
    identity: str
    fold: str
    steps: Mapping[str, int]
    train_utterances: int
    origin: Mapping[str, Any] | None = None

    @property
    def inputs(self) -> dict[str, int]:
        """Feature widths by modality."""
        return {name: len(self.features[name]) for name in self.configuration.modalities}

    def as_json(self, files: Mapping[str, str]) -> dict[str, Any]:
        """Return the content of model.json; `files` has the sha256 of the other files by name."""
        return {
            "format": _FORMAT,
            "dataset": self.dataset,
            "alignment": self.alignment,
            "identity": self.identity,
            "fold": self.fold,
            "seeds": list(self.seeds),
            "label": {
                "task": "regression" if self.task.classes is None else "classification",
                "low": self.task.low,
                "high": self.task.high,
                "classes": list(self.class_names),
            },
            "steps": dict(self.steps),
            "train_utterances": self.train_utterances,
            "origin": None if self.origin is None else dict(self.origin),
            "features": {name: list(names) for name, names in self.features.items()},
            "normalisation": {
                name: {"mean": rule.mean_I.tolist(), "std": rule.std_I.tolist()}
                for name, rule in self.normalisation.items()
            },
            "configuration": self.configuration.as_json(),
            "files": dict(files),
        }


def seed_file(seed: int) -> str:
    """The name of a seed's weights file."""
    return f"seed-{seed}.safetensors"


def save_weights(folder: Path, parameters: Mapping[int, Mapping[str, Tensor]]) -> dict[str, str]:
    """Write one file per seed; return the files' sha256 by name."""
    files = {}
    for seed, tensors in parameters.items():
        name = seed_file(seed)
        write_tensors(folder / name, tensors)
        files[name] = file_sha256(folder / name)
    return files


def read_description(folder: Path) -> tuple[Description, dict[str, str]]:
    """Return the content of model.json and the sha256 of the folder's files by name.

    Raises:
        DhmdError: there is no model.json, or it is damaged or of another version.
    """
    path = folder / DESCRIPTION
    content = load_description(folder)
    try:
        if content["format"] != _FORMAT:
            raise DhmdError(f"{path} has format {content['format']}; this version reads {_FORMAT}")
        label = content["label"]
        classes = tuple(label["classes"])
        description = Description(
            configuration=Configuration.from_json(content["configuration"], str(path)),
            features={name: tuple(names) for name, names in content["features"].items()},
            normalisation={
                name: Normalisation(np.array(rule["mean"], float), np.array(rule["std"], float))
                for name, rule in content["normalisation"].items()
            },
            task=Task(
                classes=len(classes) or None, low=float(label["low"]), high=float(label["high"])
            ),
            class_names=classes,
            seeds=tuple(int(seed) for seed in content["seeds"]),
            dataset=content["dataset"],
            alignment=content["alignment"],
            identity=content["identity"],
            fold=content["fold"],
            steps=dict(content["steps"]),
            train_utterances=int(content.get("train_utterances", 0)),
            origin=content.get("origin"),
        )
        architecture = description.configuration.architecture
        if architecture not in ("dhmd", *baseline_names()):
            raise DhmdError(f"{path} names the model {architecture!r}, which does not exist here")
        for name in description.configuration.modalities:
            if name not in description.features or name not in description.normalisation:
                raise DhmdError(f"{path} is damaged: it does not describe {name}")
        return description, dict(content["files"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DhmdError(f"{path} is damaged or not a model's: {first_line(error)}") from error


def read_weights(folder: Path, files: Mapping[str, str], seed: int) -> dict[str, Tensor]:
    """Read the tensors of one seed and check them.

    Raises:
        DhmdError: the file is missing, cut or changed.
    """
    path = folder / seed_file(seed)
    if not path.is_file():
        raise DhmdError(f"{path} does not exist, though the folder's model.json names its seed")
    if file_sha256(path) != files.get(path.name):
        raise DhmdError(f"{path} is damaged: its sha256 is not the one in model.json; train again")
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise DhmdError(f"{path} is damaged: {first_line(error)}") from error


def load_model(folder: Path, device: torch.device) -> tuple[Learner, Members, Description]:
    """Load the trained model of all the folder's seeds, ready to predict.

    Raises:
        DhmdError: a file is missing, damaged, or does not fit the configuration.
    """
    description, files = read_description(folder)
    configuration = description.configuration
    members = Members(description.seeds, device)
    try:
        model = build(
            configuration.architecture,
            members,
            description.task,
            description.inputs,
            model=configuration.model,
            loss_weights=[(configuration.decouple, configuration.kd)] * members.count,
            corpus=Corpus(description.train_utterances, dict(description.steps)),
        ).eval()
    except DhmdError as error:
        raise DhmdError(f"{folder / DESCRIPTION}: {error}") from error
    stacks = [read_weights(folder, files, seed) for seed in description.seeds]
    fill(model, stacks, folder)
    return model, members, description


def fill(model: Learner, stacks: Sequence[Mapping[str, Tensor]], folder: Path) -> None:
    """Copy the tensors of each seed into the members of a model.

    Raises:
        DhmdError: names or shapes do not fit.
    """
    own = model.member_tensors()
    for tensors in stacks:
        differing = sorted(set(own) ^ set(tensors))
        if differing:
            raise DhmdError(f"{folder}: the weights do not fit model.json at {differing[0]}")
        for name, tensor in tensors.items():
            if own[name].shape[1:] != tensor.shape:
                raise DhmdError(
                    f"{folder}: {name} has the shape {list(tensor.shape)}, "
                    f"but model.json makes it {list(own[name].shape[1:])}"
                )
    model.load_member_tensors(
        {name: torch.stack([tensors[name] for tensors in stacks]) for name in own}
    )
