"""Multi-head attention and transformer encoders over groups of sequences.

Legend: E members, G groups (g those of an input), B utterances, T query steps, U key steps,
D width, H heads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dhmd.models.config import ModelConfig
from dhmd.models.members import Members
from dhmd.models.stacked.attend import attend
from dhmd.models.stacked.kernels import native
from dhmd.models.stacked.layers import (
    ALL,
    Dropout,
    LayerNorm,
    Linear,
    padding_bias,
    zero_padding,
)
from dhmd.models.stacked.native_layer import LayerDropout, NativeLayer


class Attention(nn.Module):
    """Multi-head attention of queries `[E, g, B, T, D]` to keys `[E, g, B, U, D]`.

    `attend` computes the softmax explicitly: the heads are too narrow for fused kernels, and this
    is deterministic on every device.
    """

    def __init__(
        self, members: Members, groups: int, width: int, heads: int, dropout: Sequence[float]
    ) -> None:
        super().__init__()
        self.heads = heads
        self.query = Linear(members, groups, width, width)
        self.key_value = Linear(members, groups, width, 2 * width)
        self.out = Linear(members, groups, width, width)
        self.dropout = Dropout(members, dropout)

    def forward(
        self, x_EGBTD: Tensor, keys_EGBUD: Tensor, bias_EGBU: Tensor, select: slice = ALL
    ) -> Tensor:
        steps, width = x_EGBTD.shape[-2:]
        keys = keys_EGBUD.shape[-2]
        query = self.query(x_EGBTD, select).reshape(-1, steps, width)
        pairs = self.key_value(keys_EGBUD, select).reshape(-1, keys, 2 * width)
        mask = self.dropout.attention_mask(x_EGBTD.shape[1:3], (self.heads, steps, keys), select)
        mixed = attend(query, pairs, bias_EGBU.reshape(-1, keys), self.heads, mask)
        out: Tensor = self.out(mixed.view(x_EGBTD.shape), select)
        return out


class TransformerLayer(nn.Module):
    """Pre-norm attention and feed-forward blocks with residuals, as in MulT and DMD."""

    def __init__(
        self,
        members: Members,
        groups: int,
        width: int,
        heads: int,
        attention_dropout: Sequence[float],
        dropout: float,
    ) -> None:
        super().__init__()
        self.norm_in = LayerNorm(members, groups, width)
        self.attention = Attention(members, groups, width, heads, attention_dropout)
        self.norm_middle = LayerNorm(members, groups, width)
        self.up = Linear(members, groups, width, 4 * width)
        self.down = Linear(members, groups, 4 * width, width)
        self.dropout = Dropout(members, dropout)

    def forward(self, x: Tensor, keys: Tensor | None, bias: Tensor, select: slice = ALL) -> Tensor:
        if native(x):
            return self._in_c(x, keys, bias, select)
        queries = self.norm_in(x, select)
        attended = queries if keys is None else self.norm_in(keys, select)
        x = self.dropout.added(x, self.attention(queries, attended, bias, select), select)
        hidden = self.up(self.norm_middle(x, select), select)
        hidden = self.dropout.rectified(hidden, select)
        return self.dropout.added(x, self.down(hidden, select), select)

    def _in_c(self, x: Tensor, keys: Tensor | None, bias: Tensor, select: slice) -> Tensor:
        """Compute `forward` in C; random bits are drawn in the same order."""
        attention, entries = self.attention, self.dropout.entry_mask
        steps, hidden = x.shape[-2], self.up.weight_EGIO.shape[-1]
        size = (attention.heads, steps, bias.shape[-1])
        dropout = LayerDropout(
            weights=attention.dropout.attention_mask(x.shape[1:3], size, select),
            attended=entries(x.shape),
            hidden=entries((*x.shape[:-1], hidden)),
            out=entries(x.shape),
        )
        attending = (self.norm_in, attention.query, attention.key_value, attention.out)
        modules: list[nn.Module] = [*attending, self.norm_middle, self.up, self.down]
        parameters: list[Tensor] = [p for m in modules for p in m.parameters(recurse=False)]
        if select != ALL:
            parameters = [p[:, select] for p in parameters]
        y: Tensor = NativeLayer.apply(  # type: ignore[no-untyped-call]
            x, keys, bias.flatten(0, 2), attention.heads, dropout, *parameters
        )
        return y


class TransformerEncoder(nn.Module):
    """Transformer layers for self-attention (no keys) or attention to other sequences.

    Args:
        attended: the attended modality of each group; it selects the attention dropout.
    """

    def __init__(
        self, members: Members, width: int, config: ModelConfig, *, attended: Sequence[str]
    ) -> None:
        super().__init__()
        self.scale, groups = math.sqrt(width), len(attended)
        rates = [config.dropout.attention[name] for name in attended]
        self.embedding_dropout = Dropout(members, config.dropout.embedding)
        self.layers = nn.ModuleList(
            TransformerLayer(members, groups, width, config.heads, rates, config.dropout.layer)
            for _ in range(config.layers)
        )
        self.norm = LayerNorm(members, groups, width)

    def forward(
        self,
        x_EGBTD: Tensor,
        mask_EGBU: Tensor,
        keys_EGBUD: Tensor | None = None,
        select: slice = ALL,
    ) -> Tensor:
        """Encode `x`; the mask marks the real steps of the attended sequences.

        A sequence without real steps is equivalent to zeros, whatever its padding.
        """
        bias = padding_bias(mask_EGBU)
        x = self.embedding_dropout(x_EGBTD * self.scale + positions(x_EGBTD), select)
        keys = None
        if keys_EGBUD is not None:
            keys = keys_EGBUD * self.scale + positions(keys_EGBUD)
            # Without real keys, attention is uniform over the padding, which must be zero.
            keys = self.embedding_dropout(zero_padding(keys, mask_EGBU), select)
        for layer in self.layers:
            x = layer(x, keys, bias, select)
        out: Tensor = self.norm(x, select)
        return out


def positions(x_EGBTD: Tensor) -> Tensor:
    """Return sinusoidal positions `[T, D]`, first sines, then cosines (Vaswani et al., 2017)."""
    steps, width = x_EGBTD.shape[-2:]
    half = max(width // 2, 1)
    rates = torch.exp(
        torch.arange(half, device=x_EGBTD.device) * (-math.log(10000.0) / max(half - 1, 1))
    )
    angles = torch.arange(1, steps + 1, device=x_EGBTD.device).unsqueeze(-1) * rates
    table = torch.cat([angles.sin(), angles.cos()], dim=-1)
    return nn.functional.pad(table, (0, max(width - 2 * half, 0)))[:, :width]
