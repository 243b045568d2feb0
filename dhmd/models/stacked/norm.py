"""Layer normalisation. Legend: E members, G groups, D features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dhmd.models.stacked.members import ALL, Members


class LayerNorm(nn.Module):
    """Normalises the last axis of `[E, g, …, D]`, then scales and shifts by group."""

    def __init__(self, members: Members, groups: int, width: int) -> None:
        super().__init__()
        shape = (members.count, groups, width)
        self.scale_EGD = nn.Parameter(torch.ones(shape, device=members.device))
        self.shift_EGD = nn.Parameter(torch.zeros(shape, device=members.device))

    def forward(self, x: Tensor, select: slice = ALL) -> Tensor:
        if self.scale_EGD.shape[1] == 1:
            select = ALL
        width = x.shape[-1]
        scale, shift = self.scale_EGD[:, select], self.shift_EGD[:, select]
        axes = (*scale.shape[:2], *(1,) * (x.dim() - 3), width)
        normal = nn.functional.layer_norm(x, (width,))
        return torch.addcmul(shift.reshape(axes), normal, scale.reshape(axes))
