"""Layers of DMD's public code, also used by DLF and by the paper's form of DHMD.

Legend: B utterances, T steps, U key steps, F features, H hidden width, O outputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import permutations

import torch
from torch import Tensor, nn
from torch.nn import functional

from dhmd.models.config import ModelConfig

MEMORY_LAYERS = 3  # minimum number of layers of a memory transformer


class Head(nn.Module):
    """A residual MLP followed by a linear head.

    Returns its first hidden layer `[…, H]`, the outputs `[…, O]` and the residual sum `[…, F]`.
    """

    def __init__(self, size: int, hidden: int, outputs: int, config: ModelConfig) -> None:
        super().__init__()
        self.narrow, self.widen = nn.Linear(size, hidden), nn.Linear(hidden, size)
        self.out = nn.Linear(size, outputs)
        self.dropout = nn.Dropout(config.dropout.output)

    def forward(self, x_BF: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden_BH = self.narrow(x_BF)
        residual_BF = self.widen(self.dropout(hidden_BH.relu())) + x_BF
        return hidden_BH, self.out(residual_BF), residual_BF


class Transformer(nn.Module):
    """The encoder of the public code: pre-norm layers, causal mask, sinusoidal positions."""

    def __init__(self, size: int, layers: int, config: ModelConfig, dropout: float) -> None:
        super().__init__()
        self.size = size
        self.embedding_dropout = nn.Dropout(config.dropout.embedding)
        self.layers = nn.ModuleList(Layer(size, config, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(size)

    def forward(
        self,
        x_BTF: Tensor,
        mask_BT: Tensor,
        source_BUF: Tensor | None = None,
        source_mask_BU: Tensor | None = None,
    ) -> Tensor:
        """Attend from `x` to `source`, or to `x` without a source; return `[B, T, F]`."""
        hidden_BTF = self._embedded(x_BTF)
        keys_BUF = None if source_BUF is None else self._embedded(source_BUF)
        keys_mask_BU = mask_BT if source_mask_BU is None else source_mask_BU
        steps, sources = x_BTF.shape[1], keys_mask_BU.shape[1]
        ahead = 1 + abs(sources - steps)
        future_TU = torch.ones(steps, sources, dtype=torch.bool, device=x_BTF.device).triu(ahead)
        blocked_BTU = future_TU | ~keys_mask_BU[:, None, :]
        # A step without a key attends to all keys: a softmax over none would be NaN.
        blocked_BTU = blocked_BTU & ~blocked_BTU.all(2, keepdim=True)
        for layer in self.layers:
            hidden_BTF = layer(hidden_BTF, keys_BUF, blocked_BTU)
        normed: Tensor = self.norm(hidden_BTF)
        return normed

    def _embedded(self, x_BTF: Tensor) -> Tensor:
        # As in the public code, a step whose first feature is zero is padding and has no position.
        real_BT1 = (x_BTF[:, :, :1] != 0).to(x_BTF.dtype)
        positions_TF = sinusoids(x_BTF.shape[1], self.size).to(x_BTF)
        scaled: Tensor = self.embedding_dropout(
            math.sqrt(self.size) * x_BTF + real_BT1 * positions_TF
        )
        return scaled


def cross_attention(inputs: Iterable[str], width: int, config: ModelConfig) -> nn.ModuleDict:
    """Build one transformer per ordered pair of modalities, by `target_source`."""
    return nn.ModuleDict(
        {
            f"{target}_{source}": Transformer(
                width, config.layers, config, config.dropout.attention[source]
            )
            for target, source in permutations(inputs, 2)
        }
    )


def memory_transformers(inputs: Iterable[str], size: int, config: ModelConfig) -> nn.ModuleDict:
    """Build one transformer per modality, which reads the concatenated cross-attention."""
    layers = max(config.layers, MEMORY_LAYERS)
    return nn.ModuleDict(
        {name: Transformer(size, layers, config, config.dropout.attention[name]) for name in inputs}
    )


class Layer(nn.Module):
    """Pre-norm attention and feed-forward block; one norm serves queries and keys."""

    def __init__(self, size: int, config: ModelConfig, dropout: float) -> None:
        super().__init__()
        self.heads = config.heads
        self.project = nn.Linear(size, 3 * size)
        self.out = nn.Linear(size, size)
        self.attention_dropout = nn.Dropout(dropout)
        self.norms = nn.ModuleList([nn.LayerNorm(size), nn.LayerNorm(size)])
        self.widen, self.narrow = nn.Linear(size, 4 * size), nn.Linear(4 * size, size)
        self.dropout = nn.Dropout(config.dropout.layer)
        for linear in (self.project, self.out, self.widen, self.narrow):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x_BTF: Tensor, keys_BUF: Tensor | None, blocked_BTU: Tensor) -> Tensor:
        queries_BTF = self.norms[0](x_BTF)
        keys = queries_BTF if keys_BUF is None else self.norms[0](keys_BUF)
        weight_q, weight_k, weight_v = self.project.weight.chunk(3)
        bias_q, bias_k, bias_v = self.project.bias.chunk(3)
        q = self._split(functional.linear(queries_BTF, weight_q, bias_q))
        k = self._split(functional.linear(keys, weight_k, bias_k))
        v = self._split(functional.linear(keys, weight_v, bias_v))
        scores_BHTU = q @ k.transpose(2, 3) / math.sqrt(q.shape[3])
        scores_BHTU = scores_BHTU.masked_fill(blocked_BTU[:, None], -math.inf)
        attended = self.attention_dropout(scores_BHTU.softmax(3)) @ v
        x_BTF = x_BTF + self.dropout(self.out(attended.transpose(1, 2).flatten(2)))
        hidden = self.dropout(self.widen(self.norms[1](x_BTF)).relu())
        out_BTF: Tensor = x_BTF + self.dropout(self.narrow(hidden))
        return out_BTF

    def _split(self, x_BTF: Tensor) -> Tensor:
        split: Tensor = x_BTF.reshape(*x_BTF.shape[:2], self.heads, -1).transpose(1, 2)
        return split


def sinusoids(steps: int, size: int) -> Tensor:
    """Return tensor2tensor's sinusoidal encoding of positions 1 to `steps`, `[steps, size]`."""
    half = size // 2
    # In single precision, as in the public code, whatever the model's precision.
    rates = torch.exp(
        torch.arange(half, dtype=torch.float32) * -(math.log(10_000) / max(half - 1, 1))
    )
    angles = torch.arange(1, steps + 1, dtype=torch.float32)[:, None] * rates[None]
    table = torch.cat([angles.sin(), angles.cos()], dim=1)
    return functional.pad(table, (0, size - table.shape[1]))
