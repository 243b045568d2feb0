"""Dropout that draws from each replica's own stream. Legend: R replicas, G groups."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dhmd.nn.replicas import ALL, Replicas


class Dropout(nn.Module):
    """Zeroes entries of `[R, g, …]` in training and scales the rest, so that the mean stays.

    `rates` is one rate, or one a group. Sixteen random bits decide an entry: a rate is met to
    1/65536, and random numbers (half of a CPU step with a float an entry) cost a quarter.
    """

    held_G: Tensor

    def __init__(self, replicas: Replicas, rates: float | Sequence[float]) -> None:
        super().__init__()
        self.replicas = replicas
        self.rates_G = (float(rates),) if isinstance(rates, (int, float)) else tuple(rates)
        # On the device once: a copy from the host cannot be part of a CUDA graph.
        held = torch.tensor(self.rates_G, device=replicas.device)
        self.register_buffer("held_G", held, persistent=False)

    def forward(self, x: Tensor, select: slice = ALL) -> Tensor:
        rates = self.rates_G if len(self.rates_G) == 1 else self.rates_G[select]
        if not self.replicas.training or not any(rates):
            return x
        if len(set(rates)) == 1:
            scale = self.replicas.keep(*x.shape[1:], rate=rates[0]).to(x.dtype)
            return x * scale.mul_(1 / (1 - rates[0]))
        rate = self.held_G[select].view(1, -1, *(1,) * (x.dim() - 2))
        return x * (self.replicas.keep(*x.shape[1:], rate=rate) / (1 - rate))
