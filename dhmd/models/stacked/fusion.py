"""Gated fusion and the final head (method section 5).

Legend: E members, M modalities, B utterances, W width of a part, F width of all parts, O outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dhmd.models.stacked.dropout import Dropout
from dhmd.models.stacked.linear import Linear
from dhmd.models.stacked.members import Members


def vote(outputs: list[Tensor], present_EMB: Tensor) -> Tensor:
    """What the vertices say on average: `[E, M, B, O]` a space → `[E, B, O]` (ours).

    The mean over spaces and present modalities of their heads' outputs, detached: each vertex
    learns from its own label and its teachers alone, and what distillation took out of its noise
    reaches the final output at once. The fusion then learns what the vertices leave open.
    """
    there_EMBO = present_EMB.unsqueeze(-1)
    said_EMBO = torch.stack([output.detach() for output in outputs]).mean(0)
    return (said_EMBO * there_EMBO).sum(1) / there_EMBO.sum(1).clamp_min(1)


class Gate(nn.Module):
    """`h · σ(W h)`: a feature is scaled by its gate, not replaced by it."""

    def __init__(self, members: Members, groups: int, width: int) -> None:
        super().__init__()
        self.gate = Linear(members, groups, width, width)

    def forward(self, h: Tensor) -> Tensor:
        return h * torch.sigmoid(self.gate(h))


class GatedFusion(nn.Module):
    """Parts `[E, M, B, W_p]`, each gated, then a residual MLP and a head: `[E, B, O]`.

    An absent modality's parts are learned embeddings. The MLP narrows to `hidden` [ours].
    """

    def __init__(
        self,
        members: Members,
        modalities: int,
        widths: list[int],
        *,
        hidden: int,
        outputs: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.gates = nn.ModuleList(Gate(members, modalities, width) for width in widths)
        self.absent = nn.ParameterList(
            nn.Parameter(members.normal(modalities, 1, width) * 0.1) for width in widths
        )
        total = modalities * sum(widths)
        self.narrow = Linear(members, 1, total, hidden)
        self.widen = Linear(members, 1, hidden, total)
        self.head = Linear(members, 1, total, outputs)
        self.dropout = Dropout(members, dropout)

    def forward(self, parts: list[Tensor], present_EMB: Tensor) -> Tensor:
        there = present_EMB.unsqueeze(-1)
        gated = [
            gate(torch.where(there, part, absent))
            for part, gate, absent in zip(parts, self.gates, self.absent, strict=True)
        ]
        joint = torch.cat(gated, dim=-1).transpose(1, 2).flatten(2).unsqueeze(1)  # [E, 1, B, F]
        hidden = self.dropout(self.narrow(joint).relu())
        out: Tensor = self.head(joint + self.dropout(self.widen(hidden)))
        return out[:, 0]
