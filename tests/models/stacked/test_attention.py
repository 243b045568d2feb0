"""Attention and transformer encoders against torch's own, a member and group at a time."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from dhmd.models.stacked.attention import Attention, TransformerEncoder, positions
from dhmd.models.stacked.layers import padding_bias
from tests.models.compare import assert_close
from tests.models.stacked.layers import cells, linear_of, masks, members, norm_of, normal, scatter


def torch_attention(ours: Attention, r: int, g: int) -> nn.MultiheadAttention:
    width = ours.query.weight_EGIO.shape[-1]
    theirs = nn.MultiheadAttention(width, ours.heads, batch_first=True)
    parts = [linear_of(part, r, g) for part in (ours.query, ours.key_value, ours.out)]
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts[:2]]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts[:2]]))
        theirs.out_proj.weight.copy_(parts[2].weight)
        theirs.out_proj.bias.copy_(parts[2].bias)
    return theirs


def test_attention_is_torchs_in_every_cell() -> None:
    ours = Attention(members(), 3, 6, 2, [0.0])
    x, keys = normal(2, 3, 4, 5, 6).requires_grad_(), normal(2, 3, 4, 7, 6, seed=1).requires_grad_()
    mask = masks(2, 3, 4, steps=7)
    y = ours(x, keys, padding_bias(mask))
    (y**2).sum().backward()
    for r, g in cells((2, 3)):
        theirs = torch_attention(ours, r, g)
        own, other = (t[r, g].detach().requires_grad_() for t in (x, keys))
        expected, _ = theirs(own, other, other, key_padding_mask=~mask[r, g])
        (expected**2).sum().backward()
        assert_close(y[r, g], expected, rtol=1e-4, atol=1e-5)
        assert_close(x.grad[r, g], own.grad, rtol=1e-4, atol=1e-5)
        assert_close(keys.grad[r, g], other.grad, rtol=1e-4, atol=1e-5)
        joint = theirs.in_proj_weight.grad
        assert_close(ours.query.weight_EGIO.grad[r, g].T, joint[:6], rtol=1e-4, atol=1e-5)
        assert_close(ours.key_value.weight_EGIO.grad[r, g].T, joint[6:], rtol=1e-4, atol=1e-5)


def encoder(groups: int, *, layers: int = 2) -> TransformerEncoder:
    ours = TransformerEncoder(
        members(),
        groups,
        6,
        heads=2,
        layers=layers,
        attention_dropout=[0.0] * groups,
        dropout=0.0,
        embedding_dropout=0.0,
    )
    scatter(ours)
    return ours


def torch_layer(ours: nn.Module, r: int, g: int) -> nn.TransformerEncoderLayer:
    """Torch's pre-norm layer, for self-attention."""
    theirs = nn.TransformerEncoderLayer(
        6, 2, dim_feedforward=24, dropout=0.0, batch_first=True, norm_first=True
    )
    theirs.self_attn = torch_attention(ours.attention, r, g)
    theirs.norm1, theirs.norm2 = norm_of(ours.norm_in, r, g), norm_of(ours.norm_middle, r, g)
    theirs.linear1, theirs.linear2 = linear_of(ours.up, r, g), linear_of(ours.down, r, g)
    return theirs


def test_a_self_attention_encoder_is_a_stack_of_torchs_layers() -> None:
    ours = encoder(3)
    x, mask = normal(2, 3, 4, 5, 6), masks(2, 3, 4, steps=5)
    y = ours(x, mask)
    for r, g in cells((2, 3)):
        own = x[r, g] * math.sqrt(6) + positions(x)
        for layer in ours.layers:
            own = torch_layer(layer, r, g)(own, src_key_padding_mask=~mask[r, g])
        real = mask[r, g]
        expected = norm_of(ours.norm, r, g)(own)
        assert_close(y[r, g][real], expected[real], rtol=1e-4, atol=1e-5)


def test_a_cross_attention_encoder_is_what_its_equations_say() -> None:
    ours = encoder(2)
    x, keys, mask = normal(2, 2, 4, 3, 6), normal(2, 2, 4, 5, 6, seed=1), masks(2, 2, 4, steps=5)
    keys = keys * mask.unsqueeze(-1)
    y = ours(x, mask, keys)
    for r, g in cells((2, 2)):
        own = x[r, g] * math.sqrt(6) + positions(x)
        other = keys[r, g] * math.sqrt(6) + positions(keys)
        for layer in ours.layers:
            norm = norm_of(layer.norm_in, r, g)
            queries, attended = norm(own), norm(other)
            attention = torch_attention(layer.attention, r, g)
            mixed, _ = attention(queries, attended, attended, key_padding_mask=~mask[r, g])
            own = own + mixed
            hidden = linear_of(layer.up, r, g)(norm_of(layer.norm_middle, r, g)(own)).relu()
            own = own + linear_of(layer.down, r, g)(hidden)
        assert_close(y[r, g], norm_of(ours.norm, r, g)(own), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("cross", [True, False])
def test_padding_further_changes_nothing(cross: bool) -> None:
    ours = encoder(2)
    x, mask = normal(2, 2, 4, 5, 6), masks(2, 2, 4, steps=5)
    mask[0, 0, 0] = False  # a sequence without any real step
    x = x * mask.unsqueeze(-1)
    longer, longer_mask = nn.functional.pad(x, (0, 0, 0, 3)), nn.functional.pad(mask, (0, 3))
    if cross:
        queries = normal(2, 2, 4, 3, 6, seed=1)
        assert_close(ours(queries, longer_mask, longer), ours(queries, mask, x))
    else:
        assert_close(ours(longer, longer_mask)[:, :, :, :5][mask], ours(x, mask)[mask])


def test_an_absent_sequence_is_attended_to_as_zeros_with_finite_gradients() -> None:
    ours = encoder(1)
    mask = torch.zeros(2, 1, 3, 4, dtype=torch.bool)
    keys = normal(2, 1, 3, 4, 6).requires_grad_()
    queries = normal(2, 1, 3, 2, 6, seed=1).requires_grad_()
    y = ours(queries, mask, keys)
    assert_close(y, ours(queries, mask, torch.zeros_like(keys)))
    y.square().sum().backward()
    assert keys.grad.eq(0).all()
    assert all(p.grad.isfinite().all() for p in [*ours.parameters(), queries])


def test_groups_one_by_one_are_the_stack() -> None:
    ours = encoder(3)
    x, mask = normal(2, 3, 4, 5, 6), masks(2, 3, 4, steps=5)
    y, crossed = ours(x, mask), ours(x, mask, x.flip(1))
    for g in range(3):
        own = slice(g, g + 1)
        assert_close(ours(x[:, own], mask[:, own], select=own), y[:, own])
        alone = ours(x[:, own], mask[:, own], x.flip(1)[:, own], select=own)
        assert_close(alone, crossed[:, own])


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
