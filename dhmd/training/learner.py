"""What the trainer asks of a model. Legend: E members, B utterances, O outputs."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from dhmd.models.batch import Batch
from dhmd.models.task import Task


class Learner(Protocol):
    """A module of E members with losses; DHMD, its unimodal parts and the baselines are such."""

    task: Task

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """`total` and its parts by name, `[E]` each."""
        ...

    def predict(self, batch: Batch) -> Tensor:
        """Outputs `[E, B, O]`."""
        ...


def as_module(learner: Learner) -> nn.Module:
    """The learner as the module that it is."""
    if not isinstance(learner, nn.Module):
        raise TypeError(f"{type(learner).__name__} is no module")
    return learner
