"""Random streams of members: independence of other seeds, and distribution."""

from __future__ import annotations

import pytest
import torch
from scipy import stats

from dhmd.models.members import stream_seed
from tests.models.stacked.layers import members


def test_initial_values_do_not_depend_on_other_seeds() -> None:
    alone, together = members(7), members(3, 7, 9)
    for shape in ((4, 5), (1,), (2, 3, 3)):
        assert alone.uniform(*shape, bound=0.5)[0].equal(together.uniform(*shape, bound=0.5)[1])
        assert alone.normal(*shape)[0].equal(together.normal(*shape)[1])


def test_random_bits_do_not_depend_on_other_seeds() -> None:
    alone, together = members(7), members(3, 7, 9)
    for step in range(3):
        alone.begin_step()
        together.begin_step()
        for shape in ((3,), (1000, 5), (400, 1000), (7, 2, 2), (1,)):
            bits = together.bits(*shape)
            assert alone.bits(*shape)[0].equal(bits[1]), (step, shape)
            if bits[0].numel() > 8:
                assert not bits[0].equal(bits[1])


def test_equal_seeds_draw_equal_numbers() -> None:
    members_with_equal_seed = members(5, 5)
    bits = members_with_equal_seed.bits(300)
    assert bits[0].equal(bits[1])
    assert torch.randperm(50, generator=members_with_equal_seed.order[0]).equal(
        torch.randperm(50, generator=members_with_equal_seed.order[1])
    )


def test_a_restored_state_continues_the_streams() -> None:
    first = members(1, 2)
    first.bits(70_000)
    first.begin_step()
    state = {name: tensor.clone() for name, tensor in first.state().items()}
    expected = [first.bits(50), first.bits(90_000), first.bits(3)]
    order = [torch.randperm(20, generator=g) for g in first.order]
    other = members(1, 2)
    other.bits(11)
    other.restore(state)
    other.begin_step()
    for bits in expected:
        assert other.bits(*bits.shape[1:]).equal(bits)
    for generator, permutation in zip(other.order, order, strict=True):
        assert torch.randperm(20, generator=generator).equal(permutation)


def test_bits_are_uniform_over_all_values_and_independent() -> None:
    bits = members(11, 12).bits(1 << 18).long() + 32768
    assert bits.min() >= 0
    assert bits.max() <= 65535
    for row in bits:
        for part in (row // 256, row % 256):
            counts = torch.bincount(part, minlength=256)
            assert stats.chisquare(counts.numpy()).pvalue > 1e-4
        halves = row.double() - row.double().mean()
        neighbours = (halves[1:] * halves[:-1]).mean() / halves.square().mean()
        assert abs(neighbours) < 5 / 512
    pair = torch.corrcoef(bits.double())[0, 1]
    assert abs(pair) < 5 / 512


@pytest.mark.parametrize("rate", [0.0, 1 / 65536, 0.1, 0.5, 0.99])
def test_dropout_masks_have_their_rate(rate: float) -> None:
    count = 1 << 19
    mask = members(4).keep(count, rate=rate)
    assert mask.dtype == torch.bool
    deviation = (rate * (1 - rate) / count) ** 0.5
    assert 1 - mask.float().mean().item() == pytest.approx(rate, abs=4 * deviation + 1e-9)


def test_streams_of_seeds_and_purposes_differ() -> None:
    purposes = ("initialisation", "order", "dropout", "pretrain/text/-1", "pretrain/text/1")
    seeds = [stream_seed(seed, purpose) for seed in range(200) for purpose in purposes]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert stream_seed(1, "order") == stream_seed(1, "order")
