"""What `params.yaml` may say of ablations and baselines: section `ablate`."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class AblateConfig:
    """Section `ablate`: which variants of the full model are trained beside it.

    With neither `all` nor `variants` the recipe's short list counts; with `all` every variant that
    the dataset's modalities allow.
    """

    variants: tuple[str, ...] | None = field(
        default=None,
        metadata={"recipe": True, "help": "names of variants; null: the recipe's short list"},
    )
    all: bool = field(default=False, metadata={"help": "every variant, whatever the list says"})

    def __post_init__(self) -> None:
        names = self.variants or ()
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"variants names {twice[0]} twice")
