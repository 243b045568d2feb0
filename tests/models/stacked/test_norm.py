"""Layer normalisation against torch's own."""

from __future__ import annotations

from dhmd.models.stacked.norm import LayerNorm
from tests.models.stacked.layers import cells, members, norm_of, normal, scatter
from tests.oracle.compare import assert_close


def test_a_norm_is_torchs_in_every_cell() -> None:
    ours = LayerNorm(members(), 3, 6)
    scatter(ours)
    x = (normal(2, 3, 4, 5, 6) * 3 + 1).requires_grad_()
    y = ours(x)
    (y**3).sum().backward()
    for r, g in cells((2, 3)):
        theirs = norm_of(ours, r, g)
        own = x[r, g].detach().requires_grad_()
        expected = theirs(own)
        (expected**3).sum().backward()
        assert_close(y[r, g], expected)
        assert_close(x.grad[r, g], own.grad)
        assert_close(ours.scale_EGD.grad[r, g], theirs.weight.grad, rtol=1e-4, atol=1e-4)
        assert_close(ours.shift_EGD.grad[r, g], theirs.bias.grad, rtol=1e-4, atol=1e-4)


def test_groups_are_selected_and_shared_like_those_of_a_linear_map() -> None:
    ours, shared = LayerNorm(members(), 3, 6), LayerNorm(members(), 1, 6)
    scatter(ours)
    scatter(shared)
    x = normal(2, 3, 4, 6)
    assert_close(ours(x[:, 2:], slice(2, 3)), ours(x)[:, 2:])
    assert_close(shared(x)[1, 2], norm_of(shared, 1, 0)(x[1, 2]))
    assert_close(shared(x[:, 2:], slice(2, 3)), shared(x)[:, 2:])
