"""Dropout that draws from each member's own stream. Legend: E members, G groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dhmd.models.stacked.attend import DropoutMask
from dhmd.models.stacked.members import ALL, Members, threshold


class Dropout(nn.Module):
    """Zeroes entries of `[E, g, …]` in training and scales the rest, so that the mean stays.

    `rates` is one rate, or one a group. Sixteen random bits decide an entry: a rate is met to
    1/65536, and random numbers (half of a CPU step with a float an entry) cost a quarter.
    """

    thresholds_G: Tensor
    scales_G: Tensor

    def __init__(self, members: Members, rates: float | Sequence[float]) -> None:
        super().__init__()
        self.members = members
        self.rates_G = (float(rates),) if isinstance(rates, (int, float)) else tuple(rates)
        # On the device once: a copy from the host cannot be part of a CUDA graph.
        thresholds = [threshold(rate) for rate in self.rates_G]
        device = members.device
        held = torch.tensor(thresholds, dtype=torch.int16, device=device)
        self.register_buffer("thresholds_G", held, persistent=False)
        scales = torch.tensor([1 / (1 - rate) for rate in self.rates_G], device=device)
        self.register_buffer("scales_G", scales, persistent=False)

    def forward(self, x: Tensor, select: slice = ALL) -> Tensor:
        chosen = self._chosen(x.shape, select)
        if chosen is None:
            return x
        result: Tensor = _Drop.apply(x, *chosen)  # type: ignore[no-untyped-call]
        return result

    def rectified(self, x: Tensor, select: slice = ALL) -> Tensor:
        """Dropout of `relu(x)`."""
        chosen = self._chosen(x.shape, select)
        if chosen is None:
            return x.relu()
        result: Tensor = _RectifyDrop.apply(x, *chosen)  # type: ignore[no-untyped-call]
        return result

    def added(self, base: Tensor, x: Tensor, select: slice = ALL) -> Tensor:
        """`base` plus dropout of `x`."""
        chosen = self._chosen(x.shape, select)
        if chosen is None:
            return base + x
        result: Tensor = _AddDropped.apply(base, x, *chosen)  # type: ignore[no-untyped-call]
        return result

    def _chosen(
        self, shape: torch.Size, select: slice
    ) -> tuple[Tensor, int | Tensor, float | Tensor] | None:
        """Bits for `[E, g, …]`, what they must reach, and the scale of what stays."""
        rates = self._rates(select)
        if rates is None:
            return None
        bits = self.members.bits(*shape[1:])
        if len(set(rates)) == 1:
            return bits, threshold(rates[0]), 1 / (1 - rates[0])
        axes = (1, -1, *(1,) * (len(shape) - 2))
        return bits, self.thresholds_G[select].view(axes), self.scales_G[select].view(axes)

    def drawn(
        self, groups: Sequence[int], each: Sequence[int], select: slice = ALL
    ) -> DropoutMask | None:
        """The same for attention weights `[E, g, B, H, T, U]`, `groups` being (g, B); None: no
        dropout."""
        rates = self._rates(select)
        if rates is None:
            return None
        on_cpu = self.members.device.type == "cpu"
        active = tuple(rate > 0 or not on_cpu for rate in rates)
        bits = self.members.bits(sum(active), groups[1] * each[0], *each[1:])
        numbers = tuple(threshold(rate) for rate in rates)
        return DropoutMask(bits, active, self.thresholds_G[select], self.scales_G[select], numbers)

    def _rates(self, select: slice) -> tuple[float, ...] | None:
        rates = self.rates_G if len(self.rates_G) == 1 else self.rates_G[select]
        return rates if self.members.training and any(rates) else None


class _Drop(torch.autograd.Function):
    """Keeps the bits, not a mask: 2 bytes an entry, and no boolean is ever converted."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, bits: Tensor, limit: int | Tensor, scale: float | Tensor
    ) -> Tensor:
        ctx.bits, ctx.limit, ctx.scale = bits, limit, scale
        return _mask(x, bits, limit).mul_(x).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kept = _mask(grads[0], ctx.bits, ctx.limit)
        return kept.mul_(grads[0]).mul_(ctx.scale), None, None, None


class _RectifyDrop(torch.autograd.Function):
    """What is positive afterwards was positive and kept: the result alone gives the gradient."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, bits: Tensor, limit: int | Tensor, scale: float | Tensor
    ) -> Tensor:
        y = _mask(x, bits, limit).mul_(x).relu_().mul_(scale)
        ctx.save_for_backward(y)
        ctx.scale = scale
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (y,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(grads[0], y, 0).mul_(ctx.scale), None, None, None


class _AddDropped(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        base: Tensor,
        x: Tensor,
        bits: Tensor,
        limit: int | Tensor,
        scale: float | Tensor,
    ) -> Tensor:
        ctx.bits, ctx.limit, ctx.scale = bits, limit, scale
        return _mask(x, bits, limit).mul_(x).mul_(scale).add_(base)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        kept = _mask(grads[0], ctx.bits, ctx.limit)
        return grads[0], kept.mul_(grads[0]).mul_(ctx.scale), None, None, None


def _mask(like: Tensor, bits: Tensor, limit: int | Tensor) -> Tensor:
    """1 where entries stay, else 0: torch is slow to multiply by booleans."""
    return torch.ge(bits, limit, out=torch.empty(like.shape, dtype=like.dtype, device=like.device))
