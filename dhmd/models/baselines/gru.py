"""A bidirectional GRU on the first modality: a unimodal baseline."""

from __future__ import annotations

from torch import Tensor

from dhmd.models.batch import EnsembleBatch
from dhmd.models.config import ModelConfig
from dhmd.models.learner import Learner
from dhmd.models.members import Members
from dhmd.models.stacked import layers
from dhmd.models.task import Task


class GRU(Learner):
    """A bidirectional GRU, the masked mean of its states, and a linear head."""

    title = "GRU"

    def __init__(
        self, members: Members, task: Task, inputs: dict[str, int], config: ModelConfig
    ) -> None:
        super().__init__()
        self.task = task
        modality, size = next(iter(inputs.items()))
        self.gru = layers.GRU(members, size, config.width)
        self.input_dropout = layers.Dropout(members, config.dropout.input[modality])
        self.dropout = layers.Dropout(members, config.dropout.output)
        self.head = layers.Linear(members, 1, 2 * config.width, task.outputs)

    def predict(self, batch: EnsembleBatch) -> Tensor:
        mask = batch.masks[0]
        states = self.gru(self.input_dropout(batch.features[0]), mask)
        pooled = layers.masked_mean(states, mask.expand(-1, 2, -1, -1))
        out: Tensor = self.head(self.dropout(pooled.transpose(1, 2).flatten(2).unsqueeze(1)))
        return out[:, 0]
