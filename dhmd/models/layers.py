"""Layers of models of one seed, in ordinary PyTorch; every operation over time respects the mask.

Legend: B utterances, T steps, U key steps, I features, D width, H heads, K codes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from dhmd.models.config import ModelConfig


class ModalityEncoder(nn.Module):
    """`X_m = Conv1d_m(x_m)`: `[B, T, I]` → `[B, T, D]`, zeros on padding.

    If it is recurrent, the sum of a GRU's two directions takes the place of the convolution.

    A model that keeps its encoders in `self.encoders = nn.ModuleDict(…)` starts from the pretrained
    ones where `pretrain.enabled` is true.
    """

    def __init__(
        self, inputs: int, width: int, *, kernel: int, recurrent: bool, dropout: float
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        if recurrent:
            self.gru = nn.GRU(inputs, width, batch_first=True, bidirectional=True)
        else:
            self.convolution = nn.Conv1d(inputs, width, kernel, padding=kernel // 2)
        self.recurrent = recurrent

    def forward(self, x_BTI: Tensor, mask_BT: Tensor) -> Tensor:
        x_BTI = self.dropout(x_BTI)
        if self.recurrent:
            # An absent modality is read as one step of zeros.
            lengths_B = mask_BT.sum(1).clamp_min(1).cpu()
            packed = pack_padded_sequence(x_BTI, lengths_B, batch_first=True, enforce_sorted=False)
            steps = x_BTI.shape[1]
            both, _ = pad_packed_sequence(self.gru(packed)[0], True, total_length=steps)
            forward_BTD, backward_BTD = both.chunk(2, dim=-1)
            x_BTD = forward_BTD + backward_BTD
        else:
            x_BTD = self.convolution(x_BTI.transpose(1, 2)).transpose(1, 2)
        return zero_padding(x_BTD, mask_BT)


def modality_encoders(inputs: dict[str, int], config: ModelConfig) -> nn.ModuleDict:
    """Build one encoder per modality."""
    return nn.ModuleDict(
        {
            name: ModalityEncoder(
                size,
                config.width,
                kernel=config.kernels[name],
                recurrent=config.recurrent.get(name, False),
                dropout=config.dropout.input[name],
            )
            for name, size in inputs.items()
        }
    )


class Attention(nn.Module):
    """Multi-head attention to the real steps of another sequence, or of the same one."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor, keys_BUD: Tensor, mask_BU: Tensor) -> Tensor:
        def by_head(y: Tensor) -> Tensor:
            return y.view(*y.shape[:-1], self.heads, -1).transpose(1, 2)

        q, k, v = (
            by_head(self.query(x_BTD)),
            by_head(self.key(keys_BUD)),
            by_head(self.value(keys_BUD)),
        )
        scores_BHTU = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        # Not −inf, which gives NaN for a sequence without real steps.
        scores_BHTU = scores_BHTU.masked_fill(~mask_BU[:, None, None, :], -1e9)
        mixed = self.dropout(scores_BHTU.softmax(-1)) @ v
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class _Layer(nn.Module):
    """Pre-norm attention and feed-forward blocks with residuals, as in MulT and DMD."""

    def __init__(self, width: int, heads: int, attention_dropout: float, dropout: float) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(width)
        self.attention = Attention(width, heads, attention_dropout)
        self.norm_middle = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, keys: Tensor | None, mask_BU: Tensor) -> Tensor:
        queries = self.norm_in(x)
        attended = queries if keys is None else self.norm_in(keys)
        x = x + self.dropout(self.attention(queries, attended, mask_BU))
        hidden = self.dropout(self.up(self.norm_middle(x)).relu())
        x = x + self.dropout(self.down(hidden))
        return x


class TransformerEncoder(nn.Module):
    """Transformer layers for self-attention (`keys=None`) or attention to another sequence.

    Args:
        attended: the modality that is attended to, which sets the dropout of attention weights.
    """

    def __init__(self, width: int, config: ModelConfig, *, attended: str) -> None:
        super().__init__()
        rate = config.dropout.attention[attended]
        self.dropout = nn.Dropout(config.dropout.embedding)
        self.layers = nn.ModuleList(
            _Layer(width, config.heads, rate, config.dropout.layer) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, x_BTD: Tensor, mask_BU: Tensor, keys_BUD: Tensor | None = None) -> Tensor:
        x = self.dropout(with_positions(x_BTD))
        keys = None
        if keys_BUD is not None:
            # A sequence without real steps counts as zeros.
            keys = self.dropout(zero_padding(with_positions(keys_BUD), mask_BU))
        for layer in self.layers:
            x = layer(x, keys, mask_BU)
        out: Tensor = self.norm(x)
        return out


def with_positions(x_BTD: Tensor) -> Tensor:
    """Scale by √D and add sinusoidal positions (Vaswani et al., 2017; halves as in MulT)."""
    steps, width = x_BTD.shape[1:]
    half = max(width // 2, 1)
    index = torch.arange(half, device=x_BTD.device)
    rates = torch.exp(-math.log(10000.0) / max(half - 1, 1) * index)
    angles = torch.arange(1, steps + 1, device=x_BTD.device).unsqueeze(-1) * rates
    table_TD = torch.cat([angles.sin(), angles.cos()], -1)[:, :width]
    table_TD = nn.functional.pad(table_TD, (0, width - table_TD.shape[1]))
    return x_BTD * math.sqrt(width) + table_TD


def masked_mean(x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Average over real steps, `[B, D]`; zeros where no step is real."""
    return zero_padding(x_BTD, mask_BT).sum(1) / mask_BT.sum(1, keepdim=True).clamp(min=1)


def zero_padding(x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Set padded steps to zero."""
    return x_BTD * mask_BT.unsqueeze(-1)


def sparsemax(z: Tensor) -> Tensor:
    """Project each row of scores `[…, K]` onto the simplex (Martins & Astudillo, 2016)."""
    ordered = z.detach().double().sort(-1, descending=True).values
    ranks = torch.arange(1, z.shape[-1] + 1, device=z.device)
    # A product and not `cumsum`, which a GPU cannot compute deterministically.
    sums = ordered @ torch.ones_like(ranks, dtype=torch.float64).expand(len(ranks), -1).triu()
    inside = 1 + ranks * ordered > sums
    threshold = ((ordered * inside).sum(-1, keepdim=True) - 1) / inside.sum(-1, keepdim=True)
    support = z > threshold
    tau = ((z * support).sum(-1, keepdim=True) - 1) / support.sum(-1, keepdim=True)
    return (z - tau).clamp(min=0)
