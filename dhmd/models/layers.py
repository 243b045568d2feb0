"""Layers for models of one seed in plain PyTorch. Every operation over time respects the mask.

Legend: B utterances, T steps, U key steps, I features, D width, H heads, K codes, W vertex width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from dhmd.models.config import DictionaryConfig, ModelConfig

# Codes that are active per utterance at the start. For ten, the codes would have to be so similar
# that all utterances use the same ones: after 200 updates the overlap of any two was 0.9.
INITIAL_ACTIVE_CODES = 3
PROBE_QUERIES, PROBE_STEPS = 64, 8


class ModalityEncoder(nn.Module):
    """The encoder `X_m = Conv1d_m(x_m)`; maps `[B, T, I]` to `[B, T, D]`, zero on padding.

    With `recurrent`, it is the sum of a GRU's two directions instead of the convolution.
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
            steps = x_BTI.shape[1]
            states, _ = self.gru(pack(x_BTI, mask_BT))
            both, _ = pad_packed_sequence(states, batch_first=True, total_length=steps)
            forward_BTD, backward_BTD = both.chunk(2, dim=-1)
            x_BTD = forward_BTD + backward_BTD
        else:
            x_BTD = self.convolution(x_BTI.transpose(1, 2)).transpose(1, 2)
        return zero_padding(x_BTD, mask_BT)


def pack(x_BTI: Tensor, mask_BT: Tensor) -> PackedSequence:
    """Pack the real steps for a recurrent layer; an absent modality has one step of zeros."""
    lengths_B = mask_BT.sum(1).clamp_min(1).cpu()
    return pack_padded_sequence(x_BTI, lengths_B, batch_first=True, enforce_sorted=False)


def modality_encoders(inputs: dict[str, int], config: ModelConfig) -> nn.ModuleDict:
    """Build one encoder per modality.

    A model that stores them in `self.encoders` starts from the pretrained encoders where
    `pretrain.enabled` is true.

    Args:
        inputs: feature width by modality.
    """
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
    """Multi-head attention of queries `[B, T, D]` to the real steps of keys `[B, U, D]`."""

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
        # −inf would give NaN for a sequence without real steps.
        scores_BHTU = scores_BHTU.masked_fill(~mask_BU[:, None, None, :], -1e9)
        values = self.dropout(scores_BHTU.softmax(-1)) @ v
        out: Tensor = self.out(values.transpose(1, 2).flatten(2))
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

    def forward(self, x_BTD: Tensor, keys_BUD: Tensor | None, mask_BU: Tensor) -> Tensor:
        queries = self.norm_in(x_BTD)
        keys = queries if keys_BUD is None else self.norm_in(keys_BUD)
        x = x_BTD + self.dropout(self.attention(queries, keys, mask_BU))
        hidden = self.dropout(self.up(self.norm_middle(x)).relu())
        out: Tensor = x + self.dropout(self.down(hidden))
        return out


class TransformerEncoder(nn.Module):
    """Transformer layers for self-attention (no keys) or attention to another sequence.

    Args:
        attended: the modality that is attended to; it selects the attention dropout.
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
        """Encode `x`; the mask marks the real steps of the attended sequence."""
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
    """Scale by √D and add sinusoidal positions (Vaswani et al., 2017).

    The sines come first, then the cosines, as in MulT.
    """
    steps, width = x_BTD.shape[1:]
    half = max(width // 2, 1)
    index = torch.arange(half, device=x_BTD.device)
    rates = torch.exp(-math.log(10000.0) / max(half - 1, 1) * index)
    angles = torch.arange(1, steps + 1, device=x_BTD.device).unsqueeze(-1) * rates
    table_TD = torch.cat([angles.sin(), angles.cos()], -1)[:, :width]
    table_TD = nn.functional.pad(table_TD, (0, width - table_TD.shape[1]))
    return x_BTD * math.sqrt(width) + table_TD


def masked_mean(x: Tensor, mask_BT: Tensor) -> Tensor:
    """Return the average over the real steps, `[B, …]`; zeros where no step is real."""
    mask = mask_BT.reshape(*mask_BT.shape, *(1,) * (x.dim() - 2))
    return (x * mask).sum(1) / mask.sum(1).clamp(min=1)


def zero_padding(x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    """Set padded steps to zero."""
    return x_BTD * mask_BT.unsqueeze(-1)


def sparsemax(z: Tensor) -> Tensor:
    """Project each row of scores onto the probability simplex (Martins & Astudillo, 2016).

    Args:
        z: scores, `[…, K]`.

    Returns:
        Sparse probabilities of the same shape; each row sums to 1.
    """
    ordered = z.detach().double().sort(-1, descending=True).values
    ranks = torch.arange(1, z.shape[-1] + 1, device=z.device)
    # Not `cumsum`, which is not deterministic on a GPU.
    sums = ordered @ torch.ones_like(ranks, dtype=torch.float64).expand(len(ranks), -1).triu()
    inside = 1 + ranks * ordered > sums
    threshold = ((ordered * inside).sum(-1, keepdim=True) - 1) / inside.sum(-1, keepdim=True)
    support = z > threshold
    tau = ((z * support).sum(-1, keepdim=True) - 1) / support.sum(-1, keepdim=True)
    return (z - tau).clamp(min=0)


def initial_codes(width: int, config: DictionaryConfig) -> Tensor:
    """Draw codes `[K, W]` of which about three are active per utterance (ours).

    Of independent codes only one or two would be active, because their relevances differ too much.
    So the codes are a common direction plus noise, and bisection on random queries finds the noise
    level: the more noise, the fewer codes are active.
    """
    normalize = nn.functional.normalize
    common = normalize(torch.randn(1, width), dim=-1)
    noise = normalize(torch.randn(config.codes, width), dim=-1)
    probes = normalize(torch.randn(PROBE_QUERIES, PROBE_STEPS, width), dim=-1)
    target = min(INITIAL_ACTIVE_CODES, config.codes / 2)
    low, high = 1e-3, 1e3
    for _ in range(30):
        middle = (low * high) ** 0.5
        cosine = probes @ normalize(common + middle * noise, dim=-1).T
        active = (sparsemax(cosine.amax(1) * config.scale) > 0).sum(-1).float().mean()
        low, high = (middle, high) if active > target else (low, middle)
    return normalize(common + high * noise, dim=-1)
