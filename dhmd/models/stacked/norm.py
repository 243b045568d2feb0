"""Layer normalisation. Legend: R replicas, G groups, D features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dhmd.models.stacked.replicas import ALL, Replicas


class LayerNorm(nn.Module):
    """Normalises the last axis of `[R, g, …, D]`, then scales and shifts by group."""

    def __init__(self, replicas: Replicas, groups: int, width: int) -> None:
        super().__init__()
        shape = (replicas.count, groups, width)
        self.scale_RGD = nn.Parameter(torch.ones(shape, device=replicas.device))
        self.shift_RGD = nn.Parameter(torch.zeros(shape, device=replicas.device))

    def forward(self, x: Tensor, select: slice = ALL) -> Tensor:
        if self.scale_RGD.shape[1] == 1:
            select = ALL
        width = x.shape[-1]
        scale, shift = self.scale_RGD[:, select], self.shift_RGD[:, select]
        axes = (*scale.shape[:2], *(1,) * (x.dim() - 3), width)
        normal = nn.functional.layer_norm(x, (width,))
        return torch.addcmul(shift.reshape(axes), normal, scale.reshape(axes))
