"""The settings of text features: section `features` of params.yaml."""

from __future__ import annotations

from dataclasses import field
from typing import Literal

from pydantic import NonNegativeFloat, PositiveFloat
from pydantic.dataclasses import dataclass

from dhmd.config.schema import CONFIG


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class FinetuneConfig:
    """The settings of section `features.finetune`, used if features.text is finetune.

    Section `train` has the batch size, epochs, early stopping and averaging.
    """

    lr: PositiveFloat = 2e-5  # the encoder's learning rate
    warmup: NonNegativeFloat = 1.0  # epochs of linear warm-up of that learning rate
    gradient_checkpointing: bool = False  # recompute the encoder's layers in the backward pass


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class FeaturesConfig:
    """The settings of section `features`."""

    # words: the recipe's word vectors; contextual: those of a frozen encoder; finetune: the encoder
    # is fine-tuned with the model. None means the recipe's value (dhmd/settings.py).
    text: Literal["words", "contextual", "finetune"] | None = None
    encoder: str | None = None  # a Hugging Face encoder by name or folder; None: the bundled MiniLM
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
