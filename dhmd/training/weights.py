"""Model folders: one safetensors file per seed, and model.json with everything else.

A model folder is all that is needed to predict. Loading never runs code from it.

Legend: E members, S seeds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pydantic.dataclasses import dataclass
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from dhmd.base.errors import DhmdError, first_line
from dhmd.config.schema import CONFIG, as_json, load_section
from dhmd.data.aligned.corpus import Alignment, Corpus
from dhmd.data.text.encoder import TextEncoder
from dhmd.models.learner import Learner
from dhmd.models.members import Members
from dhmd.models.registry import CorpusInfo, build
from dhmd.models.task import Task
from dhmd.training.configuration import Configuration
from dhmd.training.device_corpus import Normalisation, max_lengths, task_of
from dhmd.training.finetuning import FinetunedModel

DESCRIPTION = "model.json"
_FORMAT = 3


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Description:
    """The content of model.json.

    Attributes:
        features: names of the features by modality, in the order of the inputs.
        identity: the hash that identifies the corpus.
        steps: length of the longest sequence of each modality in the corpus.
        origin: the computational sequences of the features and how they were aligned, so that new
            ones can be aligned in the same way; None if the corpus has none.
    """

    format: int = _FORMAT
    configuration: Configuration
    features: Mapping[str, tuple[str, ...]]
    normalisation: Mapping[str, Normalisation]
    task: Task
    class_names: tuple[str, ...]
    seeds: tuple[int, ...]
    dataset: str
    alignment: Alignment
    identity: str
    fold: str
    steps: Mapping[str, int]
    train_utterances: int
    origin: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in self.configuration.modalities:
            if name not in self.features or name not in self.normalisation:
                raise ValueError(
                    f"the features or the normalisation of {name} are missing: "
                    "train the model again"
                )
            normalisation, shape = self.normalisation[name], (len(self.features[name]),)
            if not normalisation.mean_I.shape == normalisation.std_I.shape == shape:
                raise ValueError(f"the normalisation of {name} does not fit its features")

    @staticmethod
    def of(corpus: Corpus, configuration: Configuration) -> Description:
        """Return the description of a model that was trained on this corpus."""
        names = configuration.modalities
        return Description(
            configuration=configuration,
            features={name: tuple(corpus.feature_names[name]) for name in names},
            normalisation={name: Normalisation.of(corpus, name) for name in names},
            task=task_of(corpus),
            class_names=corpus.class_names,
            seeds=configuration.train.seeds,
            dataset=corpus.name,
            alignment=corpus.alignment,
            identity=corpus.identity,
            fold=corpus.fold,
            steps=max_lengths(corpus, names),
            train_utterances=len(corpus.index("train")),
            origin=corpus.report.get("origin"),
        )

    @property
    def inputs(self) -> dict[str, int]:
        """Feature widths by modality."""
        return {name: len(self.features[name]) for name in self.configuration.modalities}

    def write(self, folder: Path) -> None:
        """Write model.json, without section `compute`, which describes the training machine."""
        content = as_json(self)
        del content["configuration"]["compute"]
        text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False)
        (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")


def weights_file(folder: Path, seed: int) -> Path:
    """Return the path of a seed's weights."""
    return folder / f"seed-{seed}.safetensors"


def read_description(folder: Path) -> Description:
    """Read model.json.

    Raises:
        DhmdError: there is no model.json, or it is damaged or of another version.
    """
    path = folder / DESCRIPTION
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["format"]
    except OSError as error:
        raise DhmdError(f"{folder} is not a model folder: {first_line(error)}") from error
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise DhmdError(
            f"{path} is damaged ({first_line(error)}): train the model again"
        ) from error
    if version != _FORMAT:
        raise DhmdError(
            f"{path} has format {version}, but this version of dhmd reads {_FORMAT}: "
            "train the model again"
        )
    return load_section(Description, content, source=str(path))


def read_weights(folder: Path, seed: int) -> dict[str, Tensor]:
    """Return the parameters of one seed by name.

    Raises:
        DhmdError: the file is missing or damaged.
    """
    path = weights_file(folder, seed)
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise DhmdError(
            f"{path} is missing or damaged ({first_line(error)}): train the model again"
        ) from error


def load_model(
    folder: Path, device: torch.device, encoder: TextEncoder | None = None
) -> tuple[Learner, Members, Description]:
    """Load a trained model with all its seeds, ready to predict.

    Args:
        encoder: the architecture of the text encoder that was fine-tuned with the model; None if
            there is none.

    Raises:
        DhmdError: a file is missing, damaged, or does not fit the configuration.
    """
    description = read_description(folder)
    configuration, members = description.configuration, Members(description.seeds, device)
    try:
        model: Learner = build(
            configuration.architecture,
            members,
            description.task,
            description.inputs,
            config=configuration.model,
            loss_weights=[(configuration.decouple, configuration.kd)] * members.count,
            corpus=CorpusInfo(description.train_utterances, dict(description.steps)),
        )
    except DhmdError as error:
        raise DhmdError(f"{folder / DESCRIPTION}: {error}") from error
    if encoder is not None:
        text, normalisation = list(description.inputs).index("text"), description.normalisation
        model = FinetunedModel(model, members, encoder, text, normalisation["text"])
    model.eval()
    _set_weights(model, [read_weights(folder, seed) for seed in description.seeds], folder)
    return model, members, description


def _set_weights(model: Learner, weights: Sequence[Mapping[str, Tensor]], folder: Path) -> None:
    """Copy the weights of each seed into the members of a model.

    Raises:
        DhmdError: names or shapes do not fit the model.
    """
    expected = model.member_tensors()
    for tensors in weights:
        differing = sorted(set(expected) ^ set(tensors))
        if differing:
            raise DhmdError(f"{folder}: the weights do not fit model.json at {differing[0]}")
        for name, tensor in tensors.items():
            shape = list(expected[name].shape[1:])
            if list(tensor.shape) != shape:
                raise DhmdError(
                    f"{folder}: {name} has the shape {list(tensor.shape)}, but model.json "
                    f"requires the shape {shape}"
                )
    model.load_member_tensors(
        {name: torch.stack([tensors[name] for tensors in weights]) for name in expected}
    )
