"""What `params.yaml` may say of training: sections `pretrain` and `train`.

A field with `recipe` in its metadata may be null in params.yaml: then the recipe's value counts,
and where the recipe is silent the default here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Section `pretrain` (method section 1)."""

    enabled: bool = field(
        default=True,
        metadata={"recipe": True, "help": "start train's encoders from the pretrained ones"},
    )
    folds: int = field(
        default=5, metadata={"min": 2, "help": "folds of the train videos for the teachers"}
    )
    epochs: int = field(default=30, metadata={"recipe": True, "min": 1, "help": "epochs at most"})
    lr: float = field(
        default=1e-3, metadata={"recipe": True, "exclusive_min": 0.0, "help": "learning rate"}
    )
    early_stop: int = field(
        default=6,
        metadata={"recipe": True, "min": 1, "help": "epochs without a better validation score"},
    )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Section `train`."""

    seeds: tuple[int, ...] = field(
        default=(1, 2, 3, 4, 5), metadata={"min": 0, "help": "one member a seed"}
    )
    epochs: int = field(default=40, metadata={"recipe": True, "min": 1, "help": "epochs at most"})
    batch_size: int = field(
        default=32, metadata={"recipe": True, "min": 1, "help": "utterances a step"}
    )
    accumulate: int = field(
        default=1, metadata={"recipe": True, "min": 1, "help": "steps an update"}
    )
    lr: float = field(
        default=1e-3, metadata={"recipe": True, "exclusive_min": 0.0, "help": "learning rate"}
    )
    weight_decay: float = field(
        default=0.0, metadata={"recipe": True, "min": 0.0, "help": "decoupled weight decay"}
    )
    plateau_patience: int = field(
        default=5,
        metadata={"recipe": True, "min": 0, "help": "epochs before the learning rate falls"},
    )
    plateau_factor: float = field(
        default=0.5,
        metadata={"exclusive_min": 0.0, "max": 1.0, "help": "by how much it falls"},
    )
    early_stop: int = field(
        default=10,
        metadata={"recipe": True, "min": 1, "help": "epochs without a better validation score"},
    )
    clip_value: float = field(
        default=0.6, metadata={"exclusive_min": 0.0, "help": "each gradient is clipped to ± this"}
    )
    modality_dropout: float = field(
        default=0.0,
        metadata={
            "recipe": True,
            "min": 0.0,
            "exclusive_max": 1.0,
            "help": "chance that an utterance loses a modality in training",
        },
    )
    average: float = field(
        default=0.95,
        metadata={
            "recipe": True,
            "min": 0.0,
            "exclusive_max": 1.0,
            "help": "weights are averaged over updates, each keeping this share; 0: the latest",
        },
    )
    buckets: int = field(
        default=4, metadata={"min": 1, "help": "length groups, each trimmed to its longest"}
    )
    threads: int | None = field(
        default=None, metadata={"min": 1, "help": "CPU threads of a process; null: one"}
    )
    workers: int | None = field(
        default=None,
        metadata={
            "min": 1,
            "help": "processes that share the members; null: chosen for machine and job",
        },
    )
    device: Literal["auto", "cpu", "cuda"] = field(
        default="auto", metadata={"help": "auto: a GPU where there is one"}
    )
    cuda_graph: bool = field(
        default=True, metadata={"help": "on a GPU, capture each step's shape once and replay it"}
    )
