"""MulT: cross-modal transformers without decoupling or distillation (Tsai et al., ACL 2019).

arXiv 1906.00295. Sequences are summarised by masked means, where the original takes the last step.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dhmd.models.batch import EnsembleBatch
from dhmd.models.config import ModelConfig
from dhmd.models.learner import Learner
from dhmd.models.members import Members
from dhmd.models.stacked.encoders import CrossModalAttention, copy_encoders, modality_encoders
from dhmd.models.stacked.layers import Dropout, Linear, pool
from dhmd.models.task import Task


class MulT(Learner):
    """Cross-modal transformers on the encoders' outputs, and a residual MLP."""

    title = "MulT"
    min_modalities = 2

    def __init__(
        self, members: Members, task: Task, inputs: dict[str, int], config: ModelConfig
    ) -> None:
        super().__init__()
        self.task, self.modalities = task, tuple(inputs)
        self.encoders = modality_encoders(members, inputs, config)
        self.crossing = CrossModalAttention(members, self.modalities, config.width, config)
        total = len(inputs) * self.crossing.width
        self.narrow = Linear(members, 1, total, total)
        self.widen = Linear(members, 1, total, total)
        self.head = Linear(members, 1, total, task.outputs)
        self.dropout = Dropout(members, config.dropout.output)

    def predict(self, batch: EnsembleBatch) -> Tensor:
        columns = zip(self.encoders, batch.features, batch.masks, strict=True)
        encoded = [encoder(x, mask) for encoder, x, mask in columns]
        pooled = pool(self.crossing(encoded, batch.masks), batch.masks)
        joint = pooled.transpose(1, 2).flatten(2).unsqueeze(1)
        hidden = self.dropout(self.narrow(joint).relu())
        out: Tensor = self.head(joint + self.dropout(self.widen(hidden)))
        return out[:, 0]

    def load_encoders(self, encoders: Mapping[str, Mapping[str, Tensor]]) -> None:
        copy_encoders(self.encoders, self.modalities, encoders)
