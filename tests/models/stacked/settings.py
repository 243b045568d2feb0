"""Settings of small models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from dhmd.models.config import DecoupleConfig, DistillationConfig, ModelConfig
from dhmd.models.members import Members
from dhmd.models.stacked.dhmd import DHMD, LossWeights
from dhmd.models.task import Task
from tests.training.corpora import TINY
from tests.training.corpora import WIDTHS as INPUTS

CPU = torch.device("cpu")
CLASSES = Task(classes=3)
MULTILABEL = Task(classes=3, multilabel=True)

MODEL, KD = TINY.model, TINY.kd


def kd_with(
    graph: dict[str, Any] | None = None, dictionary: dict[str, Any] | None = None, **changes: Any
) -> DistillationConfig:
    """Return the small settings with some values changed."""
    return replace(
        KD,
        graph=replace(KD.graph, **graph or {}),
        dictionary=replace(KD.dictionary, **dictionary or {}),
        **changes,
    )


def small_model(
    *,
    seeds: Sequence[int] = (1, 2),
    task: Task | None = None,
    inputs: dict[str, int] | None = None,
    config: ModelConfig = MODEL,
    decouple: DecoupleConfig | None = None,
    kd: DistillationConfig | Sequence[DistillationConfig] = KD,
    random_edges: bool = True,
) -> DHMD:
    """Build a DHMD in evaluation mode; with random edge weights by default."""
    members = Members(seeds, CPU)
    kds = [kd] * len(seeds) if isinstance(kd, DistillationConfig) else list(kd)
    decouple = decouple or DecoupleConfig()
    fast = DHMD(
        members,
        task or Task(),
        inputs or INPUTS,
        config=config,
        decouple=decouple,
        kd=kds[0],
        loss_weights=LossWeights.of([(decouple, settings) for settings in kds], CPU),
    )
    if random_edges:
        for unit in fast.graphs.values():
            weight = unit.edge_score.weight_EGIO
            with torch.no_grad():
                weight.copy_(members.normal(*weight.shape[1:]) * 2)
    return fast.eval()
