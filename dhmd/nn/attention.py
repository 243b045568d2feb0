"""Multi-head attention and transformer encoders over groups of sequences.

Legend: R replicas, G groups, S = R·G·B, B utterances, T query steps, U key steps, D width, H heads,
E = D / H.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dhmd.nn.dropout import Dropout
from dhmd.nn.linear import Linear
from dhmd.nn.norm import LayerNorm
from dhmd.nn.pooling import zero_padding
from dhmd.nn.replicas import ALL, Replicas

# Not −inf: a row without any real key must give numbers, which its own mask then hides.
_MASKED = -1e9


def key_bias(mask_RGBU: Tensor) -> Tensor:
    """What masks keys: 0 on real steps, −1e9 on padded ones, float `[R, G, B, U]`."""
    return (~mask_RGBU).to(torch.float32) * _MASKED


class Attention(nn.Module):
    """Queries `[R, g, B, T, D]` attend to keys `[R, g, B, U, D]`.

    Batched products and an explicit softmax: head widths are too small for fused kernels, and
    this way is deterministic everywhere.
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
        replicas, groups, batch, steps, width = x_RGBTD.shape
        sequences, heads, head = replicas * groups * batch, self.heads, width // self.heads
        n_keys = keys_RGBUD.shape[3]
        query = self.query(x_RGBTD, select).view(sequences, steps, heads, head)
        pairs = self.key_value(keys_RGBUD, select).view(sequences, n_keys, 2, heads, head)
        key, value = pairs.unbind(2)
        query_XTE = query.transpose(1, 2).reshape(-1, steps, head)
        key_XEU = key.permute(0, 2, 3, 1).reshape(-1, head, n_keys)
        value_XUE = value.transpose(1, 2).reshape(-1, n_keys, head)
        bias = bias_RGBU.reshape(sequences, 1, 1, n_keys).expand(-1, heads, steps, -1)
        scores_XTU = torch.baddbmm(
            bias.reshape(-1, steps, n_keys), query_XTE, key_XEU, alpha=1 / math.sqrt(head)
        )
        weights = scores_XTU.softmax(-1).view(replicas, groups, -1, steps, n_keys)
        weights = self.dropout(weights, select).view(-1, steps, n_keys)
        mixed = torch.bmm(weights, value_XUE).view(sequences, heads, steps, head)
        mixed = mixed.transpose(1, 2).reshape(replicas, groups, batch, steps, width)
        out: Tensor = self.out(mixed, select)
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
        x = x + self.dropout(self.attention(queries, attended, bias, select))
        hidden = self.up(self.norm_middle(x, select), select).relu()
        out: Tensor = x + self.dropout(self.down(self.dropout(hidden), select))
        return out


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
        bias = key_bias(mask_RGBU)
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
