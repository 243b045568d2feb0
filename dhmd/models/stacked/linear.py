"""Linear maps and temporal convolutions as stacks of products.

Legend: R replicas, G groups, B utterances, T steps, I inputs, O outputs, K kernel width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from dhmd.models.stacked.replicas import ALL, Replicas


class Linear(nn.Module):
    """`x W + b` for every replica and group: `[R, g, …, I]` → `[R, g, …, O]`.

    With `groups=1` the same weights serve every group of the input. `select` picks a run of the
    groups' weights, for inputs whose groups come one by one.
    """

    def __init__(
        self, replicas: Replicas, groups: int, inputs: int, outputs: int, *, bias: bool = True
    ) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight_RGIO = nn.Parameter(replicas.uniform(groups, inputs, outputs, bound=bound))
        self.bias_RGO: nn.Parameter | None = None
        if bias:
            self.bias_RGO = nn.Parameter(replicas.uniform(groups, outputs, bound=bound))

    def forward(self, x: Tensor, select: slice = ALL) -> Tensor:
        if self.weight_RGIO.shape[1] == 1:
            select = ALL
        weight = self.weight_RGIO[:, select]
        replicas, groups, inputs, outputs = weight.shape
        weight_SIO = weight.reshape(replicas * groups, inputs, outputs)
        x_SNI = x.reshape(replicas * groups, -1, inputs)
        if self.bias_RGO is None:
            y_SNO = torch.bmm(x_SNI, weight_SIO)
        else:
            bias_S1O = self.bias_RGO[:, select].reshape(replicas * groups, 1, outputs)
            y_SNO = torch.baddbmm(bias_S1O, x_SNI, weight_SIO)
        return y_SNO.view(*x.shape[:-1], outputs)


class TemporalConvolution(nn.Module):
    """A convolution over steps that keeps their number: `[R, 1, B, T, I]` → `[R, 1, B, T, O]`.

    Steps beyond either end count as zeros, so padding must hold zeros: then padding an utterance
    further changes nothing. One product gives all taps, which are then shifted and summed: fewer
    and larger products than gathering windows.
    """

    def __init__(self, replicas: Replicas, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs * kernel)
        self.kernel = kernel
        self.weight_RIX = nn.Parameter(replicas.uniform(inputs, kernel * outputs, bound=bound))
        self.bias_RO = nn.Parameter(replicas.uniform(outputs, bound=bound))

    def forward(self, x_RGBTI: Tensor) -> Tensor:
        replicas, groups, batch, steps, inputs = x_RGBTI.shape
        taps = torch.bmm(x_RGBTI.reshape(replicas, -1, inputs), self.weight_RIX)
        taps_K = taps.view(replicas, groups, batch, steps, self.kernel, -1).unbind(-2)
        centre = self.kernel // 2
        y = taps_K[centre] + self.bias_RO[:, None, None, None, :]
        for number, tap in enumerate(taps_K):
            offset = number - centre  # output step t reads input step t + offset
            if offset == 0 or abs(offset) >= steps:
                continue
            # A pad of −n cuts n steps off: the tap moves by `offset` and keeps its length.
            y = y + nn.functional.pad(tap, (0, 0, -offset, offset))
        return y
