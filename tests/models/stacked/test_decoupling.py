"""The decoupling losses against loops over utterances, steps and triplets."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dhmd.models.batch import EnsembleBatch
from dhmd.models.members import Members
from dhmd.models.stacked.decoupling import Decoupled, Decoupling, margin_loss
from dhmd.models.task import Task
from tests.models import equations
from tests.models.batches import chosen, in_double, padded, random_batch
from tests.models.compare import assert_close
from tests.models.stacked.layers import normal
from tests.models.stacked.settings import CLASSES, CPU

TASKS = {"regression": Task(), "classification": CLASSES}
WIDTH = 4


def decoupling(modalities: int = 3) -> Decoupling:
    return Decoupling(Members((1, 2), CPU), modalities, WIDTH).double()


def encoded_of(batch: EnsembleBatch) -> list[Tensor]:
    """Encoders' outputs: zeros on padding."""
    values = []
    for index, mask in enumerate(batch.masks):
        x = normal(*mask.shape, WIDTH, seed=50 + index).double() * mask.unsqueeze(-1)
        values.append(x.requires_grad_())
    return values


def losses(
    unit: Decoupling, encoded: list[Tensor], batch: EnsembleBatch, task: Task
) -> dict[str, Tensor]:
    parts = unit(encoded, batch.masks)
    gamma = torch.tensor([0.1, 0.7]).double()
    return unit.losses(encoded, parts, batch, task=task, margin=0.15, gamma=gamma)


def plainly(
    unit: Decoupling, encoded: list[Tensor], batch: EnsembleBatch, task: Task, r: int
) -> dict[str, Tensor]:
    """The same from the equations, with the same parameters."""
    own = batch.of_member(r)

    def through(part: str, m: int, x: Tensor) -> Tensor:
        linear = getattr(unit, part)
        group = 0 if part == "shared" else m
        return x @ linear.weight_EGIO[r, group] + linear.bias_EGO[r, group]

    each = range(len(encoded))
    x = [encoded[m][r, 0] for m in each]
    com = [through("shared", m, x[m]) for m in each]
    prt = [through("private", m, x[m]) for m in each]
    decoded = [through("decoder", m, torch.cat([com[m], prt[m]], -1)) for m in each]
    again = [through("private", m, decoded[m]) for m in each]
    pooled = torch.zeros(len(own.labels_B), len(encoded), WIDTH, dtype=torch.float64)
    for m in each:
        for b, mask in enumerate(own.masks[batch.modalities[m]]):
            if mask.any():
                pooled[b, m] = com[m][b, mask].mean(0)
    found = {
        "rec": equations.mean_square(x, decoded, own),
        "cyc": equations.mean_square(prt, again, own),
        "ort": equations.orthogonality(com, prt, own),
        "mar": equations.margin(pooled, own, task, 0.15),
    }
    gamma = (0.1, 0.7)[r]
    return found | {"dec": found["rec"] + found["cyc"] + gamma * (found["mar"] + found["ort"])}


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize("aligned", [True, False])
def test_every_loss_is_its_equation_in_value_and_gradient(task: Task, aligned: bool) -> None:
    steps = (4, 4, 4) if aligned else (3, 5, 4)
    batch = in_double(random_batch((2, 2, 2), task=task, aligned=aligned, steps=steps, seed=3))
    unit, encoded = decoupling(), encoded_of(batch)
    leaves = [*encoded, *unit.parameters()]
    found = losses(unit, encoded, batch, task)
    assert found["mar"].gt(0).all()
    expected = [plainly(unit, encoded, batch, task, r) for r in range(2)]
    for name in ("rec", "cyc", "ort", "mar", "dec"):
        together = torch.stack([each[name] for each in expected])
        assert_close(found[name], together)
        given = torch.autograd.grad(found[name].sum(), leaves, retain_graph=True, allow_unused=True)
        wanted = torch.autograd.grad(together.sum(), leaves, retain_graph=True, allow_unused=True)
        for mine, theirs in zip(given, wanted, strict=True):
            assert (mine is None) == (theirs is None)
            if mine is not None:
                assert_close(mine, theirs, what=name)


def test_the_shared_encoder_has_one_set_of_weights() -> None:
    unit = decoupling()
    assert unit.shared.weight_EGIO.shape[:2] == (2, 1)
    assert unit.private.weight_EGIO.shape[:2] == (2, 3)
    assert unit.decoder.weight_EGIO.shape[:2] == (2, 3)


def test_padding_further_changes_no_loss_and_no_part() -> None:
    batch = in_double(random_batch((2, 2, 2)))
    unit, encoded = decoupling(), encoded_of(batch)
    longer = padded(batch, (2, 2, 2))
    stretched = [torch.nn.functional.pad(x, (0, 0, 0, 2)) for x in encoded]
    for name, value in losses(unit, stretched, longer, Task()).items():
        assert_close(value, losses(unit, encoded, batch, Task())[name])
    parts: Decoupled = unit(stretched, longer.masks)
    for x in (*parts.com, *parts.prt):
        assert x[:, :, :, -2:].eq(0).all()


def test_rows_that_do_not_count_and_absent_modalities_take_no_part() -> None:
    batch = in_double(random_batch((2, 2, 2), absent=0.4, uncounted=2, seed=5))
    unit, encoded = decoupling(), encoded_of(batch)
    without = chosen(batch, range(4))
    fewer = [x[:, :, :4] for x in encoded]
    for name, value in losses(unit, encoded, batch, Task()).items():
        assert_close(value, losses(unit, fewer, without, Task())[name])
    pooled = normal(2, 3, 6, WIDTH).double()
    spoiled = torch.where(batch.present_EMB.unsqueeze(-1), pooled, 77.0)
    spoiled[:, :, 4:] = -3.0
    for each in (pooled, spoiled):
        assert_close(
            margin_loss(each, batch, task=Task(), margin=0.15),
            margin_loss(pooled[:, :, :4], without, task=Task(), margin=0.15),
        )


def test_means_over_utterances_add_up_over_the_batches_of_an_update() -> None:
    """Exact accumulation; the margin loss is a mean over the triplets of a batch instead."""
    batch = in_double(random_batch((2, 2, 2), uncounted=0))
    unit, encoded = decoupling(), encoded_of(batch)
    whole = losses(unit, encoded, batch, Task())
    halves = [
        losses(unit, [x[:, :, rows] for x in encoded], chosen(batch, list(rows)), Task())
        for rows in ((0, 1, 2), (3, 4, 5))
    ]
    for name in ("rec", "cyc", "ort"):
        assert_close(whole[name], halves[0][name] + halves[1][name])


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


def test_a_margin_by_hand() -> None:
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


def test_classes_by_rounding_decide_who_is_near() -> None:
    same = _batch_of([0.5, -0.5, 0.2], Task())  # all round to 0
    apart = _batch_of([0.5, 1.5, 0.2], Task())  # 1.5 rounds to 2
    pooled = normal(2, 2, 3, WIDTH).double()
    assert margin_loss(pooled, same, task=Task(), margin=10.0).eq(0).all()
    assert margin_loss(pooled, apart, task=Task(), margin=10.0).gt(0).all()


def test_an_absent_modality_gives_finite_gradients() -> None:
    batch = in_double(random_batch((2, 2, 2), absent=0.5, seed=8))
    unit, encoded = decoupling(), encoded_of(batch)
    losses(unit, encoded, batch, Task())["dec"].sum().backward()
    assert all(x.grad.isfinite().all() for x in [*encoded, *unit.parameters()])
    for x, mask in zip(encoded, batch.masks, strict=True):
        assert x.grad[~mask].eq(0).all()
