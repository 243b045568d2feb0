"""Dropout: its rate, its mean, and that a seed's does not depend on its company."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from dhmd.models.stacked.dropout import Dropout
from dhmd.models.stacked.members import Members
from tests.models.stacked.layers import members, normal


def training(*seeds: int) -> Members:
    family = members(*seeds)
    family.training = True
    return family


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_entries_are_dropped_at_the_rate_and_the_mean_stays(rate: float) -> None:
    x = torch.ones(2, 1, 400, 500)
    y = Dropout(training(), rate)(x)
    kept = y != 0
    assert y[kept].unique().tolist() == pytest.approx([1 / (1 - rate)])
    for member in range(2):
        deviation = (rate * (1 - rate) / 200_000) ** 0.5
        assert kept[member].float().mean().item() == pytest.approx(1 - rate, abs=4 * deviation)
        assert y[member].mean().item() == pytest.approx(1, abs=4 * deviation / (1 - rate))


def test_each_group_has_its_rate() -> None:
    rates = (0.0, 0.25, 0.75)
    dropout = Dropout(training(), rates)
    y = dropout(torch.ones(2, 3, 300, 300))
    for group, rate in enumerate(rates):
        dropped = (y[:, group] == 0).float().mean().item()
        assert dropped == pytest.approx(rate, abs=0.006)
        assert y[:, group].mean().item() == pytest.approx(1, abs=0.02)
    alone = dropout(torch.ones(2, 1, 300, 300), slice(2, 3))
    assert (alone == 0).float().mean().item() == pytest.approx(0.75, abs=0.006)
    assert dropout(torch.ones(2, 1, 9), slice(0, 1)).eq(1).all()


@pytest.mark.parametrize("rates", [0.5, (0.5, 0.5), (0.0, 0.5)])
def test_gradient_is_what_the_forward_pass_kept(rates: float | Sequence[float]) -> None:
    x = normal(2, 2, 50, 6).requires_grad_()
    y = Dropout(training(), rates)(x)
    y.sum().backward()
    assert torch.allclose(x.grad * x.detach(), y.detach())


def test_nothing_is_dropped_outside_training_or_at_rate_zero() -> None:
    x = normal(2, 3, 5, 6)
    assert Dropout(members(), 0.5)(x) is x
    assert Dropout(training(), 0.0)(x) is x
    assert Dropout(training(), [0.0, 0.0, 0.0])(x) is x


@pytest.mark.parametrize("rates", [0.3, (0.3, 0.6)])
def test_a_seed_drops_the_same_alone_and_in_company(rates: float | Sequence[float]) -> None:
    alone, company = Dropout(training(7), rates), Dropout(training(3, 7, 9, 7), rates)
    for seed, shape in enumerate(((2, 4, 5), (2, 3), (2, 700, 90))):
        x = normal(*shape, seed=seed)
        y = company(x.expand(4, *shape))
        assert alone(x.unsqueeze(0))[0].equal(y[1])
        assert y[3].equal(y[1])
        assert not y[0].equal(y[1])


@pytest.mark.parametrize("rates", [0.3, (0.3, 0.6)])
def test_the_joint_forms_are_their_parts(rates: float | Sequence[float]) -> None:
    """`rectified` and `added` from the same streams as plain dropout, values and gradients."""
    x, base = normal(2, 2, 5, 6), normal(2, 2, 5, 6, seed=1)

    def run(form: str, joint: bool) -> list[torch.Tensor]:
        dropout = Dropout(training(), rates)
        own, other = x.clone().requires_grad_(), base.clone().requires_grad_()
        if form == "rectified":
            y = dropout.rectified(own) if joint else dropout(own.relu())
        else:
            y = dropout.added(other, own) if joint else other + dropout(own)
        (y**3).sum().backward()
        return [y, own.grad, *([] if form == "rectified" else [other.grad])]

    for form in ("rectified", "added"):
        for one, two in zip(run(form, True), run(form, False), strict=True):
            assert torch.allclose(one, two, atol=1e-6)


def test_the_joint_forms_without_dropout() -> None:
    x, base = normal(2, 3, 5, 6), normal(2, 3, 5, 6, seed=1)
    assert Dropout(members(), 0.5).rectified(x).equal(x.relu())
    assert Dropout(members(), 0.5).added(base, x).equal(base + x)
