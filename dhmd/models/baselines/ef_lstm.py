"""EF-LSTM: early fusion, an LSTM over the concatenated features (after MMSA's implementation).

Filled in: hidden width and layers are `model.width` and `model.layers`. MMSA normalises each step
over the batch; here the features are normalised over the corpus. Needs word-aligned sequences.

Legend: B utterances, T steps, O outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dhmd.models.baselines._sub_networks import LastState, require_word_aligned
from dhmd.models.batch import Batch
from dhmd.models.config import ModelConfig
from dhmd.models.task import Task


class EFLSTM(nn.Module):
    """An LSTM and an output network of two layers."""

    title = "EF-LSTM"

    def __init__(self, inputs: dict[str, int], task: Task, config: ModelConfig) -> None:
        super().__init__()
        self.names = tuple(inputs)
        self.lstm = LastState(sum(inputs.values()), config.width, layers=config.layers)
        self.output = nn.Sequential(
            nn.Dropout(config.dropout.output),
            *(nn.Linear(config.width, config.width), nn.ReLU()),
            nn.Dropout(config.dropout.output),
            nn.Linear(config.width, task.outputs),
        )

    def forward(self, batch: Batch) -> Tensor:
        """Return outputs `[B, O]`."""
        require_word_aligned("ef_lstm", batch)
        features = [batch.features[name] for name in self.names]
        real_BT = torch.stack([batch.masks[name] for name in self.names], dim=2).any(2)
        output_BO: Tensor = self.output(self.lstm(torch.cat(features, dim=2), real_BT))
        return output_BO
