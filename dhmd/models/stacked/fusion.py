"""Gated fusion and the final head (method section 5).

Legend: E members, M modalities, B utterances, W width of a feature, F width of all features,
O outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dhmd.models.members import Members
from dhmd.models.stacked.layers import Dropout, Linear


def auxiliary_average(outputs: list[Tensor], present_EMB: Tensor) -> Tensor:
    """Average the auxiliary heads, `[E, M, B, O]` per space, to `[E, B, O]` (ours).

    The mean is over spaces and present modalities. It is detached: each head learns only from the
    labels and its teachers, so that distillation improves the final output directly; the fusion
    learns the residual.
    """
    present_EMBO = present_EMB.unsqueeze(-1)
    outputs_EMBO = torch.stack([output.detach() for output in outputs]).mean(0)
    return (outputs_EMBO * present_EMBO).sum(1) / present_EMBO.sum(1).clamp_min(1)


class Gate(nn.Module):
    """The gate `h · σ(W h)`."""

    def __init__(self, members: Members, groups: int, width: int) -> None:
        super().__init__()
        self.gate = Linear(members, groups, width, width)

    def forward(self, h: Tensor) -> Tensor:
        return h * torch.sigmoid(self.gate(h))


class GatedFusion(nn.Module):
    """Gates for features `[E, M, B, W]`, a residual MLP and a head; returns `[E, B, O]`.

    Learned embeddings replace the features of an absent modality.
    """

    def __init__(
        self,
        members: Members,
        num_modalities: int,
        widths: list[int],
        *,
        hidden: int,
        outputs: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.gates = nn.ModuleList(Gate(members, num_modalities, width) for width in widths)
        self.absent = nn.ParameterList(
            nn.Parameter(members.normal(num_modalities, 1, width) * 0.1) for width in widths
        )
        total = num_modalities * sum(widths)
        self.narrow = Linear(members, 1, total, hidden)
        self.widen = Linear(members, 1, hidden, total)
        self.head = Linear(members, 1, total, outputs)
        self.dropout = Dropout(members, dropout)

    def forward(self, features: list[Tensor], present_EMB: Tensor) -> Tensor:
        present = present_EMB.unsqueeze(-1)
        gated = [
            gate(torch.where(present, feature, absent))
            for feature, gate, absent in zip(features, self.gates, self.absent, strict=True)
        ]
        joint = torch.cat(gated, dim=-1).transpose(1, 2).flatten(2).unsqueeze(1)  # [E, 1, B, F]
        hidden = self.dropout(self.narrow(joint).relu())
        out: Tensor = self.head(joint + self.dropout(self.widen(hidden)))
        return out[:, 0]
