"""A transformer layer in C, as one function with its own gradient.

It computes what `dhmd.models.stacked.attention.TransformerLayer` does, with the same dropout masks.
One function has less overhead than a graph of fifty operations, and makes fewer passes over memory.

Legend: E members, G groups, M = E·G matrices, B utterances, S = M·B sequences, N = B·T rows,
H heads, T query steps, U key steps, D width, I inputs, O outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dhmd.models.stacked.attend import DropoutMask
from dhmd.models.stacked.kernels import call, linear_backward, multiply


class EntryMask(NamedTuple):
    """Dropout at one rate: an entry is kept where its bits reach the limit, and scaled.

    Without bits, all entries are kept.
    """

    bits: Tensor | None = None
    limit: int = 0
    scale: float = 1.0


@dataclass(frozen=True)
class LayerDropout:
    """The dropout masks of a layer: of attention weights, and of the three sublayers' outputs."""

    weights: DropoutMask | None
    attended: EntryMask
    hidden: EntryMask
    out: EntryMask


class NativeLayer(torch.autograd.Function):
    """Pre-norm attention and feed-forward blocks with residuals.

    Arguments: queries `[E, G, B, T, D]`, keys `[E, G, B, U, D]` (None: the queries), what is added
    to the scores of each key, the number of heads, dropout, and pairs of parameters: scale and
    shift of the first norm; weight and bias of query, key and value, and output; scale and shift of
    the second norm; weight and bias of the feed-forward block.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x_EGBTD: Tensor,
        keys_EGBUD: Tensor | None,
        bias_SU: Tensor,
        heads: int,
        dropout: LayerDropout,
        *parameters: Tensor,
    ) -> Tensor:
        norm_in, query, key_value, out, norm_middle, up, down = _pairs(parameters)
        x = _rows(x_EGBTD, parameters[0])
        keys = None if keys_EGBUD is None else _rows(keys_EGBUD, parameters[0])
        normal = _norm(x, *norm_in)
        attended = normal if keys is None else _norm(keys, *norm_in)
        steps, width = x_EGBTD.shape[-2:]
        q_STD = multiply(normal, *query).view(-1, steps, width)
        pairs_SUD = multiply(attended, *key_value).view(*bias_SU.shape, -1)
        mixed_STD = torch.empty_like(q_STD)
        stats = x.new_empty(len(q_STD), heads, steps, 2)
        bias_SU = bias_SU.contiguous()
        _attend("forward", (q_STD, pairs_SUD, bias_SU), (mixed_STD, stats), heads, dropout.weights)
        middle = drop(multiply(mixed_STD.view(x.shape), *out), *dropout.attended, x)
        normal_middle = _norm(middle, *norm_middle)
        hidden = multiply(normal_middle, *up)
        call("rectify", hidden, *dropout.hidden, hidden.numel())
        ctx.save_for_backward(
            *(x, keys, normal, attended, q_STD, pairs_SUD, bias_SU, mixed_STD, stats),
            *(middle, normal_middle, hidden, *parameters),
        )
        ctx.heads, ctx.dropout = heads, dropout
        return drop(multiply(hidden, *down), *dropout.out, middle).view(x_EGBTD.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (dy_EGBTD,) = grads
        saved = ctx.saved_tensors
        x, keys, normal, attended, q_STD, pairs_SUD, bias_SU, mixed_STD, stats = saved[:9]
        middle, normal_middle, hidden, *parameters = saved[9:]
        norm_in, query, key_value, out, norm_middle, up, down = _pairs(parameters)
        dropout: LayerDropout = ctx.dropout
        dx = _rows(dy_EGBTD, parameters[0]).clone()
        dhidden, *of_down = linear_backward(drop(dx.clone(), *dropout.out), hidden, down[0])
        call("rectify_backward", hidden, dhidden, dropout.hidden.scale, hidden.numel())
        dnormal, *of_up = linear_backward(dhidden, normal_middle, up[0])
        of_norm_middle = [torch.zeros_like(p) for p in norm_middle]
        _norm_backward(dnormal, middle, norm_middle[0], dx, *of_norm_middle)
        dmixed, *of_out = linear_backward(
            drop(dx.clone(), *dropout.attended), mixed_STD.view(x.shape), out[0]
        )
        dq, dpairs = torch.empty_like(q_STD), torch.empty_like(pairs_SUD)
        after = (mixed_STD, stats, dmixed.view(q_STD.shape), dq, dpairs)
        _attend("backward", (q_STD, pairs_SUD, bias_SU), after, ctx.heads, dropout.weights)
        dnormal, *of_query = linear_backward(dq.view(x.shape), normal, query[0])
        dattended, *of_key_value = linear_backward(
            dpairs.view(*attended.shape[:2], -1), attended, key_value[0]
        )
        of_norm_in = [torch.zeros_like(p) for p in norm_in]
        dkeys = None
        if keys is None:
            dnormal += dattended
        else:
            dkeys = torch.zeros_like(keys)
            _norm_backward(dattended, keys, norm_in[0], dkeys, *of_norm_in)
            dkeys = dkeys.view(*dy_EGBTD.shape[:3], -1, keys.shape[-1])
        _norm_backward(dnormal, x, norm_in[0], dx, *of_norm_in)
        gradients = [*of_norm_in, *of_query, *of_key_value, *of_out]
        gradients += [*of_norm_middle, *of_up, *of_down]
        views = [g.view(p.shape) for g, p in zip(gradients, parameters, strict=True)]
        return dx.view(dy_EGBTD.shape), dkeys, None, None, None, *views


class NativeNorm(torch.autograd.Function):
    """Layer norm of `[E, G, …, D]` with a scale and a shift `[E, G, D]`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale_EGD: Tensor, shift_EGD: Tensor) -> Tensor:
        rows, ((scale, shift),) = _rows(x, scale_EGD), _pairs((scale_EGD, shift_EGD))
        ctx.save_for_backward(rows, scale_EGD)
        return _norm(rows, scale, shift).view(x.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, scale_EGD = ctx.saved_tensors
        scale = scale_EGD.contiguous()
        gradients = [torch.zeros_like(of) for of in (x, scale, scale)]
        _norm_backward(_rows(grads[0], scale), x, scale, *gradients)
        return gradients[0].view(grads[0].shape), *gradients[1:]


def _rows(x_EGBTD: Tensor, parameter: Tensor) -> Tensor:
    """Reshape to `[M, N, D]`; parameters of one group serve every group."""
    members, groups = parameter.shape[:2]
    return x_EGBTD.contiguous().view(members * groups, -1, x_EGBTD.shape[-1])


def _pairs(parameters: tuple[Tensor, ...]) -> list[tuple[Tensor, Tensor]]:
    """Merge the axes of members and groups, and pair the parameters."""
    merged = [p.flatten(0, 1).contiguous() for p in parameters]
    return list(zip(merged[::2], merged[1::2], strict=True))


def _norm(x_MND: Tensor, scale_MD: Tensor, shift_MD: Tensor) -> Tensor:
    y = torch.empty_like(x_MND)
    call("norm", x_MND, scale_MD, shift_MD, y, *x_MND.shape)
    return y


def _norm_backward(
    dy: Tensor, x: Tensor, scale: Tensor, dx: Tensor, dscale: Tensor, dshift: Tensor
) -> None:
    """Add the gradients to `dx`, `dscale` and `dshift`."""
    call("norm_backward", dy, x, scale, dx, dscale, dshift, *x.shape)


def drop(
    x: Tensor, bits: Tensor | None, limit: int, scale: float, base: Tensor | None = None
) -> Tensor:
    """Apply dropout in place, and add the base; without bits, keep all entries."""
    call("drop", x, base, bits, limit, scale, x.numel())
    return x


def _attend(
    name: str,
    inputs: tuple[Tensor, Tensor, Tensor],
    others: tuple[Tensor, ...],
    heads: int,
    dropout: DropoutMask | None,
) -> None:
    """Call a function of attend.c for each range of sequences that have the same dropout rate."""
    (sequences, steps, width), keys = inputs[0].shape, inputs[1].shape[1]
    for part, *mask in _parts(sequences, dropout):
        count = part.stop - part.start
        own, rest = ([x[part] for x in tensors] for tensors in (inputs, others))
        call(name, *own, *mask, *rest, count, heads, steps, keys, head=width // heads)


def _parts(
    sequences: int, dropout: DropoutMask | None
) -> Iterator[tuple[slice, Tensor | None, int, float]]:
    """Yield ranges of sequences, their random bits, the limit of kept entries and their scale."""
    if dropout is None:
        yield slice(0, sequences), None, 0, 1.0
        return
    groups = len(dropout.active_G)
    each = sequences // (len(dropout.bits_EAXTU) * groups)
    rates = list(
        zip(dropout.active_G, dropout.limit_values_G, dropout.scales_G.tolist(), strict=True)
    )
    start = 0
    for bits_AXTU in dropout.bits_EAXTU:
        active = iter(bits_AXTU)
        for has_bits, limit, scale in rates:
            part = slice(start, start + each)
            yield part, next(active).contiguous() if has_bits else None, limit, scale
            start += each
