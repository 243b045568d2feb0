"""Layers of the stacked engine compared with PyTorch's, per member and group."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from dhmd.models.stacked.layers import (
    GRU,
    Dropout,
    Linear,
    TemporalConvolution,
    by_group,
    masked_max,
    masked_mean,
)
from tests.models.compare import assert_close
from tests.models.stacked.layers import masks, members, normal

# ---- linear maps and convolutions ----------------------------------------------------------------


def test_initial_values_have_the_bounds_of_torch() -> None:
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
def test_temporal_convolution_equals_conv1d(kernel: int, steps: int) -> None:
    ours = TemporalConvolution(members(), 3, 4, kernel)
    x = normal(2, 1, 5, steps, 3).requires_grad_()
    y = ours(x)
    (y**2).sum().backward()
    for r in range(2):
        reference = nn.Conv1d(3, 4, kernel, padding=kernel // 2)
        with torch.no_grad():
            reference.weight.copy_(ours.weight_EIX[r].view(3, kernel, 4).permute(2, 0, 1))
            reference.bias.copy_(ours.bias_EO[r])
        leaf = x[r, 0].detach().requires_grad_()
        expected = reference(leaf.transpose(1, 2)).transpose(1, 2)
        (expected**2).sum().backward()
        assert_close(y[r, 0], expected)
        assert_close(x.grad[r, 0], leaf.grad)
        weight = reference.weight.grad.permute(1, 2, 0).reshape(3, -1)
        assert_close(ours.weight_EIX.grad[r], weight)
        assert_close(ours.bias_EO.grad[r], reference.bias.grad)


# ---- the GRU -------------------------------------------------------------------------------------


def torch_gru(ours: GRU, member: int, inputs: int) -> nn.GRU:
    reference = nn.GRU(inputs, ours.hidden, batch_first=True, bidirectional=True)
    parameters = dict(reference.named_parameters())
    with torch.no_grad():
        for group, suffix in enumerate(("", "_reverse")):
            for part, name in ((ours.input, "ih"), (ours.state, "hh")):
                parameters[f"weight_{name}_l0{suffix}"].copy_(part.weight_EGIO[member, group].T)
                parameters[f"bias_{name}_l0{suffix}"].copy_(part.bias_EGO[member, group])
    return reference


def test_gru_equals_torch_on_packed_sequences() -> None:
    ours = GRU(members(), 3, 4)
    mask = masks(2, 1, 5, steps=6)
    x = (normal(2, 1, 5, 6, 3) * mask.unsqueeze(-1)).requires_grad_()
    states = ours(x, mask)
    real = mask.expand(-1, 2, -1, -1).unsqueeze(-1)
    ((states * real) ** 2).sum().backward()
    for r in range(2):
        reference = torch_gru(ours, r, 3)
        leaf = x[r, 0].detach().requires_grad_()
        lengths = mask[r, 0].sum(-1)
        packed = pack_padded_sequence(leaf, lengths, batch_first=True, enforce_sorted=False)
        expected, _ = pad_packed_sequence(reference(packed)[0], batch_first=True, total_length=6)
        (expected**2).sum().backward()
        both = torch.cat(list(states[r]), dim=-1)
        assert_close(both * mask[r, 0].unsqueeze(-1), expected)
        assert_close(x.grad[r, 0], leaf.grad)
        grads = {name: p.grad for name, p in reference.named_parameters()}
        for group, suffix in enumerate(("", "_reverse")):
            assert_close(ours.input.weight_EGIO.grad[r, group].T, grads[f"weight_ih_l0{suffix}"])
            assert_close(ours.state.weight_EGIO.grad[r, group].T, grads[f"weight_hh_l0{suffix}"])


# ---- pooling -------------------------------------------------------------------------------------


def _cases() -> tuple[torch.Tensor, torch.Tensor]:
    mask = masks(2, 3, 4, steps=5, least=0)
    mask[0, 0, 0] = False
    mask[0, 0, 1] = True
    return normal(2, 3, 4, 5, 6), mask


def test_means_and_maxima_ignore_padding() -> None:
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


def test_the_gradient_reaches_one_of_equal_maxima() -> None:
    x = torch.ones(1, 1, 1, 3, 1, requires_grad=True)
    mask = torch.ones(1, 1, 1, 3, dtype=torch.bool)
    masked_max(x, mask).sum().backward()
    assert sorted(x.grad.flatten().tolist()) == [0.0, 0.0, 1.0]


# ---- groups --------------------------------------------------------------------------------------


class Counting(nn.Module):
    """A linear map that counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = Linear(members(), 3, 4, 5)
        self.runs = 0

    def forward(self, x: Tensor, select: slice = slice(None)) -> Tensor:
        self.runs += 1
        return self.linear(x, select)


def test_by_group_gives_the_same_results_together_and_one_by_one() -> None:
    module = Counting()
    inputs = [normal(2, 1, 6, 3, 4, seed=m) for m in range(3)]
    together = by_group(module, inputs)
    assert module.runs == 1
    ragged = [inputs[0], torch.nn.functional.pad(inputs[1], (0, 0, 0, 2)), inputs[2]]
    apart = by_group(module, ragged)
    assert module.runs == 4
    for one, other in zip(together, apart, strict=True):
        assert one.shape[1] == 1
        assert_close(one, other[:, :, :, :3])


# ---- dropout -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_dropout_has_its_rate_and_preserves_the_mean(rate: float) -> None:
    x = torch.ones(2, 1, 400, 500)
    y = Dropout(members(), rate)(x)
    nonzero = y != 0
    assert y[nonzero].unique().tolist() == pytest.approx([1 / (1 - rate)])
    for member in range(2):
        deviation = (rate * (1 - rate) / 200_000) ** 0.5
        assert nonzero[member].float().mean().item() == pytest.approx(1 - rate, abs=4 * deviation)
        assert y[member].mean().item() == pytest.approx(1, abs=4 * deviation / (1 - rate))


def test_each_group_has_its_rate() -> None:
    rates = (0.0, 0.25, 0.75)
    dropout = Dropout(members(), rates)
    y = dropout(torch.ones(2, 3, 300, 300))
    for group, rate in enumerate(rates):
        dropped = (y[:, group] == 0).float().mean().item()
        assert dropped == pytest.approx(rate, abs=0.006)
        assert y[:, group].mean().item() == pytest.approx(1, abs=0.02)
    alone = dropout(torch.ones(2, 1, 300, 300), slice(2, 3))
    assert (alone == 0).float().mean().item() == pytest.approx(0.75, abs=0.006)
    assert dropout(torch.ones(2, 1, 9), slice(0, 1)).eq(1).all()


@pytest.mark.parametrize("rates", [0.5, (0.5, 0.5), (0.0, 0.5)])
def test_dropout_gradient_uses_the_mask_of_the_forward_pass(rates: float | Sequence[float]) -> None:
    x = normal(2, 2, 50, 6).requires_grad_()
    y = Dropout(members(), rates)(x)
    y.sum().backward()
    assert torch.allclose(x.grad * x.detach(), y.detach())


def test_dropout_is_off_in_evaluation_mode_and_at_rate_zero() -> None:
    x = normal(2, 3, 5, 6)
    assert Dropout(members(), 0.5).eval()(x) is x
    assert Dropout(members(), 0.0)(x) is x
    assert Dropout(members(), [0.0, 0.0, 0.0])(x) is x


@pytest.mark.parametrize("rates", [0.3, (0.3, 0.6)])
def test_dropout_masks_do_not_depend_on_other_seeds(rates: float | Sequence[float]) -> None:
    alone, together_dropout = Dropout(members(7), rates), Dropout(members(3, 7, 9, 7), rates)
    for seed, shape in enumerate(((2, 4, 5), (2, 3), (2, 700, 90))):
        x = normal(*shape, seed=seed)
        y = together_dropout(x.expand(4, *shape))
        assert alone(x.unsqueeze(0))[0].equal(y[1])
        assert y[3].equal(y[1])
        assert not y[0].equal(y[1])


@pytest.mark.parametrize("rates", [0.3, (0.3, 0.6)])
def test_fused_dropout_equals_separate_operations(rates: float | Sequence[float]) -> None:
    """Compare `rectified` and `added` with separate operations on the same random stream."""
    x, base = normal(2, 2, 5, 6), normal(2, 2, 5, 6, seed=1)

    def run(form: str, joint: bool) -> list[torch.Tensor]:
        dropout = Dropout(members(), rates)
        leaf, other = x.clone().requires_grad_(), base.clone().requires_grad_()
        if form == "rectified":
            y = dropout.rectified(leaf) if joint else dropout(leaf.relu())
        else:
            y = dropout.added(other, leaf) if joint else other + dropout(leaf)
        (y**3).sum().backward()
        return [y, leaf.grad, *([] if form == "rectified" else [other.grad])]

    for form in ("rectified", "added"):
        for one, two in zip(run(form, True), run(form, False), strict=True):
            assert torch.allclose(one, two, atol=1e-6)


def test_fused_dropout_is_off_in_evaluation_mode() -> None:
    x, base = normal(2, 3, 5, 6), normal(2, 3, 5, 6, seed=1)
    assert Dropout(members(), 0.5).eval().rectified(x).equal(x.relu())
    assert Dropout(members(), 0.5).eval().added(base, x).equal(base + x)
