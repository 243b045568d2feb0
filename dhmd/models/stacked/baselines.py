"""The field's baselines under the same protocol: late fusion, MulT (Tsai et al., 2019), a GRU.

DMD is a variant of DHMD without dictionaries, so it needs no model of its own.

Legend: E members, M modalities, B utterances, D width, O outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dhmd.models.batch import Batch
from dhmd.models.config import ModelConfig
from dhmd.models.stacked.cross_modal import CrossModalAttention
from dhmd.models.stacked.decoupling import pool
from dhmd.models.stacked.dropout import Dropout
from dhmd.models.stacked.encoders import ModalityEncoder
from dhmd.models.stacked.fusion import GatedFusion
from dhmd.models.stacked.linear import Linear
from dhmd.models.stacked.members import Members
from dhmd.models.stacked.pooling import masked_mean
from dhmd.models.stacked.recurrent import GRU
from dhmd.models.task import Task


def _encoders(members: Members, inputs: dict[str, int], model: ModelConfig) -> nn.ModuleList:
    return nn.ModuleList(
        ModalityEncoder(
            members,
            size,
            model.width,
            kernel=model.kernels[name],
            input_dropout=model.dropout.input[name],
        )
        for name, size in inputs.items()
    )


class _Baseline(nn.Module):
    task: Task

    def predict(self, batch: Batch) -> Tensor:
        """Final outputs `[E, B, O]`."""
        raise NotImplementedError

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """`total` and `task`, which are the same, `[E]`."""
        each_EB = self.task.loss(self.predict(batch), batch.labels_EB)
        task = (each_EB * batch.weight_EB).sum(-1)
        return {"total": task, "task": task}


class LateFusion(_Baseline):
    """A residual MLP on the pooled, rectified features of the (pretrained) encoders."""

    def __init__(
        self, members: Members, task: Task, inputs: dict[str, int], model: ModelConfig
    ) -> None:
        super().__init__()
        self.task = task
        self.encoders = _encoders(members, inputs, model)
        self.fusion = GatedFusion(
            members,
            len(inputs),
            [model.width],
            hidden=2 * model.width,
            outputs=task.outputs,
            dropout=model.dropout.output,
        )

    def predict(self, batch: Batch) -> Tensor:
        columns = zip(self.encoders, batch.features, batch.masks, strict=True)
        pooled = [masked_mean(enc(x, mask).relu(), mask) for enc, x, mask in columns]
        out: Tensor = self.fusion([torch.cat(pooled, dim=1)], batch.present_EMB)
        return out


class MulT(_Baseline):
    """Cross-modal transformers on the encoders' outputs, without decoupling or distillation.

    Pooled by masked means like all of this project, where the original takes the last step.
    """

    def __init__(
        self, members: Members, task: Task, inputs: dict[str, int], model: ModelConfig
    ) -> None:
        super().__init__()
        self.task = task
        self.encoders = _encoders(members, inputs, model)
        self.crossing = CrossModalAttention(members, tuple(inputs), model.width, model)
        total = len(inputs) * self.crossing.width
        self.narrow = Linear(members, 1, total, total)
        self.widen = Linear(members, 1, total, total)
        self.head = Linear(members, 1, total, task.outputs)
        self.dropout = Dropout(members, model.dropout.output)

    def predict(self, batch: Batch) -> Tensor:
        columns = zip(self.encoders, batch.features, batch.masks, strict=True)
        encoded = [enc(x, mask) for enc, x, mask in columns]
        pooled = pool(self.crossing(encoded, batch.masks), batch.masks)
        joint = pooled.transpose(1, 2).flatten(2).unsqueeze(1)
        hidden = self.dropout(self.narrow(joint).relu())
        out: Tensor = self.head(joint + self.dropout(self.widen(hidden)))
        return out[:, 0]


class BidirectionalGRU(_Baseline):
    """A bidirectional GRU on the first modality (the words), masked mean, head.

    What a model of several modalities must not do worse than.
    """

    def __init__(
        self, members: Members, task: Task, inputs: dict[str, int], model: ModelConfig
    ) -> None:
        super().__init__()
        self.task = task
        self.gru = GRU(members, next(iter(inputs.values())), model.width)
        self.input_dropout = Dropout(members, model.dropout.input[next(iter(inputs))])
        self.dropout = Dropout(members, model.dropout.output)
        self.head = Linear(members, 1, 2 * model.width, task.outputs)

    def predict(self, batch: Batch) -> Tensor:
        mask = batch.masks[0]
        states = self.gru(self.input_dropout(batch.features[0]), mask)
        pooled = masked_mean(states, mask.expand(-1, 2, -1, -1))
        out: Tensor = self.head(self.dropout(pooled.transpose(1, 2).flatten(2).unsqueeze(1)))
        return out[:, 0]
