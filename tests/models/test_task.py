"""Losses, distances and predictions of the tasks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dhmd.models.task import Task
from tests.models import equations
from tests.models.compare import assert_close
from tests.models.stacked.layers import normal

REGRESSION, CLASSES = Task(low=-2.0, high=2.0), Task(classes=4)


def test_regression_loss_is_the_absolute_error() -> None:
    assert REGRESSION.outputs == 1
    output, labels = normal(2, 3, 5, 1), normal(2, 1, 5, seed=1)
    loss = REGRESSION.loss(output, labels)
    assert loss.shape == (2, 3, 5)
    assert_close(loss[1, 2, 4], (output[1, 2, 4, 0] - labels[1, 0, 4]).abs())


def test_classification_loss_is_the_cross_entropy() -> None:
    assert CLASSES.outputs == 4
    output = normal(2, 3, 5, 4)
    labels = torch.randint(4, (2, 5)).float()
    loss = CLASSES.loss(output, labels.unsqueeze(1))
    assert loss.shape == (2, 3, 5)
    for m in range(3):
        for r in range(2):
            expected = nn.functional.cross_entropy(output[r, m], labels[r].long(), reduction="none")
            assert_close(loss[r, m], expected)
    assert_close(loss[0, 1, 2], equations.task_loss(output[0, 1, 2], labels[0, 2], CLASSES))


@pytest.mark.parametrize("tau", [0.5, 1.0, 3.0])
def test_distance_has_no_gradient_to_the_teacher(tau: float) -> None:
    student = normal(4, 1).requires_grad_()
    teacher = normal(4, 1, seed=1).requires_grad_()
    distance = REGRESSION.distance(student, teacher, tau)
    assert_close(distance, (student - teacher)[:, 0] ** 2)
    distance.sum().backward()
    assert teacher.grad is None
    assert_close(student.grad, 2 * (student - teacher).detach())

    logits = normal(5, 4).requires_grad_()
    probabilities = normal(5, 4, seed=1).softmax(-1).requires_grad_()
    distance = CLASSES.distance(logits, probabilities, tau)
    softened = (probabilities.log() / tau).softmax(-1)
    expected = (softened * (softened.log() - (logits / tau).log_softmax(-1))).sum(-1) * tau**2
    assert_close(distance, expected)
    distance.sum().backward()
    assert probabilities.grad is None
    assert_close(logits.grad, tau * ((logits / tau).softmax(-1) - softened).detach())


def test_the_distance_of_equal_predictions_is_zero() -> None:
    logits = normal(5, 4)
    assert_close(CLASSES.distance(logits, logits.softmax(-1), 0.5), torch.zeros(5))


def test_the_distance_to_a_one_hot_teacher_is_finite() -> None:
    certain = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    distance = CLASSES.distance(normal(1, 4), certain, 0.5)
    assert distance.isfinite().all()
    absent = CLASSES.distance(normal(1, 4), torch.zeros(1, 4), 0.5)
    assert absent.isfinite().all()


def test_margin_classes_are_clipped_and_rounded_half_to_even() -> None:
    labels = torch.tensor([-5.0, -2.5, -1.5, -0.5, 0.5, 1.5, 1.4999, 2.5, 0.0])
    expected = [-2.0, -2.0, -2.0, 0.0, 0.0, 2.0, 1.0, 2.0, 0.0]
    assert REGRESSION.margin_classes(labels).tolist() == expected
    assert [equations.class_of(y, REGRESSION) for y in labels] == expected
    index = torch.tensor([0.0, 3.0])
    assert CLASSES.margin_classes(index).equal(index)


def test_outputs_are_converted_to_predictions() -> None:
    output = normal(3, 4)
    assert REGRESSION.predictions(output[:, :1]).equal(output[:, :1])
    assert_close(CLASSES.predictions(output).sum(-1), torch.ones(3))


SETS = Task(classes=3, multilabel=True)


def test_a_set_of_classes_is_learnt_as_binary_problems() -> None:
    output, labels = normal(2, 5, 3), torch.tensor([0b1000, 0b1101, 0b1010, 0b1111, 0b1100])
    members = torch.tensor([[0, 0, 0], [1, 0, 1], [0, 1, 0], [1, 1, 1], [0, 0, 1]]).float()
    loss = SETS.loss(output, labels.float())
    each = nn.functional.binary_cross_entropy(
        output.sigmoid(), members.expand(2, 5, 3), reduction="none"
    )
    assert_close(loss, each.mean(-1))
    assert_close(SETS.predictions(output), output.sigmoid())
    hits = ((output > 0) == (members > 0)).float().mean(-1)
    assert_close(SETS.correct(output, labels.float()), hits)
    zero = SETS.distance(output, output.sigmoid(), 0.5)
    assert_close(zero, torch.zeros(2, 5))
    assert SETS.distance(output, members.expand(2, 5, 3), 0.5).isfinite().all()
