"""TFN: the tensor fusion network (Zadeh et al., EMNLP 2017, arXiv 1707.07250).

The fusion is the outer product of `[1, z_m]` over all modalities: all unimodal, bimodal and
trimodal products. Filled in: the widths, which follow MMSA's configuration in proportion to
`model.width`; outputs of a regression are squashed into the label's range as in the paper.

Legend: B utterances, H width of a modality, O outputs.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor, nn

from dhmd.models.baselines._sub_networks import SubNetwork, TextNetwork
from dhmd.models.batch import Batch
from dhmd.models.config import ModelConfig
from dhmd.models.task import Task


class TFN(nn.Module):
    """One sub-network per modality, tensor fusion, and a network of three layers."""

    title = "TFN"

    def __init__(self, inputs: dict[str, int], task: Task, model: ModelConfig) -> None:
        super().__init__()
        self.task, width, dropout = task, model.width, model.dropout.output
        small = max(width // 2, 4)  # audio and vision
        self.networks = nn.ModuleDict(
            {
                name: TextNetwork(size, 2 * width, width, dropout)
                if name == "text"
                else SubNetwork(size, small, dropout)
                for name, size in inputs.items()
            }
        )
        product = 1
        for name in inputs:
            product *= 1 + (width if name == "text" else small)
        self.fusion = nn.Sequential(
            nn.Dropout(dropout),
            *(nn.Linear(product, 2 * width), nn.ReLU()),
            *(nn.Linear(2 * width, 2 * width), nn.ReLU()),
            nn.Linear(2 * width, task.outputs),
        )

    def forward(self, batch: Batch) -> Tensor:
        """Return outputs `[B, O]`."""
        vectors = [
            network(batch.features[name], batch.masks[name]) * batch.present[name][:, None]
            for name, network in self.networks.items()
        ]
        output_BO: Tensor = self.fusion(tensor_fusion(vectors))
        if self.task.classes is not None:
            return output_BO
        return self.task.low + (self.task.high - self.task.low) * output_BO.sigmoid()


def tensor_fusion(vectors: list[Tensor]) -> Tensor:
    """Return the flattened outer product of `[1, z_m]`, `[B, Π (H_m + 1)]`."""
    extended = [torch.cat([torch.ones_like(z[:, :1]), z], dim=1) for z in vectors]
    return reduce(lambda a, b: (a[:, :, None] * b[:, None, :]).flatten(1), extended)
