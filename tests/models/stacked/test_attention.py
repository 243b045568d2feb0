"""Attention and transformer encoders compared with PyTorch's, per member and group."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from dhmd.models.config import DropoutConfig, ModelConfig
from dhmd.models.stacked.attention import Attention, TransformerEncoder, positions
from dhmd.models.stacked.layers import padding_bias
from tests.models.compare import assert_close
from tests.models.stacked.layers import (
    linear_of,
    masks,
    member_group_pairs,
    members,
    normal,
    randomise,
)


def torch_attention(ours: Attention, r: int, g: int) -> nn.MultiheadAttention:
    width = ours.query.weight_EGIO.shape[-1]
    reference = nn.MultiheadAttention(width, ours.heads, batch_first=True)
    parts = [linear_of(part, r, g) for part in (ours.query, ours.key_value, ours.out)]
    with torch.no_grad():
        reference.in_proj_weight.copy_(torch.cat([part.weight for part in parts[:2]]))
        reference.in_proj_bias.copy_(torch.cat([part.bias for part in parts[:2]]))
        reference.out_proj.weight.copy_(parts[2].weight)
        reference.out_proj.bias.copy_(parts[2].bias)
    return reference


def test_attention_equals_torch() -> None:
    ours = Attention(members(), 3, 6, 2, [0.0])
    x, keys = normal(2, 3, 4, 5, 6).requires_grad_(), normal(2, 3, 4, 7, 6, seed=1).requires_grad_()
    mask = masks(2, 3, 4, steps=7)
    y = ours(x, keys, padding_bias(mask))
    (y**2).sum().backward()
    for r, g in member_group_pairs((2, 3)):
        reference = torch_attention(ours, r, g)
        leaf, key_leaf = (t[r, g].detach().requires_grad_() for t in (x, keys))
        expected, _ = reference(leaf, key_leaf, key_leaf, key_padding_mask=~mask[r, g])
        (expected**2).sum().backward()
        assert_close(y[r, g], expected, rtol=1e-4, atol=1e-5)
        assert_close(x.grad[r, g], leaf.grad, rtol=1e-4, atol=1e-5)
        assert_close(keys.grad[r, g], key_leaf.grad, rtol=1e-4, atol=1e-5)
        joint = reference.in_proj_weight.grad
        assert_close(ours.query.weight_EGIO.grad[r, g].T, joint[:6], rtol=1e-4, atol=1e-5)
        assert_close(ours.key_value.weight_EGIO.grad[r, g].T, joint[6:], rtol=1e-4, atol=1e-5)


def encoder(groups: int) -> TransformerEncoder:
    dropout = DropoutConfig(attention={"text": 0.0}, layer=0.0)
    config = ModelConfig(width=6, heads=2, layers=2, dropout=dropout)
    ours = TransformerEncoder(members(), 6, config, attended=["text"] * groups)
    randomise(ours)
    return ours


def test_an_absent_sequence_is_equivalent_to_zeros() -> None:
    ours = encoder(1)
    mask = torch.zeros(2, 1, 3, 4, dtype=torch.bool)
    keys = normal(2, 1, 3, 4, 6).requires_grad_()
    queries = normal(2, 1, 3, 2, 6, seed=1).requires_grad_()
    y = ours(queries, mask, keys)
    assert_close(y, ours(queries, mask, torch.zeros_like(keys)))
    y.square().sum().backward()
    assert keys.grad.eq(0).all()
    assert all(p.grad.isfinite().all() for p in [*ours.parameters(), queries])


@pytest.mark.parametrize("width", [1, 2, 3, 4, 7, 50])
def test_positions_are_sines_and_cosines_by_step_and_rate(width: int) -> None:
    table = positions(torch.zeros(1, 1, 1, 6, width))
    half = width // 2
    assert table.shape == (6, width)
    for step in range(6):
        for index in range(half):
            angle = (step + 1) * 10000 ** (-index / max(half - 1, 1))
            assert table[step, index].item() == pytest.approx(math.sin(angle), abs=1e-5)
            assert table[step, half + index].item() == pytest.approx(math.cos(angle), abs=1e-5)
    if width > 2 and width % 2:
        assert table[:, -1].eq(0).all()
