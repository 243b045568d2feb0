"""The margin loss of small examples."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dhmd.models.batch import EnsembleBatch
from dhmd.models.stacked.decoupling import margin_loss
from dhmd.models.task import Task
from tests.models.batches import in_double, random_batch
from tests.models.stacked.layers import normal
from tests.models.stacked.settings import CLASSES

TASKS = {"regression": Task(), "classification": CLASSES}
WIDTH = 4


def _batch_of(labels: list[float], task: Task) -> EnsembleBatch:
    batch = in_double(random_batch((2, 2), utterances=len(labels), absent=0.0, uncounted=0))
    return replace(batch, labels_EB=torch.tensor([labels] * 2).double())


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_without_a_triplet_the_margin_loss_is_zero_with_zero_gradient(task: Task) -> None:
    batch = _batch_of([1.0, 1.0, 1.0], task)
    pooled = normal(2, 2, 3, WIDTH).double().requires_grad_()
    loss = margin_loss(pooled, batch, task=task, margin=0.15)
    assert loss.eq(0).all()
    loss.sum().backward()
    assert pooled.grad.eq(0).all()
    alone = margin_loss(pooled[:, :1], batch, task=task, margin=0.15)
    assert alone.eq(0).all()


def test_margin_loss_of_a_small_example() -> None:
    """Two utterances, two modalities, orthogonal and equal directions."""
    batch = _batch_of([2.0, -1.0], Task())
    up, right = torch.tensor([1.0, 0, 0, 0]), torch.tensor([0, 5.0, 0, 0])
    # Modality 0 sees both utterances alike, modality 1 tells them apart.
    pooled = torch.stack([torch.stack([up, up * 3]), torch.stack([up, right])]).double()
    pooled = pooled.expand(2, -1, -1, -1)
    # i in modality 0: cos(i, j) is 1 and 0, cos(i, k) 1; in modality 1: 1 and 0, and 0.
    hinges = [0.45 - 1 + 1, 0.45 - 0 + 1, 0, 0.45 - 0 + 0]
    expected = sum(max(0.0, hinge) for hinge in hinges) / 4
    loss = margin_loss(pooled, batch, task=Task(), margin=0.15)
    assert loss.tolist() == pytest.approx([expected] * 2)


def test_rounded_labels_define_the_classes() -> None:
    same = _batch_of([0.5, -0.5, 0.2], Task())  # all round to 0
    apart = _batch_of([0.5, 1.5, 0.2], Task())  # 1.5 rounds to 2
    pooled = normal(2, 2, 3, WIDTH).double()
    assert margin_loss(pooled, same, task=Task(), margin=10.0).eq(0).all()
    assert margin_loss(pooled, apart, task=Task(), margin=10.0).gt(0).all()
