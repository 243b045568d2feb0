"""Which architectures there are, and how one is built for E members."""

from __future__ import annotations

from collections.abc import Sequence

from dhmd.base.errors import DhmdError
from dhmd.models.config import DecoupleConfig, DistillationConfig, ModelConfig
from dhmd.models.stacked.baselines import BidirectionalGRU, LateFusion, MulT
from dhmd.models.stacked.dhmd import DHMD
from dhmd.models.stacked.loss_weights import LossWeights
from dhmd.models.stacked.members import Members
from dhmd.models.task import Task

AnyModel = DHMD | LateFusion | MulT | BidirectionalGRU


def build(
    architecture: str,
    members: Members,
    task: Task,
    inputs: dict[str, int],
    *,
    model: ModelConfig,
    loss_weights: Sequence[tuple[DecoupleConfig, DistillationConfig]],
) -> AnyModel:
    """The model of E members.

    Args:
        inputs: feature width by modality, in the order text, audio, vision.
        loss_weights: one pair a member; all pairs agree in all that shapes the model.
    """
    if architecture == "dhmd":
        decouple, kd = loss_weights[0]
        numbers = LossWeights.of(loss_weights, members.device)
        return DHMD(
            members, task, inputs, model=model, decouple=decouple, kd=kd, loss_weights=numbers
        )
    if architecture == "late_fusion":
        return LateFusion(members, task, inputs, model)
    if architecture == "mult":
        return MulT(members, task, inputs, model)
    if architecture == "gru":
        return BidirectionalGRU(members, task, inputs, model)
    raise DhmdError(f"no such architecture: {architecture!r}")
