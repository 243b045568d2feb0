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
    member_adam = MemberAdam(
        module, MEMBERS, weight_decay=weight_decay, clip_value=0.6, group=group_of
    )
    rates = [0.01, 0.003, 0.02]
    parameters, adamw = [], []
    for member, rate in enumerate(rates):
        values = {name: nn.Parameter(value[member].clone()) for name, value in start.items()}
        groups = [{"params": [value], "lr": rate * factor(name)} for name, value in values.items()]
        parameters.append(values)
        adamw.append(torch.optim.AdamW(groups, weight_decay=weight_decay))
    for step in range(12):
        scale = 0.5 if step >= 6 else 1.0  # the schedules lower their rates
        member_adam.set_rates(torch.tensor(rates) * scale)
        member_adam.zero_grad()
        for name, gradient in gradients(step).items():
            module.get_parameter(name).grad.add_(gradient)
        with kernels.using(native=native):
            member_adam.step()
        for member, optimiser in enumerate(adamw):
            for group in optimiser.param_groups:
                (value,) = group["params"]
                name = next(n for n, p in parameters[member].items() if p is value)
                group["lr"] = rates[member] * scale * factor(name)
                value.grad = gradients(step)[name][member].clamp(-0.6, 0.6)
            optimiser.step()
            for name, value in parameters[member].items():
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
    parameter = nn.Parameter(module.matrix[0].detach().clone())
    optimiser = MemberAdam(module, MEMBERS, weight_decay=0.0, clip_value=100.0)
    optimiser.set_rates(torch.full((MEMBERS,), 0.01))
    adam = torch.optim.Adam([parameter], lr=0.01)
    for step in range(300):
        optimiser.zero_grad()
        gradient = gradients(step)["matrix"]
        module.get_parameter("matrix").grad.add_(gradient)
        with kernels.using(native=native):
            optimiser.step()
        parameter.grad = gradient[0]
        adam.step()
        if step in (0, 1, 2, 299):
            values = module.get_parameter("matrix")[0].detach()
            assert_close(values, parameter.detach(), rtol=1e-6, atol=2e-6, what=f"step {step}")


def test_a_member_with_rate_zero_is_frozen() -> None:
    module = Stack()
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    optimiser = MemberAdam(module, MEMBERS, weight_decay=0.1, clip_value=0.6)
    optimiser.set_rates(torch.tensor([0.01, 0.0, 0.01]))
    for name, gradient in gradients(1).items():
        module.get_parameter(name).grad.add_(gradient)
    optimiser.step()
    for name, value in before.items():
        values = module.get_parameter(name)
        assert values[1].equal(value[1])
        assert values[0].ne(value[0]).all()
        assert values[2].ne(value[2]).all()


def test_parameters_and_gradients_are_views_of_the_flat_buffers() -> None:
    module = Stack()
    optimiser = MemberAdam(module, MEMBERS, weight_decay=0.0, clip_value=0.6)
    assert optimiser.values_P.numel() == MEMBERS * 9
    module.codes.square().sum().backward()
    assert optimiser.grads_P[-MEMBERS:].equal(2 * module.codes.detach())
    optimiser.zero_grad()
    assert module.codes.grad.eq(0).all()
    optimiser.values_P.fill_(4.0)
    assert module.matrix.eq(4).all()
    second_member = optimiser.member_entries(torch.tensor([False, True, False]))
    optimiser.values_P[second_member] = 7.0
    assert module.matrix[1].eq(7).all()
    assert module.codes.tolist() == [4.0, 7.0, 4.0]


def test_a_restored_state_gives_the_same_updates() -> None:
    def build() -> tuple[Stack, MemberAdam]:
        module = Stack()
        optimiser = MemberAdam(module, MEMBERS, weight_decay=0.1, clip_value=0.6)
        optimiser.set_rates(torch.tensor([0.01, 0.02, 0.03]))
        return module, optimiser

    def advance(module: Stack, optimiser: MemberAdam, steps: range) -> None:
        for step in steps:
            optimiser.zero_grad()
            for name, gradient in gradients(step).items():
                module.get_parameter(name).grad.add_(gradient)
            optimiser.step()

    first, optimiser = build()
    advance(first, optimiser, range(4))
    state = {name: value.clone() for name, value in optimiser.state().items()}
    advance(first, optimiser, range(4, 7))
    other_module, other = build()
    other.restore(state)
    advance(other_module, other, range(4, 7))
    assert other.values_P.equal(optimiser.values_P)


def test_weight_decay_can_differ_between_parameters() -> None:
    module = Stack()
    module.fixed = nn.Parameter(torch.ones(MEMBERS), requires_grad=False)
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    groups = {"matrix": ParameterGroup(weight_decay=0.0), "codes": ParameterGroup()}
    optimiser = MemberAdam(
        module, MEMBERS, weight_decay=0.5, clip_value=1.0, group=lambda name: groups[name]
    )
    optimiser.set_rates(torch.full((MEMBERS,), 0.1))
    optimiser.step()
    assert module.matrix.equal(before["matrix"])
    assert_close(module.codes.detach(), before["codes"] * (1 - 0.1 * 0.5))
    assert module.fixed.equal(before["fixed"])


def test_a_phase_updates_only_its_parameters() -> None:
    module, codes_only = Stack(), Stack()
    phases = {"matrix": ParameterGroup(phase="first"), "codes": ParameterGroup()}
    optimiser = MemberAdam(
        module,
        MEMBERS,
        weight_decay=0.1,
        clip_value=0.6,
        group=lambda name: phases[name],
        phases=("first", "main"),
    )
    del codes_only.matrix
    codes_optimiser = MemberAdam(codes_only, MEMBERS, weight_decay=0.1, clip_value=0.6)
    for each in (optimiser, codes_optimiser):
        each.set_rates(torch.full((MEMBERS,), 0.1))
    start = module.matrix.detach().clone()
    for step, phase in enumerate(("main", "first", "main", "main")):
        optimiser.zero_grad()
        for name, gradient in gradients(step).items():
            module.get_parameter(name).grad.add_(gradient)
        before = module.matrix.detach().clone()
        optimiser.step(phase)
        assert module.matrix.equal(before) == (phase == "main")
        if phase == "main":
            codes_optimiser.zero_grad()
            codes_only.codes.grad.add_(gradients(step)["codes"])
            codes_optimiser.step()
    assert module.codes.equal(codes_only.codes)
    assert optimiser.steps.tolist() == [1, 3]
    optimiser.step()
    assert optimiser.steps.tolist() == [2, 4]
    optimiser.reset()
    assert not optimiser.state()["first"].any()
    assert optimiser.steps.tolist() == [0, 0]
    assert not module.matrix.equal(start)


def test_a_module_without_the_member_axis_is_refused() -> None:
    module = Stack()
    module.codes = nn.Parameter(torch.zeros(2))
    with pytest.raises(ValueError, match="codes has no member axis of 3"):
        MemberAdam(module, MEMBERS, weight_decay=0.0, clip_value=0.6)
