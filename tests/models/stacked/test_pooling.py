"""Masked summaries against loops over real steps."""

from __future__ import annotations

import torch

from dhmd.models.stacked.pooling import masked_max, masked_mean, zero_padding
from tests.models.stacked.layers import masks, normal
from tests.oracle.compare import assert_close


def _cases() -> tuple[torch.Tensor, torch.Tensor]:
    mask = masks(2, 3, 4, steps=5, least=0)
    mask[0, 0, 0] = False
    mask[0, 0, 1] = True
    return normal(2, 3, 4, 5, 6), mask


def test_means_and_maxima_are_over_real_steps_alone() -> None:
    x, mask = _cases()
    mean, highest = masked_mean(x, mask), masked_max(x, mask)
    for r in range(2):
        for g in range(3):
            for b in range(4):
                real = [x[r, g, b, t] for t in range(5) if mask[r, g, b, t]]
                if not real:
                    assert mean[r, g, b].eq(0).all()
                    assert highest[r, g, b].eq(0).all()
                    continue
                assert_close(mean[r, g, b], sum(real) / len(real))
                for k in range(6):
                    assert highest[r, g, b, k] == max(step[k] for step in real)


def test_no_gradient_reaches_padding() -> None:
    x, mask = _cases()
    for pooled in (masked_mean, masked_max):
        leaf = x.clone().requires_grad_()
        pooled(leaf, mask).square().sum().backward()
        assert leaf.grad.isfinite().all()
        assert leaf.grad[~mask].eq(0).all()
        assert leaf.grad[mask].ne(0).any()


def test_one_of_several_equal_maxima_gets_the_gradient() -> None:
    x = torch.ones(1, 1, 1, 3, 1, requires_grad=True)
    mask = torch.ones(1, 1, 1, 3, dtype=torch.bool)
    masked_max(x, mask).sum().backward()
    assert sorted(x.grad.flatten().tolist()) == [0.0, 0.0, 1.0]


def test_zero_padding_leaves_real_steps() -> None:
    x, mask = _cases()
    y = zero_padding(x, mask)
    assert y[~mask].eq(0).all()
    assert y[mask].equal(x[mask])
