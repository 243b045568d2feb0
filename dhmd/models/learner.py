"""The interface between models and the trainer.

Legend: E members, B utterances, O outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from dhmd.models.batch import EnsembleBatch
from dhmd.models.task import Task


@dataclass(frozen=True)
class ParameterGroup:
    """How one parameter is optimised.

    Attributes:
        learning_rate: factor of `train.lr`.
        weight_decay: None for `train.weight_decay`.
        warmup: whether the learning rate rises from 0 (`features.finetune.warmup`).
        phase: the training phase that updates the parameter; None for the last one.
    """

    learning_rate: float = 1.0
    weight_decay: float | None = None
    warmup: bool = False
    phase: str | None = None


class Learner(nn.Module):
    """A model of E members, which the trainer can train: base class of all such models.

    Every parameter has the shape `[E, …]`.

    Attributes:
        task: the meaning and the loss of the outputs.
        phases: names of the phases of an epoch. Each phase updates its own parameters (see
            `ParameterGroup.phase`) with the `total` loss that `losses` returns for
            `batch.phase`. The last one is the main phase: its losses have no prefix in the history.
        alternate: whether phases alternate per update or per epoch (a pass over the data each).
        batch_by: whether a batch is a number of utterances or of whole videos.
        pretraining_epochs: epochs with `batch.phase == "pretraining"` before training; they update
            all parameters, and no weights are selected from them.
        capturable: whether a step may be captured as a CUDA graph.
        skip: members that stopped; their outputs are not used.
        mode: how members run (`ensemble.VMAP` or `LOOP`); saved to resume. Empty if fixed.
    """

    task: Task
    phases: tuple[str, ...] = ("",)
    alternate: Literal["update", "epoch"] = "update"
    batch_by: Literal["utterance", "video"] = "utterance"
    pretraining_epochs: int = 0
    capturable: bool = True
    skip: frozenset[int] = frozenset()
    mode: str = ""

    def losses(self, batch: EnsembleBatch) -> dict[str, Tensor]:
        """Return `total` and its parts by name, `[E]` each; by default the task loss alone."""
        each_EB = self.task.loss(self.predict(batch), batch.labels_EB)
        task = (each_EB * batch.weight_EB).sum(-1)
        return {"total": task, "task": task}

    def predict(self, batch: EnsembleBatch) -> Tensor:
        """Return outputs `[E, B, O]`."""
        raise NotImplementedError

    def details(self, batch: EnsembleBatch) -> dict[str, Tensor]:
        """Return the datasets of outputs.h5, `[E, B, …]` by name; at least `prediction`."""
        return {"prediction": self.task.stored(self.predict(batch))}

    def parameter_group(self, name: str) -> ParameterGroup:
        """Return how the parameter of a name is optimised."""
        return ParameterGroup()

    def load_encoders(self, encoders: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Initialise the model's encoders, if any, from pretrained ones.

        Args:
            encoders: by modality, parameters by name, `[E, …]` each, as
                `dhmd.models.stacked.encoders.ModalityEncoder` names them.
        """

    def member_buffers(self) -> dict[str, Tensor]:
        """Return state other than parameters that is saved with a model, `[E, …]` each."""
        return {}

    def load_member_buffers(self, buffers: Mapping[str, Tensor]) -> None:
        """Restore the state of `member_buffers`."""

    def member_tensors(self) -> dict[str, Tensor]:
        """Return parameters and buffers of a weights file, `[E, …]` by name."""
        named = {self.stored_name(name): p.detach() for name, p in self.named_parameters()}
        return named | self.member_buffers()

    def stored_name(self, name: str) -> str:
        """Return a parameter's name in a weights file."""
        return name

    def load_member_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the tensors of `member_tensors`."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(tensors[self.stored_name(name)])
        buffers = self.member_buffers()
        self.load_member_buffers({name: tensors[name] for name in buffers})
