"""The settings of training: sections `pretrain` and `train` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from dhmd.config.schema import CONFIG, FromRecipe, Rate

Precision = Literal["float32", "tf32", "bfloat16"]


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class PretrainConfig:
    """Section `pretrain` (method section 1)."""

    enabled: FromRecipe[bool] = True  # start train's encoders from the pretrained ones
    folds: Annotated[int, Field(ge=2)] = 5  # folds of the train videos, for out-of-fold teachers
    epochs: FromRecipe[PositiveInt] = 30  # maximum number of epochs
    lr: FromRecipe[PositiveFloat] = 1e-3  # learning rate
    early_stop: FromRecipe[PositiveInt] = 6  # epochs without a better validation score


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class TrainConfig:
    """Section `train`."""

    seeds: tuple[NonNegativeInt, ...] = (1, 2, 3, 4, 5)  # one ensemble member per seed
    epochs: FromRecipe[PositiveInt] = 40  # maximum number of epochs
    batch_size: FromRecipe[PositiveInt] = 32  # utterances per step
    accumulate: FromRecipe[PositiveInt] = 1  # steps per update
    lr: FromRecipe[PositiveFloat] = 1e-3  # learning rate
    weight_decay: FromRecipe[NonNegativeFloat] = 0.0  # decoupled weight decay
    plateau_patience: FromRecipe[NonNegativeInt] = 5  # epochs before the rate is reduced
    plateau_factor: Annotated[float, Field(gt=0, le=1)] = (
        0.5  # factor of the learning rate on a plateau
    )
    early_stop: FromRecipe[PositiveInt] = 10  # epochs without a better validation score
    clip_value: PositiveFloat = 0.6  # every entry of a gradient is clipped to plus and minus this
    modality_dropout: FromRecipe[Rate] = 0.0  # probability that an utterance loses a modality
    average: FromRecipe[Rate] = 0.95  # decay of the moving average of weights; 0: no average
    buckets: PositiveInt = 4  # length groups, each trimmed to its longest
    precision: Precision = "float32"  # of matrix products in training; evaluation uses float32
