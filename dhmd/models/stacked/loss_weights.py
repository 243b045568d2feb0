"""The numbers of the total loss, one a member: variants that differ in these alone train together.

Legend: E members.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dhmd.models.config import DecoupleConfig, DistillationConfig, Edges


@dataclass(frozen=True)
class LossWeights:
    """Loss weights `[E]` each, and where each member's edges come from."""

    distill: Tensor  # λ, kd.lambda
    aux: Tensor
    decouple: Tensor
    gamma: Tensor
    homogeneous: Tensor  # 1 where HomoGD distils
    heterogeneous: Tensor  # 1 where HeteroGD distils
    matching: Tensor  # weight of L_DM beside λ, 0 where nothing is matched
    edges: tuple[Edges, ...]

    @staticmethod
    def of(
        settings: Sequence[tuple[DecoupleConfig, DistillationConfig]], device: torch.device
    ) -> LossWeights:
        """The loss_weights of one setting a member."""

        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)

        decouples = [decouple for decouple, _ in settings]
        kds = [kd for _, kd in settings]
        return LossWeights(
            distill=column([kd.lambda_ for kd in kds]),
            aux=column([kd.aux for kd in kds]),
            decouple=column([d.weight if d.enabled else 0.0 for d in decouples]),
            gamma=column([d.gamma for d in decouples]),
            homogeneous=column([float(kd.graph.homogeneous) for kd in kds]),
            heterogeneous=column([float(kd.graph.heterogeneous) for kd in kds]),
            matching=column(
                [kd.dictionary.weight if kd.dictionary.matching else 0.0 for kd in kds]
            ),
            edges=tuple(kd.graph.edges for kd in kds),
        )
