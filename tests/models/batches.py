"""Random batches of different lengths, with absent modalities and rows of weight 0.

Legend: E members, M modalities, B utterances, T steps, I features, O outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from dhmd.models.batch import EnsembleBatch
from dhmd.models.task import Task

MODALITIES = ("text", "audio", "vision")


def random_batch(
    widths: Sequence[int],
    *,
    modalities: tuple[str, ...] = MODALITIES,
    num_members: int = 2,
    num_utterances: int = 6,
    steps: Sequence[int] = (5, 5, 5),
    task: Task | None = None,
    aligned: bool = True,
    absent: float = 0.3,
    padding_rows: int = 1,
    seed: int = 0,
) -> EnsembleBatch:
    """Make a batch with different utterances for each member.

    `steps` are the longest lengths by modality; `absent` is the share of absent modalities (every
    utterance has at least one); the last `padding_rows` rows have weight 0.
    """
    generator = torch.Generator().manual_seed(seed)
    task = task or Task()
    count = len(widths)
    shape = (num_members, num_utterances)

    def uniform(*size: int) -> Tensor:
        return torch.rand(size, generator=generator)

    present_MRB = uniform(count, *shape) >= absent
    always_present = torch.randint(count, shape, generator=generator)
    present_MRB |= torch.arange(count)[:, None, None] == always_present
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
    weight[:, num_utterances - padding_rows :] = 0
    if task.classes is None:
        # A few frequent values, so that classes repeat, and values between and beyond them.
        labels = (uniform(*shape) * 4 - 2).round() + (uniform(*shape) - 0.5) * 0.8
        labels[:, 0] = task.high + 0.4
        teachers = torch.randn(num_members, count, num_utterances, 1, generator=generator)
    else:
        count_of_labels = 2**task.classes if task.multilabel else task.classes
        labels = torch.randint(count_of_labels, shape, generator=generator).float()
        labels += count_of_labels if task.multilabel else 0
        logits = torch.randn(num_members, count, num_utterances, task.classes, generator=generator)
        teachers = logits.sigmoid() if task.multilabel else logits.softmax(-1)
    present_EMB = present_MRB.transpose(0, 1).contiguous()
    return EnsembleBatch(
        modalities=modalities[:count],
        features=features,
        masks=masks,
        present_EMB=present_EMB,
        weight_EB=weight / weight.sum(-1, keepdim=True),
        labels_EB=labels,
        index_EB=torch.arange(num_utterances).expand(shape),
        video_EB=torch.arange(num_utterances).expand(shape) // 2,
        teachers_EMBO=teachers * present_EMB.unsqueeze(-1),
    )


def in_double(batch: EnsembleBatch) -> EnsembleBatch:
    """Return the batch in float64."""
    assert batch.teachers_EMBO is not None
    return replace(
        batch,
        features=[x.double() for x in batch.features],
        weight_EB=batch.weight_EB.double(),
        labels_EB=batch.labels_EB.double(),
        teachers_EMBO=batch.teachers_EMBO.double(),
    )


def padded(batch: EnsembleBatch, more: Sequence[int]) -> EnsembleBatch:
    """Return the batch with `more[m]` more steps of padding for modality m."""
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


def chosen(batch: EnsembleBatch, rows: Sequence[int]) -> EnsembleBatch:
    """Return the batch restricted to some utterances."""
    return batch.rows(torch.tensor(rows))


def member_of(batch: EnsembleBatch, member: int) -> EnsembleBatch:
    """Return the batch of one member, with a member axis of size 1."""
    return batch.members(slice(member, member + 1))
