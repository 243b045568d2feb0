"""Build small models by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from dhmd.models.config import DecoupleConfig, DropoutConfig, ModelConfig
from dhmd.models.ensemble import Ensemble
from dhmd.models.learner import Learner
from dhmd.models.members import Members
from dhmd.models.registry import CorpusInfo, build
from dhmd.models.task import Task
from tests.models.stacked.settings import CPU, INPUTS, KD, MODEL

NAMES = (*INPUTS, "physio")
KERNELS = dict(zip(NAMES, (3, 1, 5, 3), strict=True))
# Nothing is dropped.
CERTAIN = replace(
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


def learner(
    name: str,
    inputs: Mapping[str, int] = INPUTS,
    *,
    task: Task | None = None,
    seeds: tuple[int, ...] = (1, 2),
    model: ModelConfig = CERTAIN,
    options: Mapping[str, Any] | None = None,
    utterances: int = 6,
    steps: int = 5,
) -> Learner:
    """A model of all seeds, as the trainer builds it."""
    return build(
        name,
        Members(seeds, CPU),
        task or Task(),
        dict(inputs),
        model=replace(model, options={name: options} if options else {}),
        loss_weights=[(DecoupleConfig(), KD)] * len(seeds),
        corpus=CorpusInfo(utterances, dict.fromkeys(inputs, steps)),
    )


def module(name: str, inputs: Mapping[str, int] = INPUTS, **settings: Any) -> Any:
    """The module of one seed."""
    ensemble = learner(name, inputs, seeds=(1,), **settings)
    assert isinstance(ensemble, Ensemble)
    found: nn.Module = ensemble._instances[0]
    return found
