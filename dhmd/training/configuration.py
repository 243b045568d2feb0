"""Everything that a trained model depends on besides data and seeds, as one value.

It goes to JSON and back, so that a model directory tells how it was made and can be loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar

from dhmd.base.errors import DhmdError
from dhmd.config.schema import load_section
from dhmd.data.text_encoder.config import FinetuneConfig
from dhmd.models.config import DecoupleConfig, DistillationConfig, DropoutConfig, ModelConfig
from dhmd.training.config import PretrainConfig, TrainConfig

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """Architecture and the sections of params.yaml that shape a model and its training.

    `modalities` are those in use, in the order text, audio, vision. `finetune` is null where
    text is what the aligned cache holds.
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
        """Whether an encoder of text is trained along."""
        return self.finetune is not None and "text" in self.modalities

    def __post_init__(self) -> None:
        if self.model.width % self.model.heads:
            raise DhmdError(
                f"model.width is {self.model.width}, but must be a multiple of model.heads, "
                f"which is {self.model.heads}"
            )

    def as_json(self) -> dict[str, Any]:
        """Plain values, keys as in params.yaml."""
        value: dict[str, Any] = plain(self)
        return value

    @staticmethod
    def from_json(value: object, source: str) -> Configuration:
        """The reverse of `as_json`.

        Raises:
            DhmdError: not such a value; the sentence names `source` and the key.
        """
        model = value.get("model") if isinstance(value, Mapping) else None
        if isinstance(model, Mapping) and "vote" in model:  # its name in older model.json files
            renamed = {key: item for key, item in model.items() if key != "vote"}
            value = {**value, "model": {**renamed, "auxiliary_average": model["vote"]}}  # type: ignore[dict-item]
        return load_section(Configuration, value, source=source)

    def structure(self) -> dict[str, Any]:
        """All that must agree for two configurations to train as one stack: no loss weights."""
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
        """The same without what pretraining does not depend on, so that its outputs do not either.

        The pipeline's dependencies of the pretrain stage name what is left here.
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


def plain(value: Any) -> Any:
    """Dataclasses as mappings with the keys of params.yaml, tuples as lists."""
    if is_dataclass(value) and not isinstance(value, type):
        return {
            field.metadata.get("key", field.name): plain(getattr(value, field.name))
            for field in fields(value)
        }
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def overlay(value: T, changes: Mapping[str, Any], where: str = "") -> T:
    """A frozen dataclass with some keys (as in params.yaml, nested) replaced.

    Raises:
        DhmdError: an unknown key.
    """
    assert is_dataclass(value)
    names = {field.metadata.get("key", field.name): field.name for field in fields(value)}
    replaced: dict[str, Any] = {}
    for key, change in changes.items():
        dotted = f"{where}.{key}" if where else key
        if key not in names:
            raise DhmdError(f"{dotted} is no key of the configuration")
        current = getattr(value, names[key])
        nested = is_dataclass(current) and isinstance(change, Mapping)
        replaced[names[key]] = overlay(current, change, dotted) if nested else change
    result: T = replace(value, **replaced)  # type: ignore[type-var]
    return result


def flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings with dotted keys."""
    items: dict[str, Any] = {}
    for key, item in value.items():
        dotted = f"{prefix}{key}"
        items |= flat(item, f"{dotted}.") if isinstance(item, Mapping) else {dotted: item}
    return items
