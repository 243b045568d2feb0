"""The settings of ablations and baselines: section `ablate` of params.yaml."""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from dhmd.config.schema import CONFIG, FromRecipe


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class AblateConfig:
    """Section `ablate`: which variants are trained beside the full model."""

    variants: FromRecipe[tuple[str, ...] | None] = None  # None: the recipe's short list
    all: bool = False  # True: every variant that the modalities allow, instead of the list

    def __post_init__(self) -> None:
        names = self.variants or ()
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"variants names {twice[0]} twice")
