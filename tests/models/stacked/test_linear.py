"""Linear maps and temporal convolutions against torch's own, a member and group at a time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dhmd.models.stacked.linear import Linear, TemporalConvolution
from tests.models.stacked.layers import cells, linear_of, members, normal
from tests.oracle.compare import assert_close


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("middle", [(), (3,), (3, 4)])
def test_a_linear_stack_is_torchs_linear_in_every_cell(bias: bool, middle: tuple[int, ...]) -> None:
    ours = Linear(members(), 3, 5, 4, bias=bias)
    x = normal(2, 3, *middle, 5).requires_grad_()
    y = ours(x)
    assert y.shape == (2, 3, *middle, 4)
    (y**2).sum().backward()
    for r, g in cells((2, 3)):
        theirs = linear_of(ours, r, g)
        own = x[r, g].detach().requires_grad_()
        expected = theirs(own)
        (expected**2).sum().backward()
        assert_close(y[r, g], expected)
        assert_close(x.grad[r, g], own.grad)
        assert_close(ours.weight_EGIO.grad[r, g], theirs.weight.grad.T)
        if ours.bias_EGO is not None:
            assert_close(ours.bias_EGO.grad[r, g], theirs.bias.grad)


def test_one_group_of_weights_serves_all_groups_of_the_input() -> None:
    ours = Linear(members(), 1, 5, 4)
    x = normal(2, 3, 6, 5)
    for r, g in cells((2, 3)):
        assert_close(ours(x)[r, g], linear_of(ours, r, 0)(x[r, g]))
    assert_close(ours(x[:, 1:2], slice(1, 2)), ours(x)[:, 1:2])


def test_select_picks_the_weights_of_a_group() -> None:
    ours = Linear(members(), 3, 5, 4)
    x = normal(2, 3, 6, 5)
    for g in range(3):
        assert_close(ours(x[:, g : g + 1], slice(g, g + 1)), ours(x)[:, g : g + 1])


def test_initial_values_are_those_of_torch_and_the_members_differ() -> None:
    ours = Linear(members(1, 2, 1), 2, 400, 50)
    weight = ours.weight_EGIO.detach()
    bound = 400**-0.5
    assert weight.abs().max() <= bound
    assert weight.std() == pytest.approx(bound / 3**0.5, rel=0.02)
    assert not weight[0].equal(weight[1])
    assert weight[0].equal(weight[2])
    assert weight[0].equal(Linear(members(1), 2, 400, 50).weight_EGIO[0])


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("steps", [1, 2, 6])
def test_a_convolution_is_conv1d_in_every_member(kernel: int, steps: int) -> None:
    ours = TemporalConvolution(members(), 3, 4, kernel)
    x = normal(2, 1, 5, steps, 3).requires_grad_()
    y = ours(x)
    (y**2).sum().backward()
    for r in range(2):
        theirs = nn.Conv1d(3, 4, kernel, padding=kernel // 2)
        with torch.no_grad():
            theirs.weight.copy_(ours.weight_EIX[r].view(3, kernel, 4).permute(2, 0, 1))
            theirs.bias.copy_(ours.bias_EO[r])
        own = x[r, 0].detach().requires_grad_()
        expected = theirs(own.transpose(1, 2)).transpose(1, 2)
        (expected**2).sum().backward()
        assert_close(y[r, 0], expected)
        assert_close(x.grad[r, 0], own.grad)
        weight = theirs.weight.grad.permute(1, 2, 0).reshape(3, -1)
        assert_close(ours.weight_EIX.grad[r], weight)
        assert_close(ours.bias_EO.grad[r], theirs.bias.grad)


def test_padding_with_zeros_changes_no_step_of_a_convolution() -> None:
    ours = TemporalConvolution(members(), 3, 4, 5)
    x = normal(2, 1, 5, 6, 3)
    longer = nn.functional.pad(x, (0, 0, 0, 4))
    assert_close(ours(longer)[:, :, :, :6], ours(x))
