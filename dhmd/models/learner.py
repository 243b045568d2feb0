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
    """Optimiser settings of one parameter.

    Attributes:
        learning_rate: factor of `train.lr`.
        weight_decay: weight decay; None for `train.weight_decay`.
        warmup: whether the learning rate rises from 0 (`features.finetune.warmup`).
        phase: the training phase that updates the parameter; None for the last phase.
    """

    learning_rate: float = 1.0
    weight_decay: float | None = None
    warmup: bool = False
    phase: str | None = None


class Learner(nn.Module):
    """Base class of models of E members, which the trainer trains.

    Every parameter has the shape `[E, …]`.

    Attributes:
        task: the task, which defines the outputs and their loss.
        phases: names of the phases of an epoch. Each phase updates its own parameters
            (`ParameterGroup.phase`) by the `total` loss that `losses` returns for `batch.phase`.
            The last one is the main phase: its losses have no prefix in the history.
        alternate: whether phases alternate after each update, or after each pass over the data.
        batch_by: whether a batch has a number of utterances or of whole videos.
        pretraining_epochs: epochs with `batch.phase == "pretraining"` before training. They update
            all parameters, and no weights are selected from them.
        capturable: whether an update may be captured as a CUDA graph.
        skip: indices of the members that have stopped training; their outputs are not used.
        mode: how members run, `ensemble.VMAP` or `ensemble.LOOP`, which a checkpoint stores; empty
            for models that have one way only.
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
        loss_EB = self.task.loss(self.predict(batch), batch.labels_EB)
        task = (loss_EB * batch.weight_EB).sum(-1)
        return {"total": task, "task": task}

    def predict(self, batch: EnsembleBatch) -> Tensor:
        """Return outputs `[E, B, O]`."""
        raise NotImplementedError

    def details(self, batch: EnsembleBatch) -> dict[str, Tensor]:
        """Return the datasets of outputs.h5 by name, `[E, B, …]` each, including `prediction`."""
        return {"prediction": self.task.stored(self.predict(batch))}

    def parameter_group(self, name: str) -> ParameterGroup:
        """Return the optimiser settings of a parameter."""
        return ParameterGroup()

    def load_encoders(self, encoders: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Copy pretrained weights into the model's encoders, if it has any.

        Args:
            encoders: by modality, parameters of `dhmd.models.stacked.encoders.ModalityEncoder` by
                name, `[E, …]` each.
        """

    def member_buffers(self) -> dict[str, Tensor]:
        """Return the state of a model besides its parameters, by name, `[E, …]` each."""
        return {}

    def load_member_buffers(self, buffers: Mapping[str, Tensor]) -> None:
        """Restore the state that `member_buffers` returned."""

    def member_tensors(self) -> dict[str, Tensor]:
        """Return the content of a weights file: parameters and buffers by name, `[E, …]` each."""
        parameters = {self.stored_name(name): p.detach() for name, p in self.named_parameters()}
        return parameters | self.member_buffers()

    def stored_name(self, name: str) -> str:
        """Return a parameter's name in a weights file."""
        return name

    def load_member_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the tensors that `member_tensors` returned."""
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                parameter.copy_(tensors[self.stored_name(name)])
        buffers = self.member_buffers()
        self.load_member_buffers({name: tensors[name] for name in buffers})
