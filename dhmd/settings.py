"""Typed settings: params.yaml, merged with the recipe of one dataset.

A null in params.yaml means the recipe's value, or the default if the recipe has none. Any other
value takes precedence over the recipe, so that every `-S` takes effect.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from dataclasses import field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic.dataclasses import dataclass

from dhmd.ablation.config import AblateConfig
from dhmd.base.errors import DhmdError
from dhmd.config.schema import CONFIG, load_section
from dhmd.config.yaml12 import load_yaml
from dhmd.data.alignment.config import AlignConfig
from dhmd.data.text.config import FeaturesConfig
from dhmd.evaluation.config import EvaluateConfig
from dhmd.gate.config import GateConfig
from dhmd.models.config import DecoupleConfig, DistillationConfig, ModelConfig
from dhmd.recipes import Recipe, load_recipe, recipe_names
from dhmd.tracking import TrackingConfig
from dhmd.training.compute import ComputeConfig
from dhmd.training.config import PretrainConfig, TrainConfig
from dhmd.training.configuration import Configuration

PARAMS_FILE = "params.yaml"


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class DataConfig:
    """Section `data`."""

    # "none" leaves each modality at its own rate and length.
    alignment: Literal["word", "none"] = "word"
    fold: str | None = None  # name of the fold; None selects the first
    # A folder or address per dataset, to use instead of the recipe's sources.
    sources: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Sections:
    """The sections of params.yaml."""

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
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class ParamsFile(Sections):
    """The keys of params.yaml."""

    datasets: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.datasets:
            raise ValueError("datasets is empty, but must name at least one recipe")
        if duplicate := _duplicate(self.datasets):
            raise ValueError(f"datasets names {duplicate} twice")


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Settings(Sections):
    """All settings of one dataset."""

    dataset: str
    recipe: Recipe

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities in use: text, audio, vision, then the others in the recipe's order."""
        selected, names = self.model.modalities, self.recipe.modality_names
        return names if selected is None else tuple(name for name in names if name in selected)

    @property
    def configuration(self) -> Configuration:
        """The settings that define a training."""
        return Configuration(
            modalities=self.modalities,
            model=self.model,
            decouple=self.decouple,
            kd=self.kd,
            pretrain=self.pretrain,
            train=self.train,
            compute=self.compute,
            finetune=self.features.finetune if self.features.text == "finetune" else None,
        )


@plain_dataclass(frozen=True, kw_only=True)
class Params:
    """The content of params.yaml, from which `for_dataset` makes the settings of a dataset."""

    root: Path
    values: Mapping[str, Any]
    datasets: tuple[str, ...]
    gate: GateConfig
    tracking: TrackingConfig

    def for_dataset(self, name: str) -> Settings:
        """Return the settings of one dataset: params.yaml over its recipe over the defaults.

        Raises:
            DhmdError: there is no such recipe, a value is not valid, or values contradict each
                other.
        """
        recipe = load_recipe(name, self.root)
        params_file = load_section(
            ParamsFile,
            self.values,
            recipe=recipe.starting_values(),
            source=PARAMS_FILE,
            recipe_source=recipe.source,
            complete=True,
            modalities=recipe.settable_modalities,
        )
        sections = {key: value for key, value in vars(params_file).items() if key != "datasets"}
        if params_file.features.text is None:
            text: Literal["contextual", "words"] = "contextual" if recipe.text_is_words else "words"
            sections["features"] = replace(params_file.features, text=text)
        settings = Settings(dataset=name, recipe=recipe, **sections)
        _check(settings)
        return settings


def load_params(root: Path, changes: Mapping[str, Any] | None = None) -> Params:
    """Read params.yaml in the folder `root`.

    Args:
        root: the folder of params.yaml and recipes/.
        changes: dotted key (`kd.lambda`) -> value to use instead of that of the file.

    Raises:
        DhmdError: an unknown or missing key, a wrong type, a value out of range.
    """
    values = load_yaml(root / PARAMS_FILE, PARAMS_FILE)
    for key, value in (changes or {}).items():
        *sections, last = key.split(".")
        section: Any = values
        for name in sections:
            section = section.get(name) if isinstance(section, dict) else None
        if not isinstance(section, dict):
            raise DhmdError(
                f"{key} is not a setting: {PARAMS_FILE} has no section {'.'.join(sections)}"
            )
        section[last] = list(value) if isinstance(value, tuple) else value
    file = load_section(ParamsFile, values, source=PARAMS_FILE, complete=True)
    names = recipe_names(root)
    for name in file.data.sources:
        if name not in names:
            similar = difflib.get_close_matches(name, names, n=1)
            hint = f"; did you mean {similar[0]}?" if similar else ""
            raise DhmdError(f"{PARAMS_FILE}: data.sources names {name}, which has no recipe{hint}")
    assert isinstance(values, Mapping)  # load_section refuses anything else
    return Params(
        root=root, values=values, datasets=file.datasets, gate=file.gate, tracking=file.tracking
    )


def _check(settings: Settings) -> None:
    """Raise an error if values contradict each other or the recipe."""
    model, recipe = settings.model, settings.recipe
    if model.width % model.heads:
        raise DhmdError(
            f"model.width is {model.width} and model.heads is {model.heads} for {recipe.name}, "
            "but the width must be a multiple of the number of heads"
        )
    if settings.features.text == "words" and recipe.text_is_words:
        raise DhmdError(
            f"features.text is words, but {recipe.source} has words without vectors as text: set "
            "features.text to contextual or finetune"
        )
    names = recipe.modality_names
    for key, selected, allowed in (
        ("model.modalities", model.modalities or (), names),
        ("align.centre_by_video", settings.align.centre_by_video, recipe.settable_modalities),
    ):
        for name in selected:
            if names and name not in allowed:
                raise DhmdError(
                    f"{key} names {name}, but {recipe.source} has only {', '.join(names)}"
                )
        if duplicate := _duplicate(selected):
            raise DhmdError(f"{key} names {duplicate} twice")
    if model.modalities == ():
        raise DhmdError("model.modalities is empty, but must be null or name at least one")
    seeds = settings.train.seeds
    if not seeds or _duplicate(seeds) is not None:
        raise DhmdError(
            f"train.seeds is {list(seeds)}, but must name at least one seed and no seed twice"
        )


def _duplicate(values: tuple[Any, ...]) -> Any:
    """Return the first value that occurs more than once; None if there is none."""
    return next((value for value in values if values.count(value) > 1), None)
