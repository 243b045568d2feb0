"""The configuration of one model and its training; model.json stores it as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from itertools import combinations
from typing import Any, TypeVar

from pydantic.dataclasses import dataclass

from dhmd.base.errors import DhmdError
from dhmd.config.schema import CONFIG, as_json, load_section
from dhmd.data.text.config import FinetuneConfig
from dhmd.models.config import DecoupleConfig, DistillationConfig, DropoutConfig, ModelConfig
from dhmd.training.compute import ComputeConfig
from dhmd.training.config import PretrainConfig, TrainConfig

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Configuration:
    """Architecture and the sections of params.yaml that define a model and its training.

    Attributes:
        modalities: the modalities in use: text, audio, vision, then the others in the order of the
            dataset config.
        finetune: how the text encoder is fine-tuned; None where text features come from the
            aligned dataset.
    """

    architecture: str = "dhmd"
    modalities: tuple[str, ...]
    model: ModelConfig
    decouple: DecoupleConfig
    kd: DistillationConfig
    pretrain: PretrainConfig
    train: TrainConfig
    finetune: FinetuneConfig | None = None
    compute: ComputeConfig = field(default_factory=ComputeConfig)

    @property
    def trains_encoder(self) -> bool:
        """Whether the text encoder is fine-tuned with the model."""
        return self.finetune is not None and "text" in self.modalities

    def __post_init__(self) -> None:
        if self.model.width % self.model.heads:
            raise DhmdError(
                f"model.width is {self.model.width}, but must be a multiple of model.heads, "
                f"which is {self.model.heads}"
            )

    def as_json(self) -> dict[str, Any]:
        """Return JSON values with the keys of params.yaml.

        The options of other models are left out. So is `model.recurrent` if no modality is
        recurrent, so that such trainings keep the hashes from before the key was added.
        """
        value: dict[str, Any] = as_json(self)
        options = value["model"]["options"]
        value["model"]["options"] = {k: v for k, v in options.items() if k == self.architecture}
        if not any(self.model.recurrent.values()):
            del value["model"]["recurrent"]
        return value

    @staticmethod
    def from_json(value: object, source: str) -> Configuration:
        """Create a configuration from a value that `as_json` returned.

        Raises:
            DhmdError: an unknown key or a wrong value; the message names `source` and the key.
        """
        return load_section(Configuration, value, source=source)

    def structure(self) -> dict[str, Any]:
        """Return the settings that all members of a stack share: all but loss weights."""
        value = self.as_json()
        value.pop("compute")
        if self.architecture == "dhmd" and self.model.engine == "plain":
            return value  # in the plain engine, all members share all settings
        value["kd"].pop("lambda")
        value["kd"].pop("aux")
        for key in ("homogeneous", "heterogeneous", "edges"):
            value["kd"]["graph"].pop(key)
        for key in ("matching", "weight"):
            value["kd"]["dictionary"].pop(key)
        for key in ("weight", "gamma"):
            value["decouple"].pop(key)
        return value

    def for_pretraining(self) -> Configuration:
        """Return the configuration of pretraining, with defaults for the settings it ignores.

        dvc.yaml lists all other settings as parameters of the stage `pretrain`.
        """
        dropout = DropoutConfig(input=self.model.dropout.input, output=self.model.dropout.output)
        model = ModelConfig(
            width=self.model.width,
            heads=self.model.heads,
            kernels=self.model.kernels,
            recurrent=self.model.recurrent,
            dropout=dropout,
        )
        train = replace(
            self.train,
            epochs=self.pretrain.epochs,
            lr=self.pretrain.lr,
            early_stop=self.pretrain.early_stop,
            modality_dropout=0.0,
            precision="float32",
        )
        pretrain = replace(self.pretrain, enabled=True)
        return Configuration(
            modalities=self.modalities,
            model=model,
            decouple=DecoupleConfig(),
            kd=DistillationConfig(),
            pretrain=pretrain,
            train=train,
            compute=self.compute,
        )


def overlay(value: T, changes: Mapping[str, Any], source: str = "the variant") -> T:
    """Return a configuration with new values for some keys.

    Args:
        changes: the values by key, nested as in params.yaml.
        source: what error messages name as the origin of the changes.

    Raises:
        DhmdError: an unknown key or a wrong value; the message names `source` and the key.
    """
    return load_section(type(value), _merge(as_json(value), changes), source=source)


def _merge(value: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(value)
    for key, change in changes.items():
        nested = isinstance(change, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merge(merged[key], change) if nested else change
    return merged


def subsets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the proper subsets of the modalities, the smallest first.

    For more than four modalities these are only the subsets of one modality and those that leave
    one out, to keep their number small.
    """
    sizes = range(1, len(modalities))
    if len(modalities) > 4:
        sizes = range(1, len(modalities), len(modalities) - 2)
    return [subset for size in sizes for subset in combinations(modalities, size)]
