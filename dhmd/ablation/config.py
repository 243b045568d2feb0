"""The settings of ablations and baselines: section `ablate` of params.yaml."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from dhmd.config.schema import CONFIG, FromRecipe


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class AblateConfig:
    """Section `ablate`: which variants are trained beside the full model."""

    variants: FromRecipe[tuple[str, ...] | None] = None  # None: the list of the dataset config
    all: bool = False  # True: all variants that the modalities allow

    def __post_init__(self) -> None:
        names = self.variants or ()
        duplicates = sorted({name for name in names if names.count(name) > 1})
        if duplicates:
            raise ValueError(f"variants names {duplicates[0]} twice")
