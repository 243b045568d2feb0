"""Random ragged batches with absent modalities and rows that do not count.

Legend: E members, M modalities, B utterances, T steps, I features, O outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dhmd.models.batch import Batch
from dhmd.models.task import Task


@dataclass
class PlainBatch:
    """One member's batch: `[B, T_m, I_m]` and `[B, T_m]` a modality; the rest `[B, …]`."""

    features: list[Tensor]
    masks: list[Tensor]
    present_BM: Tensor
    weight_B: Tensor
    labels_B: Tensor
    teachers_BMO: Tensor


def random_batch(
    widths: Sequence[int],
    *,
    members: int = 2,
    utterances: int = 6,
    steps: Sequence[int] = (5, 5, 5),
    task: Task | None = None,
    aligned: bool = True,
    absent: float = 0.3,
    uncounted: int = 1,
    seed: int = 0,
) -> Batch:
    """A batch of its own for each member.

    `steps` are the longest lengths by modality; `absent` is the share of modalities taken away
    (every utterance keeps one); `uncounted` rows have weight 0, as padded rows have.
    """
    generator = torch.Generator().manual_seed(seed)
    task = task or Task()
    count = len(widths)
    shape = (members, utterances)

    def uniform(*size: int) -> Tensor:
        return torch.rand(size, generator=generator)

    present_MRB = uniform(count, *shape) >= absent
    kept = torch.randint(count, shape, generator=generator)
    present_MRB |= torch.arange(count)[:, None, None] == kept
    shared = uniform(*shape)
    features, masks = [], []
    for index, (width, longest) in enumerate(zip(widths, steps, strict=False)):
        share = shared if aligned else uniform(*shape)
        lengths = (1 + (share * longest).floor().clamp_max(longest - 1)) * present_MRB[index]
        mask = torch.arange(longest) < lengths.unsqueeze(-1)
        feature = torch.randn(*shape, longest, width, generator=generator)
        features.append((feature * mask.unsqueeze(-1)).unsqueeze(1))
        masks.append(mask.unsqueeze(1))
    weight = uniform(*shape) + 0.5
    weight[:, utterances - uncounted :] = 0
    if task.classes is None:
        # A few values often met, so that classes repeat, beside values between and beyond them.
        labels = (uniform(*shape) * 4 - 2).round() + (uniform(*shape) - 0.5) * 0.8
        labels[:, 0] = task.high + 0.4
        teachers = torch.randn(members, count, utterances, 1, generator=generator)
    else:
        labels = torch.randint(task.classes, shape, generator=generator).float()
        logits = torch.randn(members, count, utterances, task.classes, generator=generator)
        teachers = logits.softmax(-1)
    present_EMB = present_MRB.transpose(0, 1).contiguous()
    return Batch(
        features=features,
        masks=masks,
        present_EMB=present_EMB,
        weight_EB=weight / weight.sum(-1, keepdim=True),
        labels_EB=labels,
        teachers_EMBO=teachers * present_EMB.unsqueeze(-1),
    )


def in_double(batch: Batch) -> Batch:
    """The same batch in float64."""
    assert batch.teachers_EMBO is not None
    return replace(
        batch,
        features=[x.double() for x in batch.features],
        weight_EB=batch.weight_EB.double(),
        labels_EB=batch.labels_EB.double(),
        teachers_EMBO=batch.teachers_EMBO.double(),
    )


def padded(batch: Batch, more: Sequence[int]) -> Batch:
    """The same batch with `more[m]` steps of padding after modality m."""
    return replace(
        batch,
        features=[
            torch.nn.functional.pad(x, (0, 0, 0, n))
            for x, n in zip(batch.features, more, strict=True)
        ],
        masks=[
            torch.nn.functional.pad(mask, (0, n)) for mask, n in zip(batch.masks, more, strict=True)
        ],
    )


def chosen(batch: Batch, rows: Sequence[int]) -> Batch:
    """The given utterances alone, weights as they were."""
    where = torch.tensor(rows)
    teachers = batch.teachers_EMBO
    return Batch(
        features=[x[:, :, where] for x in batch.features],
        masks=[mask[:, :, where] for mask in batch.masks],
        present_EMB=batch.present_EMB[:, :, where],
        weight_EB=batch.weight_EB[:, where],
        labels_EB=batch.labels_EB[:, where],
        teachers_EMBO=None if teachers is None else teachers[:, :, where],
    )


def member_of(batch: Batch, member: int) -> Batch:
    """One member's batch, with a member axis of 1."""
    own = slice(member, member + 1)
    teachers = batch.teachers_EMBO
    return Batch(
        features=[x[own] for x in batch.features],
        masks=[mask[own] for mask in batch.masks],
        present_EMB=batch.present_EMB[own],
        weight_EB=batch.weight_EB[own],
        labels_EB=batch.labels_EB[own],
        teachers_EMBO=None if teachers is None else teachers[own],
    )


def plain(batch: Batch, member: int) -> PlainBatch:
    """One member's batch without the axes that only the engine has."""
    assert batch.teachers_EMBO is not None
    return PlainBatch(
        features=[x[member, 0] for x in batch.features],
        masks=[mask[member, 0] for mask in batch.masks],
        present_BM=batch.present_EMB[member].T,
        weight_B=batch.weight_EB[member],
        labels_B=batch.labels_EB[member],
        teachers_BMO=batch.teachers_EMBO[member].transpose(0, 1),
    )
