"""Multi-head attention and transformer encoders over groups of sequences.

Legend: R replicas, G groups, S = R·G·B, B utterances, T query steps, U key steps, D width, H heads,
E = D / H.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dhmd.models.stacked.attend import attend
from dhmd.models.stacked.dropout import Dropout
from dhmd.models.stacked.linear import Linear
from dhmd.models.stacked.norm import LayerNorm
from dhmd.models.stacked.pooling import padding_bias, zero_padding
from dhmd.models.stacked.replicas import ALL, Replicas


class Attention(nn.Module):
    """Queries `[R, g, B, T, D]` attend to keys `[R, g, B, U, D]`.

    An explicit softmax (`attend`): head widths are too small for fused kernels, and this way is
    deterministic everywhere.
    """

    def __init__(
        self, replicas: Replicas, groups: int, width: int, heads: int, dropout: Sequence[float]
    ) -> None:
        super().__init__()
        self.heads = heads
        self.query = Linear(replicas, groups, width, width)
        self.key_value = Linear(replicas, groups, width, 2 * width)
        self.out = Linear(replicas, groups, width, width)
        self.dropout = Dropout(replicas, dropout)

    def forward(
        self, x_RGBTD: Tensor, keys_RGBUD: Tensor, bias_RGBU: Tensor, select: slice = ALL
    ) -> Tensor:
        steps, width = x_RGBTD.shape[-2:]
        keys = keys_RGBUD.shape[-2]
        query = self.query(x_RGBTD, select).reshape(-1, steps, width)
        pairs = self.key_value(keys_RGBUD, select).reshape(-1, keys, 2 * width)
        drawn = self.dropout.drawn(x_RGBTD.shape[1:3], (self.heads, steps, keys), select)
        mixed = attend(query, pairs, bias_RGBU.reshape(-1, keys), self.heads, drawn)
        out: Tensor = self.out(mixed.view(x_RGBTD.shape), select)
        return out


class _Layer(nn.Module):
    """Pre-norm attention and feed-forward blocks, each with a residual (as MulT and DMD have)."""

    def __init__(
        self,
        replicas: Replicas,
        groups: int,
        width: int,
        heads: int,
        attention_dropout: Sequence[float],
        dropout: float,
    ) -> None:
        super().__init__()
        self.norm_in = LayerNorm(replicas, groups, width)
        self.attention = Attention(replicas, groups, width, heads, attention_dropout)
        self.norm_middle = LayerNorm(replicas, groups, width)
        self.up = Linear(replicas, groups, width, 4 * width)
        self.down = Linear(replicas, groups, 4 * width, width)
        self.dropout = Dropout(replicas, dropout)

    def forward(self, x: Tensor, keys: Tensor | None, bias: Tensor, select: slice = ALL) -> Tensor:
        queries = self.norm_in(x, select)
        attended = queries if keys is None else self.norm_in(keys, select)
        x = self.dropout.added(x, self.attention(queries, attended, bias, select), select)
        hidden = self.up(self.norm_middle(x, select), select)
        hidden = self.dropout.rectified(hidden, select)
        return self.dropout.added(x, self.down(hidden, select), select)


class TransformerEncoder(nn.Module):
    """A stack of layers, for self-attention (`keys=None`) or attention to other sequences.

    `attention_dropout` has one rate a group: the rate of the modality attended to.
    """

    def __init__(
        self,
        replicas: Replicas,
        groups: int,
        width: int,
        *,
        heads: int,
        layers: int,
        attention_dropout: Sequence[float],
        dropout: float,
        embedding_dropout: float,
    ) -> None:
        super().__init__()
        self.scale = math.sqrt(width)
        self.embedding_dropout = Dropout(replicas, embedding_dropout)
        self.layers = nn.ModuleList(
            _Layer(replicas, groups, width, heads, attention_dropout, dropout)
            for _ in range(layers)
        )
        self.norm = LayerNorm(replicas, groups, width)

    def forward(
        self,
        x_RGBTD: Tensor,
        mask_RGBU: Tensor,
        keys_RGBUD: Tensor | None = None,
        select: slice = ALL,
    ) -> Tensor:
        """`mask` tells the real steps of the sequences attended to.

        A sequence without any is attended to as zeros, however far it is padded.
        """
        bias = padding_bias(mask_RGBU)
        x = self.embedding_dropout(x_RGBTD * self.scale + positions(x_RGBTD), select)
        keys = None
        if keys_RGBUD is not None:
            keys = keys_RGBUD * self.scale + positions(keys_RGBUD)
            # Without real keys attention is uniform over padding: positions there would count.
            keys = self.embedding_dropout(zero_padding(keys, mask_RGBU), select)
        for layer in self.layers:
            x = layer(x, keys, bias, select)
        out: Tensor = self.norm(x, select)
        return out


def positions(x_RGBTD: Tensor) -> Tensor:
    """Sinusoidal positions `[T, D]` (Vaswani et al., 2017; half sines, half cosines as MulT)."""
    steps, width = x_RGBTD.shape[-2:]
    half = max(width // 2, 1)
    rates = torch.exp(
        torch.arange(half, device=x_RGBTD.device) * (-math.log(10000.0) / max(half - 1, 1))
    )
    angles = torch.arange(1, steps + 1, device=x_RGBTD.device).unsqueeze(-1) * rates
    table = torch.cat([angles.sin(), angles.cos()], dim=-1)
    return nn.functional.pad(table, (0, max(width - 2 * half, 0)))[:, :width]
