"""Scaled dot-product attention with dropout, as one function with its own gradient.

With head widths of 5 to 10, memory traffic and boolean conversions take most of the time on a CPU.
Therefore steps are the last axis of every product; all operations run on one block of sequences
while it is in the cache; the key mask is one more row of the product; only the softmax and the
random bits are saved for the gradient. docs/performance.md lists the effect of each.

Legend: E members, G groups, B utterances, S = E·G·B sequences, H heads, X = S·H, T query steps,
U key steps, D width, E = D / H, A groups with dropout.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

_BLOCK = 1 << 17  # entries of scores that stay in a core's cache


@dataclass(frozen=True)
class DropoutMask:
    """Dropout of attention weights: an entry is kept where its bits reach its group's limit.

    Attributes:
        bits_EAXTU: random int16, uniform over all values; X is B·H here.
        active_G: whether a group has bits; on a GPU all groups have.
        limits_G, scales_G: per group, int16 and float: the limit, and the scale of kept entries.
        limit_values_G: the limits as Python numbers.
    """

    bits_EAXTU: Tensor
    active_G: tuple[bool, ...]
    limits_G: Tensor
    scales_G: Tensor
    limit_values_G: tuple[int, ...]

    def scaled(self, v_XEU: Tensor) -> Tensor:
        """Scale values in place, which is the same as scaling the kept weights."""
        members, groups = self.bits_EAXTU.shape[0], len(self.active_G)
        v_XEU.view(members, groups, -1).mul_(self.scales_G.unsqueeze(-1))
        return v_XEU


@dataclass(frozen=True)
class _Block:
    """A range of the X axis, its random bits (None: no dropout) and the limit they must reach."""

    part: slice
    bits: Tensor | None = None
    limit: int | Tensor = 0

    def mask(self, like: Tensor) -> Tensor:
        """Return 1 where entries are kept, else 0, in the type of `like`."""
        assert self.bits is not None
        return torch.ge(self.bits, self.limit, out=torch.empty_like(like))


def _blocks(
    count: int, entries: int, dropout: DropoutMask | None, device: torch.device
) -> Iterator[_Block]:
    """Yield ranges within a group whose scores fit the cache; on a GPU one range of everything."""
    each = count if dropout is None else dropout.bits_EAXTU.shape[2]
    step = count
    if device.type == "cpu":  # blocks of about equal size
        step = -(-each // max(1, round(each * entries / _BLOCK)))
    if dropout is None:
        for start in range(0, count, step):
            yield _Block(slice(start, start + step))
        return
    bits = dropout.bits_EAXTU
    if device.type != "cpu":
        limits = dropout.limits_G.view(1, -1, 1).expand(bits.shape[:3]).reshape(-1, 1, 1)
        yield _Block(slice(count), bits.flatten(0, 2), limits)
        return
    start = 0
    for member in range(len(bits)):
        active = 0
        for has_bits, limit in zip(dropout.active_G, dropout.limit_values_G, strict=True):
            for low in range(0, each, step):
                high = min(low + step, each)
                part = slice(start + low, start + high)
                if has_bits:
                    yield _Block(part, bits[member, active, low:high], limit)
                else:
                    yield _Block(part)
            active += has_bits
            start += each


def attend(
    query_STD: Tensor, pairs_SUD: Tensor, bias_SU: Tensor, heads: int, dropout: DropoutMask | None
) -> Tensor:
    """Compute `softmax(q kᵀ / √E + bias) v` for each head, with dropout of the softmax.

    Args:
        pairs_SUD: keys and values, `[S, U, 2 D]`.
        bias_SU: added to the scores of each key; no gradient reaches it.
        dropout: the mask of the softmax, None for no dropout.

    Returns:
        The mixed values, `[S, T, D]`.
    """
    result: Tensor = _Attend.apply(query_STD, pairs_SUD, bias_SU, heads, dropout)  # type: ignore[no-untyped-call]
    return result


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query_STD: Tensor,
        pairs_SUD: Tensor,
        bias_SU: Tensor,
        heads: int,
        dropout: DropoutMask | None,
    ) -> Tensor:
        sequences, steps, width = query_STD.shape
        keys, head = pairs_SUD.shape[1], width // heads
        q = query_STD.new_ones(sequences, heads, head + 1, steps)
        torch.mul(_by_head(query_STD, heads), 1 / math.sqrt(head), out=q[:, :, :head])
        k = query_STD.new_empty(sequences, heads, head + 1, keys)
        k[:, :, :head] = _by_head(pairs_SUD[..., :width], heads)
        k[:, :, head] = bias_SU.unsqueeze(1)
        v = _by_head(pairs_SUD[..., width:], heads).contiguous().flatten(0, 1)
        if dropout is not None:
            v = dropout.scaled(v)
        q, k = q.flatten(0, 1), k.flatten(0, 1)
        weights = query_STD.new_empty(len(q), steps, keys)
        mixed = query_STD.new_empty(len(q), head, steps)
        for block in _blocks(len(q), steps * keys, dropout, q.device):
            part = block.part
            scores = torch.bmm(q[part].transpose(1, 2), k[part])
            kept = torch.softmax(scores, -1, out=weights[part])
            if block.bits is not None:
                kept = block.mask(scores).mul_(kept)
            torch.bmm(v[part], kept.transpose(1, 2), out=mixed[part])
        ctx.save_for_backward(q, k, v, weights, mixed)
        ctx.heads, ctx.dropout = heads, dropout
        return _joined(mixed, heads)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, weights, mixed = ctx.saved_tensors
        heads, dropout = ctx.heads, ctx.dropout
        count, head, steps = mixed.shape
        keys = v.shape[2]
        out = _by_head(grads[0], heads).contiguous().flatten(0, 1)
        # Equals Σ over keys of each weight times its gradient, with fewer products.
        inner = (out * mixed).sum(1).unsqueeze(-1)
        dq, dk, dv = torch.empty_like(mixed), torch.empty_like(v), torch.empty_like(v)
        for block in _blocks(count, steps * keys, dropout, q.device):
            part, kept = block.part, weights[block.part]
            dscores = torch.bmm(out[part].transpose(1, 2), v[part])
            if block.bits is not None:
                mask = block.mask(dscores)
                dscores *= mask
                kept = mask.mul_(kept)
            torch.bmm(out[part], kept, out=dv[part])
            dscores.sub_(inner[part]).mul_(weights[part])
            torch.bmm(k[part, :head], dscores.transpose(1, 2), out=dq[part])
            torch.bmm(q[part, :head], dscores, out=dk[part])
        dq *= 1 / math.sqrt(head)
        if dropout is not None:
            dv = dropout.scaled(dv)
        pairs = out.new_empty(count // heads, keys, 2, heads, head)
        pairs[:, :, 0] = dk.view(-1, heads, head, keys).permute(0, 3, 1, 2)
        pairs[:, :, 1] = dv.view(-1, heads, head, keys).permute(0, 3, 1, 2)
        return _joined(dq, heads), pairs.flatten(2), None, None, None


def _by_head(x_STD: Tensor, heads: int) -> Tensor:
    """Reshape `[S, T, D]` to `[S, H, E, T]`."""
    sequences, steps, width = x_STD.shape
    return x_STD.reshape(sequences, steps, heads, width // heads).permute(0, 2, 3, 1)


def _joined(x_XET: Tensor, heads: int) -> Tensor:
    """Reshape `[X, E, T]` to `[S, T, D]`."""
    count, head, steps = x_XET.shape
    return x_XET.view(count // heads, heads, head, steps).permute(0, 3, 1, 2).flatten(2)
