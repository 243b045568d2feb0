"""LMF: low-rank multimodal fusion (Liu et al., ACL 2018, arXiv 1806.00064).

The weight of TFN's tensor fusion is a sum of `RANK` outer products of one factor per modality, so
that the product tensor is never built. The weighted sum over ranks follows the authors' code.
Filled in: the widths, as in `tfn.py`.

Legend: B utterances, H width of a modality, R rank, O outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dhmd.models.baselines._sub_networks import tfn_networks, tfn_widths
from dhmd.models.batch import Batch
from dhmd.models.config import ModelConfig
from dhmd.models.task import Task

RANK = 3


class LMF(nn.Module):
    """One sub-network and one low-rank factor per modality."""

    title = "LMF"

    def __init__(self, inputs: dict[str, int], task: Task, config: ModelConfig) -> None:
        super().__init__()
        self.networks = tfn_networks(inputs, config)
        self.factors = nn.ParameterDict(
            {
                name: nn.init.xavier_normal_(torch.empty(RANK, 1 + width, task.outputs))
                for name, width in tfn_widths(inputs, config).items()
            }
        )
        self.rank_weights_R = nn.Parameter(nn.init.xavier_normal_(torch.empty(1, RANK))[0])
        self.bias_O = nn.Parameter(torch.zeros(task.outputs))

    def forward(self, batch: Batch) -> Tensor:
        """Return outputs `[B, O]`."""
        vectors = {
            name: network(batch.features[name], batch.masks[name]) * batch.present[name][:, None]
            for name, network in self.networks.items()
        }
        fused_RBO = low_rank_fusion(vectors, dict(self.factors.items()))
        return torch.einsum("r,rbo->bo", self.rank_weights_R, fused_RBO) + self.bias_O


def low_rank_fusion(vectors: dict[str, Tensor], factors: dict[str, Tensor]) -> Tensor:
    """Return the product over modalities of `[1, z_m] W_m`, for each rank: `[R, B, O]`."""
    product: Tensor | float = 1.0
    for name, z_BH in vectors.items():
        extended_BH = torch.cat([torch.ones_like(z_BH[:, :1]), z_BH], dim=1)
        product = product * (extended_BH @ factors[name])
    assert isinstance(product, Tensor)
    return product
