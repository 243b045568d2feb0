"""TFN: the tensor fusion network (Zadeh et al., EMNLP 2017, arXiv 1707.07250).

The fusion is the outer product of `[1, z_m]` over all modalities, which has all unimodal, bimodal
and trimodal products. As in the paper, regression outputs are squashed into the range of the
labels. Filled in: the widths, in proportion to `model.width`, after MMSA's configuration.

Legend: B utterances, H width of a modality, O outputs.
"""

from __future__ import annotations

import math
from functools import reduce

import torch
from torch import Tensor, nn

from dhmd.models.baselines._sub_networks import tfn_networks, tfn_widths
from dhmd.models.batch import Batch
from dhmd.models.config import ModelConfig
from dhmd.models.task import Task


class TFN(nn.Module):
    """One sub-network per modality, tensor fusion, and a network of three layers."""

    title = "TFN"

    def __init__(self, inputs: dict[str, int], task: Task, config: ModelConfig) -> None:
        super().__init__()
        self.task, width = task, config.width
        self.networks = tfn_networks(inputs, config)
        product = math.prod(1 + size for size in tfn_widths(inputs, config).values())
        self.fusion = nn.Sequential(
            nn.Dropout(config.dropout.output),
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
