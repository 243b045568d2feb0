"""Late fusion: a residual MLP on the pooled outputs of DHMD's encoders."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dhmd.models.batch import EnsembleBatch
from dhmd.models.config import ModelConfig
from dhmd.models.learner import Learner
from dhmd.models.members import Members
from dhmd.models.stacked.encoders import copy_encoders, modality_encoders
from dhmd.models.stacked.fusion import GatedFusion
from dhmd.models.stacked.layers import masked_mean
from dhmd.models.task import Task


class LateFusion(Learner):
    """Encoders, rectified masked means, gates and a residual MLP."""

    def __init__(
        self, members: Members, task: Task, inputs: dict[str, int], config: ModelConfig
    ) -> None:
        super().__init__()
        self.task, self.modalities = task, tuple(inputs)
        self.encoders = modality_encoders(members, inputs, config)
        self.fusion = GatedFusion(
            members,
            len(inputs),
            [config.width],
            hidden=2 * config.width,
            outputs=task.outputs,
            dropout=config.dropout.output,
        )

    def predict(self, batch: EnsembleBatch) -> Tensor:
        columns = zip(self.encoders, batch.features, batch.masks, strict=True)
        pooled = [masked_mean(encoder(x, mask).relu(), mask) for encoder, x, mask in columns]
        out: Tensor = self.fusion([torch.cat(pooled, dim=1)], batch.present_EMB)
        return out

    def load_encoders(self, encoders: Mapping[str, Mapping[str, Tensor]]) -> None:
        copy_encoders(self.encoders, self.modalities, encoders)
