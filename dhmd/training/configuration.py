"""The configuration of one model and its training, as one value that goes to JSON and back.

A model directory has it in `model.json`, from which the model can be rebuilt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, TypeVar

from pydantic.dataclasses import dataclass

from dhmd.base.errors import DhmdError
from dhmd.config.schema import CONFIG, as_json, load_section
from dhmd.data.text.config import FinetuneConfig
from dhmd.models.config import DecoupleConfig, DistillationConfig, DropoutConfig, ModelConfig
from dhmd.training.config import PretrainConfig, TrainConfig

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Configuration:
    """Architecture and the sections of params.yaml that shape a model and its training.

    Attributes:
        modalities: those in use: text, audio, vision, then the others in the recipe's order.
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
        """Return plain values, with the keys of params.yaml.

        Of the options of other models there are only the model's own.
        """
        value: dict[str, Any] = as_json(self)
        options = value["model"]["options"]
        value["model"]["options"] = {k: v for k, v in options.items() if k == self.architecture}
        return value

    @staticmethod
    def from_json(value: object, source: str) -> Configuration:
        """Rebuild a configuration from `as_json`'s value.

        Raises:
            DhmdError: an unknown key or a wrong value; the sentence names `source` and the key.
        """
        model = value.get("model") if isinstance(value, Mapping) else None
        if isinstance(model, Mapping) and "vote" in model:  # its name in older model.json files
            renamed = {key: item for key, item in model.items() if key != "vote"}
            value = {**value, "model": {**renamed, "auxiliary_average": model["vote"]}}  # type: ignore[dict-item]
        return load_section(Configuration, value, source=source)

    def structure(self) -> dict[str, Any]:
        """Return what two configurations must share to train as one stack: all but loss weights."""
        value = self.as_json()
        for key in ("threads", "workers"):
            value["train"].pop(key)
        if self.architecture == "dhmd" and self.model.engine == "plain":
            return value  # its members share all settings
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
        """Return the configuration with defaults for all that pretraining does not depend on.

        dvc.yaml tracks, for the pretrain stage, the keys that are kept here.
        """
        dropout = DropoutConfig(input=self.model.dropout.input, output=self.model.dropout.output)
        model = ModelConfig(
            width=self.model.width,
            heads=self.model.heads,
            kernels=self.model.kernels,
            dropout=dropout,
        )
        neutral = TrainConfig()
        train = replace(
            self.train,
            epochs=neutral.epochs,
            lr=neutral.lr,
            early_stop=neutral.early_stop,
            modality_dropout=neutral.modality_dropout,
        )
        pretrain = replace(self.pretrain, enabled=True)
        return Configuration(
            modalities=self.modalities,
            model=model,
            decouple=DecoupleConfig(),
            kd=DistillationConfig(),
            pretrain=pretrain,
            train=train,
        )


def overlay(value: T, changes: Mapping[str, Any]) -> T:
    """Return a configuration with some keys (as in params.yaml, nested) replaced.

    Raises:
        DhmdError: an unknown key or a wrong value.
    """
    return load_section(type(value), _overlaid(as_json(value), changes), source="the variant")


def _overlaid(value: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(value)
    for key, change in changes.items():
        nested = isinstance(change, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _overlaid(merged[key], change) if nested else change
    return merged


def subsets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the proper subsets of the modalities, the smallest first.

    With more than four modalities there are only those of one modality and those that leave one
    out, so that their number stays small.
    """
    sizes = range(1, len(modalities))
    if len(modalities) > 4:
        sizes = range(1, len(modalities), len(modalities) - 2)
    return [subset for size in sizes for subset in combinations(modalities, size)]


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested mappings, with dotted keys."""
    items: dict[str, Any] = {}
    for key, item in value.items():
        dotted = f"{prefix}{key}"
        items |= flat(item, f"{dotted}.") if isinstance(item, Mapping) else {dotted: item}
    return items
