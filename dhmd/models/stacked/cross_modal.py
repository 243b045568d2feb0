"""What feeds the vertices: cross-modal and memory encoders, self-attention encoders (section 3).

Legend: E members, M modalities, B utterances, T steps, D width, W = (M − 1) D, or D without
cross-modal attention.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dhmd.models.batch import by_group
from dhmd.models.config import ModelConfig
from dhmd.models.stacked.attention import TransformerEncoder
from dhmd.models.stacked.members import Members


def _encoder(
    members: Members, groups: int, width: int, attention: list[float], config: ModelConfig
) -> TransformerEncoder:
    return TransformerEncoder(
        members,
        groups,
        width,
        heads=config.heads,
        layers=config.layers,
        attention_dropout=attention,
        dropout=config.dropout.layer,
        embedding_dropout=config.dropout.embedding,
    )


def attention_rates(modalities: tuple[str, ...], config: ModelConfig) -> list[float]:
    """The attention dropout of each modality."""
    return [config.dropout.attention[name] for name in modalities]


class SelfAttention(nn.Module):
    """One self-attention encoder a modality: `[E, 1, B, T_m, D]` each → the same shapes."""

    def __init__(
        self, members: Members, modalities: tuple[str, ...], width: int, config: ModelConfig
    ) -> None:
        super().__init__()
        rates = attention_rates(modalities, config)
        self.encoder = _encoder(members, len(modalities), width, rates, config)

    def forward(self, steps: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        return by_group(self.encoder, steps, masks)


class CrossModalAttention(nn.Module):
    """For each target m: attention from prt_m to every prt_n, concatenated, then a memory encoder.

    `[E, 1, B, T_m, D]` each → `[E, 1, B, T_m, W]` each. Every direction has its own encoder
    (MulT); all directions run as one stack where lengths agree. With one modality, or with
    `model.cross_modal` off, it is self-attention on prt_m and W = D.
    """

    def __init__(
        self, members: Members, modalities: tuple[str, ...], width: int, config: ModelConfig
    ) -> None:
        super().__init__()
        count = len(modalities)
        crossing = config.cross_modal and count > 1
        self.pairs = [
            (target, source)
            for target in range(count)
            for source in range(count)
            if crossing and target != source
        ]
        self.width = (count - 1) * width if crossing else width
        rates = attention_rates(modalities, config)
        self.cross: TransformerEncoder | None = None
        if crossing:
            sources = [rates[source] for _, source in self.pairs]
            self.cross = _encoder(members, len(self.pairs), width, sources, config)
        self.memory = _encoder(members, count, self.width, rates, config)

    def forward(self, steps: list[Tensor], masks: list[Tensor]) -> list[Tensor]:
        if self.cross is not None:
            attended = by_group(
                self.cross,
                [steps[target] for target, _ in self.pairs],
                [masks[source] for _, source in self.pairs],
                [steps[source] for _, source in self.pairs],
            )
            steps = [
                torch.cat(
                    [x for x, (t, _) in zip(attended, self.pairs, strict=True) if t == target],
                    dim=-1,
                )
                for target in range(len(masks))
            ]
        return by_group(self.memory, steps, masks)
