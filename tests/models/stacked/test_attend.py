"""Attention with dropout compared with its equation in plain operations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dhmd.models.stacked import attend as module
from dhmd.models.stacked.attend import attend
from dhmd.models.stacked.layers import Dropout, padding_bias
from tests.models.compare import assert_close
from tests.models.stacked.layers import CPU, masks, members, normal

HEADS, WIDTH, GROUPS, BATCH, STEPS, KEYS = 2, 6, 3, 4, 5, 7


def dropout(rates: tuple[float, ...]) -> Dropout:
    streams = members()
    return Dropout(streams, rates)


def attend_with_plain_operations(
    query: Tensor, pairs: Tensor, bias: Tensor, mask_values: Tensor
) -> Tensor:
    """Compute attention with plain tensor operations; `mask_values` multiply the weights."""
    q, k, v = (
        x.unflatten(-1, (HEADS, -1)).transpose(1, 2)
        for x in (query, pairs[..., :WIDTH], pairs[..., WIDTH:])
    )
    scores = q @ k.transpose(-1, -2) / math.sqrt(WIDTH // HEADS) + bias[:, None, None]
    return ((scores.softmax(-1) * mask_values) @ v).transpose(1, 2).flatten(2)


@pytest.mark.parametrize("rates", [(0.3, 0.3, 0.3), (0.4, 0.0, 0.2), (0.0, 0.0, 0.0)])
@pytest.mark.parametrize("block", [1, 60, 1 << 17])
def test_attend_equals_its_equation_for_any_block_size(
    rates: tuple[float, ...], block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", block)
    sequences = 2 * GROUPS * BATCH
    inputs = [normal(sequences, STEPS, WIDTH), normal(sequences, KEYS, 2 * WIDTH, seed=1)]
    bias = padding_bias(masks(2, GROUPS, BATCH, steps=KEYS)).flatten(0, 2)
    mask = dropout(rates).attention_mask((GROUPS, BATCH), (HEADS, STEPS, KEYS))
    mask_values = torch.ones(2, GROUPS, BATCH, HEADS, STEPS, KEYS)
    if mask is not None:
        active = iter(range(GROUPS))
        for group, rate in enumerate(rates):
            if rate > 0:
                bits = mask.bits_EAXTU[:, next(active)].view(2, BATCH, HEADS, STEPS, KEYS)
                mask_values[:, group] = (bits >= round(rate * 65536) - 32768) / (1 - rate)
    actual, expected = [], []
    for function, result in ((attend, actual), (attend_with_plain_operations, expected)):
        leaves = [x.clone().requires_grad_() for x in inputs]
        if function is attend:
            y = attend(*leaves, bias, HEADS, mask)
        else:
            y = attend_with_plain_operations(*leaves, bias, mask_values.flatten(0, 2))
        (y**3).sum().backward()
        result += [y, *(x.grad for x in leaves)]
    for one, other in zip(actual, expected, strict=True):
        assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_groups_without_dropout_use_no_random_bits() -> None:
    mask = dropout((0.4, 0.0, 0.2)).attention_mask((GROUPS, BATCH), (HEADS, STEPS, KEYS))
    assert mask is not None
    assert mask.bits_EAXTU.shape == (2, 2, BATCH * HEADS, STEPS, KEYS)
    assert dropout((0.4, 0.0)).attention_mask((1, BATCH), (1, 1, 1), slice(1, 2)) is None


def test_a_gpu_uses_one_block_with_one_limit_per_group() -> None:
    """Compute the masks of a GPU's only block on the CPU."""
    rates = (0.4, 0.0, 0.2)
    layer = dropout(rates)
    bits = layer.members.bits(GROUPS, BATCH * HEADS, STEPS, KEYS)
    numbers = tuple(layer.thresholds_G.tolist())
    mask = module.DropoutMask(bits, (True,) * GROUPS, layer.thresholds_G, layer.scales_G, numbers)
    count = bits.shape[:3].numel()
    like = torch.zeros(count, STEPS, KEYS)
    [block] = module._blocks(count, STEPS * KEYS, mask, torch.device("cuda"))
    apart = [b.mask(like[b.part]) for b in module._blocks(count, STEPS * KEYS, mask, CPU)]
    assert block.mask(like).equal(torch.cat(apart))
