"""Layers over stacks of members: linear maps, convolutions, norms, a GRU, pooling and dropout.

Legend: E members, G groups (modalities, or directed pairs of them), B utterances, T steps,
I inputs, O outputs, D width, H hidden width, K kernel width or codes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dhmd.models.members import Members, threshold
from dhmd.models.stacked.attend import DropoutMask
from dhmd.models.stacked.kernels import call, native, product
from dhmd.models.stacked.native_layer import EntryMask, NativeNorm, drop

ALL = slice(None)


class Linear(nn.Module):
    """A linear map `x W + b` per member and group, from `[E, g, …, I]` to `[E, g, …, O]`.

    With `groups=1`, all groups of the input have the same weights. `select` is the range of groups
    in the input, if it does not have all of them.
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
        bias_S1O: Tensor | None = None
        if self.bias_EGO is not None:
            bias_S1O = self.bias_EGO[:, select].reshape(members * groups, 1, outputs)
        y_SNO = product(x_SNI, weight_SIO, bias_S1O)
        return y_SNO.view(*x.shape[:-1], outputs)


class TemporalConvolution(nn.Module):
    """A convolution over steps, from `[E, 1, B, T, I]` to `[E, 1, B, T, O]`.

    Steps beyond either end are zeros. Padding must be zero too, so that its length has no effect.
    One product computes all taps, which are then shifted and summed: this needs fewer and larger
    products than gathered windows.
    """

    def __init__(self, members: Members, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs * kernel)
        self.kernel = kernel
        self.weight_EIX = nn.Parameter(members.uniform(inputs, kernel * outputs, bound=bound))
        self.bias_EO = nn.Parameter(members.uniform(outputs, bound=bound))

    def forward(self, x_EGBTI: Tensor) -> Tensor:
        members, groups, batch, steps, inputs = x_EGBTI.shape
        taps = product(x_EGBTI.reshape(members, -1, inputs), self.weight_EIX)
        taps_K = taps.view(members, groups, batch, steps, self.kernel, -1).unbind(-2)
        centre = self.kernel // 2
        y = taps_K[centre] + self.bias_EO[:, None, None, None, :]
        for number, tap in enumerate(taps_K):
            offset = number - centre  # output step t reads input step t + offset
            if offset == 0 or abs(offset) >= steps:
                continue
            # A padding of −n removes n steps: this shifts the tap and keeps its length.
            y = y + nn.functional.pad(tap, (0, 0, -offset, offset))
        return y


class LayerNorm(nn.Module):
    """Layer norm over the last axis of `[E, g, …, D]`, with a scale and a shift per group."""

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
        if native(x):
            y: Tensor = NativeNorm.apply(x, scale, shift)  # type: ignore[no-untyped-call]
            return y
        axes = (*scale.shape[:2], *(1,) * (x.dim() - 3), width)
        normal = nn.functional.layer_norm(x, (width,))
        return torch.addcmul(shift.reshape(axes), normal, scale.reshape(axes))


class GRU(nn.Module):
    """A bidirectional GRU; maps `[E, 1, B, T, I]` to `[E, 2, B, T, H]`, a group per direction.

    Padding does not change the state, so that the backward direction starts at the last real step.
    """

    def __init__(self, members: Members, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.input = Linear(members, 2, inputs, 3 * hidden)
        self.state = Linear(members, 2, hidden, 3 * hidden)

    def forward(self, x_EGBTI: Tensor, mask_EGBT: Tensor) -> Tensor:
        both = torch.cat([x_EGBTI, x_EGBTI.flip(3)], dim=1)
        real = torch.cat([mask_EGBT, mask_EGBT.flip(3)], dim=1).unsqueeze(-1)
        gates = self.input(both)
        state = x_EGBTI.new_zeros(*both.shape[:3], self.hidden)
        states = []
        for step in range(both.shape[3]):
            input_r, input_z, input_n = gates[:, :, :, step].chunk(3, dim=-1)
            state_r, state_z, state_n = self.state(state).chunk(3, dim=-1)
            reset, update = torch.sigmoid(input_r + state_r), torch.sigmoid(input_z + state_z)
            new = torch.tanh(input_n + reset * state_n)
            state = torch.where(real[:, :, :, step], new + update * (state - new), state)
            states.append(state)
        forward, backward = torch.stack(states, dim=3).chunk(2, dim=1)
        return torch.cat([forward, backward.flip(3)], dim=1)


# ---- pooling -------------------------------------------------------------------------------------


def masked_mean(x_EGBTD: Tensor, mask_EGBT: Tensor) -> Tensor:
    """Average over real steps, `[E, G, B, D]`; zeros where no step is real."""
    weight = mask_EGBT.to(x_EGBTD.dtype)
    weight = weight / weight.sum(-1, keepdim=True).clamp_min(1)
    return (weight.unsqueeze(-2) @ x_EGBTD).squeeze(-2)


def pool(steps: list[Tensor], masks: list[Tensor]) -> Tensor:
    """Average every modality over its real steps, `[E, M, B, D]`."""
    return torch.cat([masked_mean(x, mask) for x, mask in zip(steps, masks, strict=True)], dim=1)


def padding_bias(mask: Tensor) -> Tensor:
    """Return 0 on real steps and −1e9 on padding, to add before a maximum or a softmax.

    −inf would give NaN for a sequence without real steps.
    """
    return (~mask).to(torch.float32) * -1e9


def masked_max(x_EGBTK: Tensor, mask_EGBT: Tensor) -> Tensor:
    """Take the maximum over real steps, `[E, G, B, K]`; zeros where no step is real.

    If several steps have the maximum, the gradient reaches one of them.
    """
    if native(x_EGBTK):
        native_max: Tensor = _NativeMax.apply(x_EGBTK, mask_EGBT)  # type: ignore[no-untyped-call]
        return native_max
    # Adding a bias is faster than `masked_fill` with a large boolean tensor.
    biased_EGBTK = x_EGBTK + padding_bias(mask_EGBT).unsqueeze(-1)
    highest: Tensor
    if biased_EGBTK.is_cpu:  # torch's own gradient is faster there
        highest = biased_EGBTK.max(-2).values
    else:
        highest = _MaxOverSteps.apply(biased_EGBTK)  # type: ignore[no-untyped-call]
    return highest.masked_fill(~mask_EGBT.any(-1, keepdim=True), 0.0)


class _MaxOverSteps(torch.autograd.Function):
    """`x.max(-2)`, whose own gradient is a scatter.

    A deterministic scatter on a GPU copies from the host, which a CUDA graph cannot contain.
    """

    @staticmethod
    def forward(ctx: Any, x_EGBTK: Tensor) -> Tensor:
        highest, index = x_EGBTK.max(-2)
        ctx.save_for_backward(index)
        ctx.steps = x_EGBTK.shape[-2]
        return highest

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (index,) = ctx.saved_tensors
        steps_T1 = torch.arange(ctx.steps, device=index.device).unsqueeze(-1)
        return torch.where(index.unsqueeze(-2) == steps_T1, grads[0].unsqueeze(-2), 0.0)


class _NativeMax(torch.autograd.Function):
    """`masked_max` in C; saves the step of each maximum."""

    @staticmethod
    def forward(ctx: Any, x_EGBTK: Tensor, mask_EGBT: Tensor) -> Tensor:
        *rows, steps, codes = x_EGBTK.shape
        highest = x_EGBTK.new_empty(*rows, codes)
        index = torch.empty(highest.shape, dtype=torch.int32)
        ctx.save_for_backward(index)
        ctx.sizes = (math.prod(rows), steps, codes)
        x, mask = x_EGBTK.contiguous(), mask_EGBT.contiguous()
        call("masked_max", x, mask, highest, index, *ctx.sizes)
        return highest

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (index,) = ctx.saved_tensors
        *rows, codes = grads[0].shape
        dx = grads[0].new_empty(*rows, ctx.sizes[1], codes)
        call("masked_max_backward", grads[0].contiguous(), index, dx, *ctx.sizes)
        return dx, None


def zero_padding(x_EGBTD: Tensor, mask_EGBT: Tensor) -> Tensor:
    """Set padded steps to zero."""
    return x_EGBTD * mask_EGBT.unsqueeze(-1)


def by_group(module: nn.Module, *columns: list[Tensor]) -> list[Tensor]:
    """Apply a module of G groups to G inputs `[E, 1, …]`, in one call where their shapes agree.

    Inputs of different lengths run one at a time with the weights of their group, so that short
    sequences are not padded to the longest.
    """
    groups = len(columns[0])
    if all(len({tuple(x.shape) for x in column}) == 1 for column in columns):
        return list(module(*(torch.cat(column, dim=1) for column in columns)).split(1, dim=1))
    return [
        module(*(column[g] for column in columns), select=slice(g, g + 1)) for g in range(groups)
    ]


# ---- dropout -------------------------------------------------------------------------------------


class Dropout(nn.Module):
    """Dropout of `[E, g, …]` with masks from each member's own random stream.

    Kept entries are scaled to preserve the mean. Each entry uses 16 random bits, so that a rate is
    exact to 1/65536, at a quarter of the cost of one float per entry.

    Args:
        rates: one rate, or one per group.
    """

    thresholds_G: Tensor
    scales_G: Tensor

    def __init__(self, members: Members, rates: float | Sequence[float]) -> None:
        super().__init__()
        self.members = members
        self.rates_G = (float(rates),) if isinstance(rates, (int, float)) else tuple(rates)
        # Buffers on the device: a CUDA graph cannot contain a copy from the host.
        device = members.device
        thresholds = torch.tensor(
            [threshold(rate) for rate in self.rates_G], dtype=torch.int16, device=device
        )
        self.register_buffer("thresholds_G", thresholds, persistent=False)
        scales = torch.tensor([1 / (1 - rate) for rate in self.rates_G], device=device)
        self.register_buffer("scales_G", scales, persistent=False)

    def forward(self, x: Tensor, select: slice = ALL) -> Tensor:
        sample = self._sample(x.shape, select)
        if sample is None:
            return x
        result: Tensor = _Drop.apply(x, *sample)  # type: ignore[no-untyped-call]
        return result

    def rectified(self, x: Tensor, select: slice = ALL) -> Tensor:
        """Apply dropout to `relu(x)`."""
        sample = self._sample(x.shape, select)
        if sample is None:
            return x.relu()
        result: Tensor = _RectifyDrop.apply(x, *sample)  # type: ignore[no-untyped-call]
        return result

    def added(self, base: Tensor, x: Tensor, select: slice = ALL) -> Tensor:
        """Return `base` plus dropout of `x`."""
        sample = self._sample(x.shape, select)
        if sample is None:
            return base + x
        x = x.to(base.dtype)  # with autocast, residuals stay in float32
        result: Tensor = _AddDropped.apply(base, x, *sample)  # type: ignore[no-untyped-call]
        return result

    def attention_mask(
        self, groups: Sequence[int], shape: Sequence[int], select: slice = ALL
    ) -> DropoutMask | None:
        """Sample the dropout mask of attention weights `[E, g, B, H, T, U]`; None: no dropout.

        Args:
            groups: g and B.
            shape: H, T and U.
        """
        rates = self._active_rates(select)
        if rates is None:
            return None
        on_cpu = self.members.device.type == "cpu"
        active = tuple(rate > 0 or not on_cpu for rate in rates)
        bits = self.members.bits(sum(active), groups[1] * shape[0], *shape[1:])
        limits = tuple(threshold(rate) for rate in rates)
        return DropoutMask(bits, active, self.thresholds_G[select], self.scales_G[select], limits)

    def entry_mask(self, shape: Sequence[int]) -> EntryMask:
        """Sample the dropout mask of `[E, g, …]` at the one rate of this module."""
        rates = self._active_rates(ALL)
        if rates is None:
            return EntryMask()
        bits = self.members.bits(*shape[1:]).contiguous()
        return EntryMask(bits, threshold(rates[0]), 1 / (1 - rates[0]))

    def _sample(
        self, shape: torch.Size, select: slice
    ) -> tuple[Tensor, int | Tensor, float | Tensor] | None:
        """Draw random bits; return them, the least value that is kept, and the scale."""
        rates = self._active_rates(select)
        if rates is None:
            return None
        bits = self.members.bits(*shape[1:])
        if len(set(rates)) == 1:
            return bits, threshold(rates[0]), 1 / (1 - rates[0])
        axes = (1, -1, *(1,) * (len(shape) - 2))
        return bits, self.thresholds_G[select].view(axes), self.scales_G[select].view(axes)

    def _active_rates(self, select: slice) -> tuple[float, ...] | None:
        rates = self.rates_G if len(self.rates_G) == 1 else self.rates_G[select]
        return rates if self.training and any(rates) else None


class _Drop(torch.autograd.Function):
    """Dropout that saves the random bits instead of a mask, to avoid slow boolean conversions."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, bits: Tensor, limit: int | Tensor, scale: float | Tensor
    ) -> Tensor:
        ctx.mask = (bits, limit, scale)
        return _dropped(x, bits, limit, scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return _dropped(grads[0], *ctx.mask), None, None, None


class _RectifyDrop(torch.autograd.Function):
    """Dropout of `relu(x)`; the result is positive exactly where the gradient passes."""

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
    """Sum of `base` and dropout of `x`."""

    @staticmethod
    def forward(
        ctx: Any,
        base: Tensor,
        x: Tensor,
        bits: Tensor,
        limit: int | Tensor,
        scale: float | Tensor,
    ) -> Tensor:
        ctx.mask = (bits, limit, scale)
        return _dropped(x, bits, limit, scale).add_(base)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0], _dropped(grads[0], *ctx.mask), None, None, None


def _mask(like: Tensor, bits: Tensor, limit: int | Tensor) -> Tensor:
    """Return 1.0 where entries are kept, else 0.0; floats are faster than booleans here."""
    return torch.ge(bits, limit, out=torch.empty(like.shape, dtype=like.dtype, device=like.device))


def _dropped(x: Tensor, bits: Tensor, limit: int | Tensor, scale: float | Tensor) -> Tensor:
    """Return the scaled entries that are kept, and zeros."""
    if native(x) and isinstance(limit, int) and isinstance(scale, float):
        return drop(x.clone(memory_format=torch.contiguous_format), bits.contiguous(), limit, scale)
    return _mask(x, bits, limit).mul_(x).mul_(scale)
