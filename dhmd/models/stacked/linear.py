"""Linear maps and temporal convolutions as stacks of products.

Legend: E members, G groups, B utterances, T steps, I inputs, O outputs, K kernel width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dhmd.models.stacked.members import ALL, Members


class Linear(nn.Module):
    """`x W + b` for every member and group: `[E, g, …, I]` → `[E, g, …, O]`.

    With `groups=1` the same weights serve every group of the input. `select` picks a run of the
    groups' weights, for inputs whose groups come one by one.
    """

    def __init__(
        self, members: Members, groups: int, inputs: int, outputs: int, *, bias: bool = True
    ) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight_EGIO = nn.Parameter(members.uniform(groups, inputs, outputs, bound=bound))
        self.bias_EGO: nn.Parameter | None = None
        if bias:
            self.bias_EGO = nn.Parameter(members.uniform(groups, outputs, bound=bound))

    def forward(self, x: Tensor, select: slice = ALL) -> Tensor:
        if self.weight_EGIO.shape[1] == 1:
            select = ALL
        weight = self.weight_EGIO[:, select]
        members, groups, inputs, outputs = weight.shape
        weight_SIO = weight.reshape(members * groups, inputs, outputs)
        x_SNI = x.reshape(members * groups, -1, inputs)
        if self.bias_EGO is None:
            y_SNO = torch.bmm(x_SNI, weight_SIO)
        else:
            bias_S1O = self.bias_EGO[:, select].reshape(members * groups, 1, outputs)
            y_SNO = torch.baddbmm(bias_S1O, x_SNI, weight_SIO)
        return y_SNO.view(*x.shape[:-1], outputs)


class TemporalConvolution(nn.Module):
    """A convolution over steps that keeps their number: `[E, 1, B, T, I]` → `[E, 1, B, T, O]`.

    Steps beyond either end count as zeros, so padding must hold zeros: then padding an utterance
    further changes nothing. One product gives all taps, which are then shifted and summed: fewer
    and larger products than gathering windows.
    """

    def __init__(self, members: Members, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs * kernel)
        self.kernel = kernel
        self.weight_EIX = nn.Parameter(members.uniform(inputs, kernel * outputs, bound=bound))
        self.bias_EO = nn.Parameter(members.uniform(outputs, bound=bound))

    def forward(self, x_EGBTI: Tensor) -> Tensor:
        members, groups, batch, steps, inputs = x_EGBTI.shape
        taps = torch.bmm(x_EGBTI.reshape(members, -1, inputs), self.weight_EIX)
        taps_K = taps.view(members, groups, batch, steps, self.kernel, -1).unbind(-2)
        centre = self.kernel // 2
        y = taps_K[centre] + self.bias_EO[:, None, None, None, :]
        for number, tap in enumerate(taps_K):
            offset = number - centre  # output step t reads input step t + offset
            if offset == 0 or abs(offset) >= steps:
                continue
            # A pad of −n cuts n steps off: the tap moves by `offset` and keeps its length.
            y = y + nn.functional.pad(tap, (0, 0, -offset, offset))
        return y
