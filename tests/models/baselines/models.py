"""Build small models by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from dhmd.models.batch import Batch
from dhmd.models.config import DecoupleConfig, DropoutConfig, ModelConfig
from dhmd.models.ensemble import Ensemble
from dhmd.models.learner import Learner
from dhmd.models.members import Members
from dhmd.models.registry import CorpusInfo, build
from dhmd.models.task import Task
from tests.models.batches import random_batch
from tests.models.stacked.settings import CPU, INPUTS, KD, MODEL

NAMES = (*INPUTS, "physio")
KERNELS = dict(zip(NAMES, (3, 1, 5, 3), strict=True))
# Without dropout.
NO_DROPOUT = replace(
    MODEL,
    kernels=KERNELS,
    dropout=DropoutConfig(
        attention=dict.fromkeys(NAMES, 0.0),
        layer=0.0,
        embedding=0.0,
        input=dict.fromkeys(NAMES, 0.0),
        output=0.0,
    ),
)


def build_learner(
    name: str,
    inputs: Mapping[str, int] = INPUTS,
    *,
    task: Task | None = None,
    seeds: tuple[int, ...] = (1, 2),
    config: ModelConfig = NO_DROPOUT,
    options: Mapping[str, Any] | None = None,
    num_utterances: int = 6,
    num_steps: int = 5,
) -> Learner:
    """Build a model of all seeds, as the trainer does."""
    return build(
        name,
        Members(seeds, CPU),
        task or Task(),
        dict(inputs),
        config=replace(config, options={name: options} if options else {}),
        loss_weights=[(DecoupleConfig(), KD)] * len(seeds),
        corpus=CorpusInfo(num_utterances, dict.fromkeys(inputs, num_steps)),
    )


def build_module(name: str, inputs: Mapping[str, int] = INPUTS, **settings: Any) -> Any:
    """Build the module of one seed."""
    ensemble = build_learner(name, inputs, seeds=(1,), **settings)
    assert isinstance(ensemble, Ensemble)
    member: nn.Module = ensemble._instances[0]
    return member


def single_member_batch(absent: float = 0.0, seed: int = 5) -> Batch:
    """Return a random batch for one ensemble member."""
    return random_batch(
        list(INPUTS.values()), num_members=1, absent=absent, padding_rows=0, seed=seed
    ).of_member(0)
