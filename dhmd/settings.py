"""`params.yaml`, whole and typed; and what it says of one dataset, its recipe's values filled in.

Null in params.yaml means "the recipe's" where a recipe may say something, any other value wins, so
that every `-S` does what it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from dhmd.ablation.config import AblateConfig
from dhmd.base.errors import DhmdError
from dhmd.config.schema import load_section
from dhmd.config.yaml12 import load_yaml
from dhmd.data.alignment.config import AlignConfig
from dhmd.data.text_encoder.config import FeaturesConfig
from dhmd.evaluation.config import EvaluateConfig
from dhmd.gate.config import GateConfig
from dhmd.models.config import DecoupleConfig, DistillationConfig, ModelConfig
from dhmd.recipes import Recipe, load_recipe
from dhmd.tracking import TrackingConfig
from dhmd.training.config import PretrainConfig, TrainConfig
from dhmd.training.configuration import Configuration

PARAMS_FILE = "params.yaml"


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Section `data`."""

    alignment: Literal["word", "none"] = field(
        default="word",
        metadata={"help": "word: one step a word in every modality; none: each its own rate"},
    )
    fold: str | None = field(
        default=None, metadata={"help": "which fold of a corpus that has several; null: its first"}
    )
    sources: Mapping[str, str | None] = field(
        default_factory=dict,
        metadata={"help": "a folder or address instead of the recipe's sources, by dataset"},
    )


@dataclass(frozen=True, kw_only=True)
class Sections:
    """The sections that are read the same way for all datasets and for one."""

    data: DataConfig = field(default_factory=DataConfig)
    align: AlignConfig = field(default_factory=AlignConfig)
    features: FeaturesConfig = field(default_factory=FeaturesConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    decouple: DecoupleConfig = field(default_factory=DecoupleConfig)
    kd: DistillationConfig = field(default_factory=DistillationConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    ablate: AblateConfig = field(default_factory=AblateConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


@dataclass(frozen=True, kw_only=True)
class ParamsFile(Sections):
    """The keys of params.yaml."""

    datasets: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Settings(Sections):
    """Everything that params.yaml and the recipe say of one dataset."""

    dataset: str
    recipe: Recipe

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities in use, in the order text, audio, vision."""
        chosen = self.model.modalities
        names = self.recipe.modality_names
        return names if chosen is None else tuple(name for name in names if name in chosen)

    @property
    def configuration(self) -> Configuration:
        """The part that the training jobs take."""
        return Configuration(
            modalities=self.modalities,
            model=self.model,
            decouple=self.decouple,
            kd=self.kd,
            pretrain=self.pretrain,
            train=self.train,
            finetune=self.features.finetune if self.features.text == "finetune" else None,
        )


@dataclass(frozen=True, kw_only=True)
class Params:
    """params.yaml as it was read, ready to be looked at for each dataset."""

    root: Path
    values: Mapping[str, Any]
    datasets: tuple[str, ...]
    gate: GateConfig
    tracking: TrackingConfig

    def for_dataset(self, name: str) -> Settings:
        """The settings of one dataset: params.yaml over its recipe over the defaults.

        Raises:
            DhmdError: no such recipe, a value that one of the two may not have, or two that do not
                fit each other.
        """
        recipe = load_recipe(name, self.root)
        starting = {
            "align": recipe.align,
            "model": recipe.model,
            "kd": recipe.kd,
            "pretrain": recipe.pretrain,
            "train": recipe.train,
            "ablate": recipe.ablate,
        }
        read = load_section(
            ParamsFile,
            self.values,
            recipe=starting,
            source=PARAMS_FILE,
            recipe_source=recipe.source,
            complete=True,
        )
        sections = {key: value for key, value in vars(read).items() if key != "datasets"}
        sections["features"] = _filled(read.features, recipe)
        settings = Settings(dataset=name, recipe=recipe, **sections)
        _check(settings)
        return settings


def load_params(root: Path) -> Params:
    """Read params.yaml in the folder `root`, without any recipe yet.

    Raises:
        DhmdError: an unknown or missing key, a wrong type, a value out of range.
    """
    values = load_yaml(root / PARAMS_FILE, PARAMS_FILE)
    read = load_section(ParamsFile, values, source=PARAMS_FILE, complete=True)
    if not read.datasets:
        raise DhmdError(f"{PARAMS_FILE}: datasets is empty, but must name at least one recipe")
    twice = sorted({name for name in read.datasets if read.datasets.count(name) > 1})
    if twice:
        raise DhmdError(f"{PARAMS_FILE}: datasets names {twice[0]} twice")
    for name in read.datasets:
        if name not in read.data.sources:
            # DVC refuses to track a key that is absent.
            raise DhmdError(f"{PARAMS_FILE} lacks data.sources.{name}: add it, null if need be")
    assert isinstance(values, Mapping)  # load_section refuses anything else
    return Params(
        root=root,
        values=values,
        datasets=read.datasets,
        gate=read.gate,
        tracking=read.tracking,
    )


def with_values(settings: Settings, **sections: Any) -> Settings:
    """The settings with whole sections replaced, checked again (for variants and studies)."""
    changed = replace(settings, **sections)
    _check(changed)
    return changed


def _filled(features: FeaturesConfig, recipe: Recipe) -> FeaturesConfig:
    """Null stands for what the recipe's text is: word vectors, or words for an encoder to read."""
    if features.text is not None:
        return features
    return replace(features, text="contextual" if recipe.text_is_words else "words")


def _check(settings: Settings) -> None:
    """What no single key can say: values that must fit each other."""
    model, recipe = settings.model, settings.recipe
    if model.width % model.heads:
        raise DhmdError(
            f"model.width is {model.width} and model.heads {model.heads} for {recipe.name}, "
            "but the width must be a multiple of the heads"
        )
    if settings.features.text == "words" and recipe.text_is_words:
        raise DhmdError(
            f"features.text is words, but the text of {recipe.source} is the words themselves, "
            "without vectors: set it to contextual or finetune"
        )
    names = recipe.modality_names
    for name in model.modalities or ():
        if names and name not in names:
            raise DhmdError(
                f"model.modalities names {name}, but {recipe.source} has only {', '.join(names)}"
            )
    chosen = model.modalities or ()
    twice = sorted({name for name in chosen if chosen.count(name) > 1})
    if twice:
        raise DhmdError(f"model.modalities names {twice[0]} twice")
    if model.modalities == ():
        raise DhmdError("model.modalities is empty, but must be null or name at least one")
    seeds = settings.train.seeds
    if not seeds or len(set(seeds)) != len(seeds):
        raise DhmdError(
            f"train.seeds is {list(seeds)}, but must name at least one seed, and each once"
        )
