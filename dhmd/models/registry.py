"""Which architectures there are, and how one is built for R replicas."""

from __future__ import annotations

from collections.abc import Sequence

from dhmd.base.errors import DhmdError
from dhmd.models.config import DecoupleConfig, DistillationConfig, ModelConfig
from dhmd.models.stacked.baselines import BidirectionalGRU, LateFusion, MulT
from dhmd.models.stacked.dhmd import DHMD
from dhmd.models.stacked.knobs import Knobs
from dhmd.models.stacked.replicas import Replicas
from dhmd.models.task import Task

AnyModel = DHMD | LateFusion | MulT | BidirectionalGRU


def build(
    architecture: str,
    replicas: Replicas,
    task: Task,
    inputs: dict[str, int],
    *,
    model: ModelConfig,
    knobs: Sequence[tuple[DecoupleConfig, DistillationConfig]],
) -> AnyModel:
    """The model of R replicas.

    Args:
        inputs: feature width by modality, in the order text, audio, vision.
        knobs: one pair a replica; all pairs agree in all that shapes the model.
    """
    if architecture == "dhmd":
        decouple, kd = knobs[0]
        numbers = Knobs.of(knobs, replicas.device)
        return DHMD(replicas, task, inputs, model=model, decouple=decouple, kd=kd, knobs=numbers)
    if architecture == "late_fusion":
        return LateFusion(replicas, task, inputs, model)
    if architecture == "mult":
        return MulT(replicas, task, inputs, model)
    if architecture == "gru":
        return BidirectionalGRU(replicas, task, inputs, model)
    raise DhmdError(f"no such architecture: {architecture!r}")
