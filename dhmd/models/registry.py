"""Which architectures there are, and how one is built for E members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dhmd.base.errors import DhmdError
from dhmd.models.config import DecoupleConfig, DistillationConfig, ModelConfig
from dhmd.models.stacked.baselines import BidirectionalGRU, LateFusion, MulT
from dhmd.models.stacked.dhmd import DHMD
from dhmd.models.stacked.loss_weights import LossWeights
from dhmd.models.stacked.members import Members
from dhmd.models.task import Task

_BASELINES = {
    "gru": ("a bidirectional GRU on the first modality", 1),
    "late_fusion": ("late fusion of the encoders, started as the full model's", 1),
    "mult": ("MulT, cross-modal transformers alone", 2),
}


@dataclass(frozen=True)
class Card:
    """What is known of a model before it is built."""

    summary: str
    min_modalities: int = 1


def baselines() -> tuple[str, ...]:
    """List the names of all baselines."""
    return tuple(_BASELINES)


def card(name: str) -> Card:
    """Return a model's card."""
    return Card(*_BASELINES[name]) if name in _BASELINES else Card("the full model")


def refusal(name: str, modalities: Sequence[str]) -> str | None:
    """Say in one sentence why a model cannot run with these modalities; None if it can."""
    if len(modalities) < card(name).min_modalities:
        given = " and ".join(modalities)
        return f"{name} needs {card(name).min_modalities} modalities, but there is only {given}"
    return None


def code_files(name: str) -> list[Path]:
    """List the source files in dhmd/models that a model's results depend on."""
    folder = Path(__file__).parent
    return sorted([*folder.glob("*.py"), *(folder / "stacked").glob("*.py")])


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
