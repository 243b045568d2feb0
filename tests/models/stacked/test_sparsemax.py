"""Sparsemax compared with sorting, and its Fenchel–Young loss with the definition."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dhmd.models.losses import fenchel_young
from dhmd.models.stacked import kernels
from dhmd.models.stacked.sparsemax import sparsemax
from tests.models import equations
from tests.models.compare import assert_close
from tests.models.stacked.layers import NATIVE, normal


def staircase(num_codes: int, top: int, fraction: float) -> Tensor:
    """Return scores for which Newton's method is slow, since each step removes one group only.

    There are `top` scores of 0, then lower and lower groups. While a group is in the support, a
    step sets its threshold just below the next higher group; it leaves `fraction` of the
    support.
    """
    counts, depths = [top], [0.0]
    size, total, depth = top, 0.0, (1 + 1e-4) / top
    while size < num_codes and depth <= 1:
        count = min(num_codes - size, max(1, round(size * (1 - fraction) / fraction)))
        if len(counts) > 1:
            depth = (depth * (1 + 1e-6) * (size + count) - total - 1) / count
        counts.append(count)
        depths.append(depth)
        size, total = size + count, total + count * depth
    scores = -torch.tensor(depths, dtype=torch.float64).repeat_interleave(torch.tensor(counts))
    scores = scores[torch.randperm(len(scores), generator=torch.Generator().manual_seed(0))]
    return scores.float()


def powers(base: float) -> Tensor:
    return torch.tensor([base**k for k in range(512)], dtype=torch.float64).float()


ADVERSARIAL = {
    "one": torch.zeros(1),
    "two": torch.tensor([0.3, -0.2]),
    "all equal": torch.full((512,), 3.25),
    "ties at the threshold": torch.tensor([1.0, 0.0, 0.0, 0.0]),
    "ties at the top": torch.tensor([2.0] * 5 + [1.9] * 7 + [0.0] * 500),
    "ties just kept": torch.tensor([0.5] * 4 + [0.25] * 8),
    "slow decay": -powers(0.99),
    "fast decay": -powers(0.5),
    "approach": powers(0.99),
    "halving": powers(0.5),
    "line": torch.linspace(-1, 0, 512),
    "narrow line": torch.linspace(-0.003, 0, 512),
    "parabola": -(torch.linspace(0, 1, 512) ** 6),
    "one ahead": torch.cat([torch.tensor([9.0]), torch.linspace(0, 1, 511)]),
    "far below": torch.cat([torch.full((500,), -1e6), torch.linspace(0, 1, 12)]),
    "staircase .5": staircase(512, 2, 0.5),
    "staircase .65": staircase(512, 2, 0.65),
    "staircase .7": staircase(512, 4, 0.7),
    "staircase .9": staircase(512, 8, 0.9),
    "longer staircase": staircase(2048, 2, 0.65),
}


@pytest.mark.parametrize("native", NATIVE)
@pytest.mark.parametrize("name", ADVERSARIAL)
def test_newton_equals_sorting(name: str, native: bool) -> None:
    z = ADVERSARIAL[name]
    for scores in (z, z + 7.5, z * 10, z * 0.1, z + 4096, z * 1e6):
        with kernels.using(native=native):
            p = sparsemax(scores)
        assert_close(p.double(), equations.sparsemax(scores.double()), rtol=0, atol=1e-6)


@pytest.mark.parametrize("num_codes", [2, 3, 16, 128, 512])
@pytest.mark.parametrize("scale", [0.01, 0.3, 1.0, 10.0, 100.0])
@pytest.mark.parametrize("native", NATIVE)
def test_sparsemax_projects_on_the_simplex(num_codes: int, scale: float, native: bool) -> None:
    z = normal(40, num_codes, seed=num_codes) * scale
    with kernels.using(native=native):
        p = sparsemax(z)
    assert (p >= 0).all()
    assert_close(p.sum(-1), torch.ones(40), rtol=0, atol=1e-5)
    expected = equations.sparsemax(z.double())
    assert_close(p.double(), expected, rtol=0, atol=1e-6)
    # The support is the same but for entries that rounding decides.
    assert (p.double() + expected)[(p > 0) != (expected > 0)].lt(1e-6).all()


def test_the_gradient_equals_finite_differences() -> None:
    z = normal(6, 9).double().requires_grad_()
    assert torch.autograd.gradcheck(sparsemax, (z,))
    weight = normal(6, 9, seed=1).double()
    (sparsemax(z) * weight).sum().backward()
    by_sorting = z.detach().requires_grad_()
    (equations.sparsemax(by_sorting) * weight).sum().backward()
    assert_close(z.grad, by_sorting.grad)


def _scores_and_target() -> tuple[Tensor, Tensor]:
    z = (normal(30, 12) * 2).double()
    return z, equations.sparsemax((normal(30, 12, seed=1) * 2).double())


def test_fenchel_young_equals_its_definition() -> None:
    z, target = _scores_and_target()
    loss = fenchel_young(z, sparsemax(z), target)
    # sup over the simplex of z·p − ½‖p‖², by scanning many points of it as well.
    for row in range(len(z)):
        assert_close(loss[row], equations.fenchel_young(z[row], target[row]))
        points = torch.rand(2000, 12, dtype=torch.float64).pow(4)
        points = points / points.sum(-1, keepdim=True)
        reached = (points @ z[row] - 0.5 * points.square().sum(-1)).max()
        at_target = z[row] @ target[row] - 0.5 * target[row] @ target[row]
        assert loss[row] >= reached - at_target - 1e-9
    assert (loss >= -1e-12).all()


def test_the_gradient_of_fenchel_young_is_p_minus_a() -> None:
    z, target = _scores_and_target()
    z.requires_grad_()
    target = target.requires_grad_()
    p = sparsemax(z)
    fenchel_young(z, p, target).sum().backward()
    assert_close(z.grad, (p - target).detach())
    assert target.grad is None
    off = (p == 0) & (target > 0)
    assert off.any()
    assert z.grad[off].lt(0).all()

    def by_definition(z: Tensor) -> Tensor:
        rows = zip(z, target.detach(), strict=True)
        return torch.stack([equations.fenchel_young(*row) for row in rows])

    again = z.detach().requires_grad_()
    by_definition(again).sum().backward()
    assert_close(z.grad, again.grad)
    few = z.detach()[:3].requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: fenchel_young(z, sparsemax(z), target.detach()[:3]), (few,)
    )
