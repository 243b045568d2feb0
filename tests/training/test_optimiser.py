"""The stacked optimiser equals one torch.optim.AdamW per member."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dhmd.models.learner import ParameterGroup
from dhmd.models.stacked import kernels
from dhmd.training.optimiser import MemberAdam
from tests.models.compare import assert_close
from tests.models.stacked.layers import NATIVE

MEMBERS = 3


class Stack(nn.Module):
    """Two parameters, the second with a member axis before a scalar."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.matrix = nn.Parameter(torch.randn(MEMBERS, 2, 4, generator=generator))
        self.codes = nn.Parameter(torch.randn(MEMBERS, generator=generator))


def gradients(step: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    scale = 0.1 if step % 3 else 3.0  # some are clipped
    return {
        "matrix": torch.randn(MEMBERS, 2, 4, generator=generator) * scale,
        "codes": torch.randn(MEMBERS, generator=generator) * scale,
    }


def factor(name: str) -> float:
    return 10.0 if name == "codes" else 1.0


def group_of(name: str) -> ParameterGroup:
    return ParameterGroup(learning_rate=factor(name))


@pytest.mark.parametrize("native", NATIVE)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_every_member_equals_adamw(weight_decay: float, native: bool) -> None:
    module = Stack()
    start = {name: p.detach().clone() for name, p in module.named_parameters()}
    ours = MemberAdam(module, MEMBERS, weight_decay=weight_decay, clip_value=0.6, group=group_of)
    rates = [0.01, 0.003, 0.02]
    own, theirs = [], []
    for member, rate in enumerate(rates):
        values = {name: nn.Parameter(value[member].clone()) for name, value in start.items()}
        groups = [{"params": [value], "lr": rate * factor(name)} for name, value in values.items()]
        own.append(values)
        theirs.append(torch.optim.AdamW(groups, weight_decay=weight_decay))
    for step in range(12):
        scale = 0.5 if step >= 6 else 1.0  # the schedules lower their rates
        ours.set_rates(torch.tensor(rates) * scale)
        ours.zero_grad()
        for name, gradient in gradients(step).items():
            module.get_parameter(name).grad.add_(gradient)
        with kernels.using(native=native):
            ours.step()
        for member, optimiser in enumerate(theirs):
            for group in optimiser.param_groups:
                (value,) = group["params"]
                name = next(n for n, p in own[member].items() if p is value)
                group["lr"] = rates[member] * scale * factor(name)
                value.grad = gradients(step)[name][member].clamp(-0.6, 0.6)
            optimiser.step()
            for name, value in own[member].items():
                assert_close(
                    module.get_parameter(name)[member].detach(),
                    value.detach(),
                    rtol=1e-6,
                    atol=2e-7,
                    what=f"step {step}, member {member}, {name}",
                )


@pytest.mark.parametrize("native", NATIVE)
def test_a_member_without_decay_equals_adam(native: bool) -> None:
    module = Stack()
    wanted = nn.Parameter(module.matrix[0].detach().clone())
    ours = MemberAdam(module, MEMBERS, weight_decay=0.0, clip_value=100.0)
    ours.set_rates(torch.full((MEMBERS,), 0.01))
    theirs = torch.optim.Adam([wanted], lr=0.01)
    for step in range(300):
        ours.zero_grad()
        gradient = gradients(step)["matrix"]
        module.get_parameter("matrix").grad.add_(gradient)
        with kernels.using(native=native):
            ours.step()
        wanted.grad = gradient[0]
        theirs.step()
        if step in (0, 1, 2, 299):
            found = module.get_parameter("matrix")[0].detach()
            assert_close(found, wanted.detach(), rtol=1e-6, atol=2e-6, what=f"step {step}")


def test_a_member_with_rate_zero_is_frozen() -> None:
    module = Stack()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    ours = MemberAdam(module, MEMBERS, weight_decay=0.1, clip_value=0.6)
    ours.set_rates(torch.tensor([0.01, 0.0, 0.01]))
    for name, gradient in gradients(1).items():
        module.get_parameter(name).grad.add_(gradient)
    ours.step()
    for name, value in before.items():
        now = module.get_parameter(name)
        assert now[1].equal(value[1])
        assert now[0].ne(value[0]).all()
        assert now[2].ne(value[2]).all()


def test_parameters_and_gradients_are_views_of_the_flat_buffers() -> None:
    module = Stack()
    ours = MemberAdam(module, MEMBERS, weight_decay=0.0, clip_value=0.6)
    assert ours.values_P.numel() == MEMBERS * 9
    module.codes.square().sum().backward()
    assert ours.grads_P[-MEMBERS:].equal(2 * module.codes.detach())
    ours.zero_grad()
    assert module.codes.grad.eq(0).all()
    ours.values_P.fill_(4.0)
    assert module.matrix.eq(4).all()
    marked = ours.of_member(torch.tensor([False, True, False]))
    ours.values_P[marked] = 7.0
    assert module.matrix[1].eq(7).all()
    assert module.codes.tolist() == [4.0, 7.0, 4.0]


def test_a_restored_state_gives_the_same_updates() -> None:
    def optimiser() -> tuple[Stack, MemberAdam]:
        module = Stack()
        ours = MemberAdam(module, MEMBERS, weight_decay=0.1, clip_value=0.6)
        ours.set_rates(torch.tensor([0.01, 0.02, 0.03]))
        return module, ours

    def advance(module: Stack, ours: MemberAdam, steps: range) -> None:
        for step in steps:
            ours.zero_grad()
            for name, gradient in gradients(step).items():
                module.get_parameter(name).grad.add_(gradient)
            ours.step()

    first, ours = optimiser()
    advance(first, ours, range(4))
    state = {name: value.clone() for name, value in ours.state().items()}
    advance(first, ours, range(4, 7))
    second, other = optimiser()
    other.restore(state)
    advance(second, other, range(4, 7))
    assert other.values_P.equal(ours.values_P)


def test_weight_decay_per_parameter() -> None:
    module = Stack()
    module.fixed = nn.Parameter(torch.ones(MEMBERS), requires_grad=False)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    groups = {"matrix": ParameterGroup(weight_decay=0.0), "codes": ParameterGroup()}
    ours = MemberAdam(
        module, MEMBERS, weight_decay=0.5, clip_value=1.0, group=lambda name: groups[name]
    )
    ours.set_rates(torch.full((MEMBERS,), 0.1))
    ours.step()
    assert module.matrix.equal(before["matrix"])
    assert_close(module.codes.detach(), before["codes"] * (1 - 0.1 * 0.5))
    assert module.fixed.equal(before["fixed"])


def test_a_phase_updates_only_its_parameters() -> None:
    module, alone = Stack(), Stack()
    phases = {"matrix": ParameterGroup(phase="first"), "codes": ParameterGroup()}
    ours = MemberAdam(
        module,
        MEMBERS,
        weight_decay=0.1,
        clip_value=0.6,
        group=lambda name: phases[name],
        phases=("first", "main"),
    )
    del alone.matrix
    own = MemberAdam(alone, MEMBERS, weight_decay=0.1, clip_value=0.6)
    for optimiser in (ours, own):
        optimiser.set_rates(torch.full((MEMBERS,), 0.1))
    start = module.matrix.detach().clone()
    for step, phase in enumerate(("main", "first", "main", "main")):
        ours.zero_grad()
        for name, gradient in gradients(step).items():
            module.get_parameter(name).grad.add_(gradient)
        before = module.matrix.detach().clone()
        ours.step(phase)
        assert module.matrix.equal(before) == (phase == "main")
        if phase == "main":
            own.zero_grad()
            alone.codes.grad.add_(gradients(step)["codes"])
            own.step()
    assert module.codes.equal(alone.codes)
    assert ours.steps.tolist() == [1, 3]
    ours.step()
    assert ours.steps.tolist() == [2, 4]
    ours.reset()
    assert not ours.state()["first"].any()
    assert ours.steps.tolist() == [0, 0]
    assert not module.matrix.equal(start)


def test_a_module_without_the_member_axis_is_refused() -> None:
    module = Stack()
    module.codes = nn.Parameter(torch.zeros(2))
    with pytest.raises(ValueError, match="codes has no member axis of 3"):
        MemberAdam(module, MEMBERS, weight_decay=0.0, clip_value=0.6)
