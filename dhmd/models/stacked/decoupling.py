"""Decoupling into shared and private features (method section 2; DMD, section 3.1).

Legend: E members, M modalities, B utterances, T steps, D width; com: shared (homogeneous)
features; prt: private (heterogeneous) features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dhmd.models.batch import EnsembleBatch
from dhmd.models.members import Members
from dhmd.models.stacked.layers import Linear, by_group, pool, zero_padding
from dhmd.models.task import Task


@dataclass
class Decoupled:
    """Shared and private features, `[E, 1, B, T_m, D]` per modality, and the pooled shared ones."""

    com: list[Tensor]
    prt: list[Tensor]
    pooled_com_EMBD: Tensor


class Decoupling(nn.Module):
    """`com_m = E_com(X_m)` with shared weights, `prt_m = E_prt_m(X_m)`, decoders `D_m`.

    The encoders act on each step alone (convolutions of width 1, DMD's public configuration).
    """

    def __init__(self, members: Members, num_modalities: int, width: int) -> None:
        super().__init__()
        self.shared = Linear(members, 1, width, width)
        self.private = Linear(members, num_modalities, width, width)
        self.decoder = Linear(members, num_modalities, 2 * width, width)

    def forward(self, encoded: list[Tensor], masks: list[Tensor]) -> Decoupled:
        com = [zero_padding(self.shared(x), mask) for x, mask in zip(encoded, masks, strict=True)]
        prt = [
            zero_padding(x, mask)
            for x, mask in zip(by_group(self.private, encoded), masks, strict=True)
        ]
        return Decoupled(com, prt, pool(com, masks))

    def losses(
        self,
        encoded: list[Tensor],
        decoupled: Decoupled,
        batch: EnsembleBatch,
        *,
        task: Task,
        margin: float,
        gamma: Tensor,
    ) -> dict[str, Tensor]:
        """Compute the four losses and `dec = L_rec + L_cyc + γ (L_mar + L_ort)`, `[E]` each.

        The gradient reaches the encoders, both decoupling encoders and the decoders.
        Means are over the real steps of an utterance, then over utterances, so that accumulating
        an update over several batches is exact.
        """
        joint = [torch.cat(pair, dim=-1) for pair in zip(decoupled.com, decoupled.prt, strict=True)]
        decoded = by_group(self.decoder, joint)
        cycled = by_group(self.private, decoded)
        rec = step_mean(
            [(x - d).square().mean(-1) for x, d in zip(encoded, decoded, strict=True)], batch
        )
        cyc = step_mean(
            [(p - c).square().mean(-1) for p, c in zip(decoupled.prt, cycled, strict=True)], batch
        )
        ort = step_mean(
            [
                nn.functional.cosine_similarity(c, p, dim=-1).abs()
                for c, p in zip(decoupled.com, decoupled.prt, strict=True)
            ],
            batch,
        )
        mar = margin_loss(decoupled.pooled_com_EMBD, batch, task=task, margin=margin)
        return {
            "rec": rec,
            "cyc": cyc,
            "ort": ort,
            "mar": mar,
            "dec": rec + cyc + gamma * (mar + ort),
        }


def step_mean(values: list[Tensor], batch: EnsembleBatch) -> Tensor:
    """Average `[E, 1, B, T_m]` over real steps, sum over modalities, average over utterances."""
    loss_EB = torch.zeros_like(batch.weight_EB)
    for value, mask in zip(values, batch.masks, strict=True):
        steps = mask.sum(-1).clamp_min(1)
        loss_EB = loss_EB + ((value * mask).sum(-1) / steps)[:, 0]
    return (loss_EB * batch.weight_EB).sum(-1)


def margin_loss(pooled_EMBD: Tensor, batch: EnsembleBatch, *, task: Task, margin: float) -> Tensor:
    """Compute `L_mar` (DMD), `[E]`.

    The mean over triplets (i, j, k) of the batch of
    `max(0, α_ik − cos(com_i, com_j) + cos(com_i, com_k))`, times the batch's share of the update;
    `α_ik = margin · |y_i − y_k|` (classification: 1 for another class). i is an utterance in one
    modality, j an utterance of i's class in another modality, k an utterance of another class in
    i's modality. Padding and absent modalities are left out; without a triplet the loss is 0.
    """
    members, modalities, batch_size, width = pooled_EMBD.shape
    if modalities < 2:
        return pooled_EMBD.new_zeros(members)
    unit = nn.functional.normalize(pooled_EMBD, dim=-1)
    flat = unit.reshape(members, modalities * batch_size, width)
    cosine = torch.bmm(flat, flat.transpose(1, 2))
    cosine = cosine.view(members, modalities, batch_size, modalities, batch_size)
    others = [[n for n in range(modalities) if n != m] for m in range(modalities)]
    # Slices: lists of indices would be copied from the host.
    cos_ij = torch.stack(
        [
            torch.cat([cosine[:, m, :, :m], cosine[:, m, :, m + 1 :]], dim=2).flatten(2)
            for m in range(modalities)
        ],
        dim=1,
    )
    cos_ik = torch.stack([cosine[:, m, :, m] for m in range(modalities)], dim=1)

    real_EMB = batch.present_EMB & (batch.weight_EB > 0).unsqueeze(1)
    classes_EB = task.margin_classes(batch.labels_EB)
    same_EBB = classes_EB.unsqueeze(-1) == classes_EB.unsqueeze(-2)
    valid_ij = torch.stack(
        [
            torch.cat([same_EBB & real_EMB[:, n, None, :] for n in others[m]], dim=-1)
            & real_EMB[:, m, :, None]
            for m in range(modalities)
        ],
        dim=1,
    )
    valid_ik = ~same_EBB.unsqueeze(1) & real_EMB.unsqueeze(-2)
    labels = batch.labels_EB if task.classes is None else classes_EB
    gap = (labels.unsqueeze(-1) - labels.unsqueeze(-2)).abs()
    if task.classes is not None:
        gap = gap.clamp_max(1.0)
    # Pairs of no triplet get values far below the hinge, which avoids a large mask.
    reach_ik = torch.where(valid_ik, margin * gap.unsqueeze(1) + cos_ik, -1e4)
    reach_ij = torch.where(valid_ij, cos_ij, 1e4)
    hinge = (reach_ik.unsqueeze(-2) - reach_ij.unsqueeze(-1)).relu().sum((1, 2, 3, 4))
    count = (valid_ij.sum(-1) * valid_ik.sum(-1)).sum((1, 2))
    return hinge / count.clamp_min(1) * batch.weight_EB.sum(-1)
