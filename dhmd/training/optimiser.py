"""Adam over one flat buffer, with one learning rate per member.

All parameters and gradients are views of two flat buffers, so that a step of any model is a dozen
kernels. Adam (Kingma & Ba, 2015) with decoupled weight decay (Loshchilov & Hutter,
2019); gradients are clipped by value, entry by entry, as in DMD.

Legend: P entries of all parameters of all members, E members.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dhmd.models.learner import ParameterGroup
from dhmd.models.stacked import kernels

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8
_BLOCK = 1 << 15


class MemberAdam:
    """Optimises a module whose parameters are all `[E, …]`.

    Args:
        weight_decay: of parameters whose group does not set its own.
        group: how a parameter is optimised, by name.
        phases: see `Learner.phases`; each phase has its own count of steps.
    """

    def __init__(
        self,
        module: nn.Module,
        members: int,
        *,
        weight_decay: float,
        clip_value: float,
        group: Callable[[str], ParameterGroup] = lambda _: ParameterGroup(),
        phases: tuple[str, ...] = ("",),
    ) -> None:
        self.clip_value, self.phases = clip_value, phases
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        device = named[0][1].device
        total = sum(parameter.numel() for _, parameter in named)
        self.values_P = torch.empty(total, device=device)
        self.grads_P = torch.zeros(total, device=device)
        self.first_P = torch.zeros(total, device=device)
        self.second_P = torch.zeros(total, device=device)
        # Float64: in single precision, 1 − 0.999^t has only four digits in the first steps.
        self.steps = torch.zeros(len(phases), dtype=torch.float64, device=device)
        self._owner_P = torch.empty(total, dtype=torch.int64, device=device)
        self._factor_P = torch.empty(total, device=device)
        self._warming: list[slice] = []
        self._parts: dict[str, list[slice]] = {phase: [] for phase in phases}
        decays: list[tuple[slice, float]] = []
        start = 0
        for name, parameter in named:
            if parameter.shape[0] != members:
                raise ValueError(f"{name} has no member axis of {members}")
            part = slice(start, start + parameter.numel())
            self.values_P[part] = parameter.detach().reshape(-1)
            parameter.data = self.values_P[part].view(parameter.shape)
            parameter.grad = self.grads_P[part].view(parameter.shape)
            owner = torch.arange(members, device=device)
            self._owner_P[part] = owner.repeat_interleave(parameter.numel() // members)
            own = group(name)
            self._factor_P[part] = own.learning_rate
            decays.append((part, weight_decay if own.weight_decay is None else own.weight_decay))
            if own.warmup:
                self._warming.append(part)
            parts = self._parts[phases[-1] if own.phase is None else own.phase]
            if parts and parts[-1].stop == start:
                parts[-1] = slice(parts[-1].start, part.stop)
            else:
                parts.append(part)
            start = part.stop
        self._rate_P = torch.zeros(total, device=device)
        self.weight_decay: float | Tensor = decays[0][1]
        if len({decay for _, decay in decays}) > 1:
            self.weight_decay = torch.empty(total, device=device)
            for part, decay in decays:
                self.weight_decay[part] = decay

    def set_rates(self, rates_E: Tensor, warmup: float = 1.0) -> None:
        """Set each member's learning rate; 0 freezes it.

        Args:
            warmup: factor of parameters whose group has a warm-up.
        """
        self._rate_P.copy_(rates_E[self._owner_P] * self._factor_P)
        for part in self._warming:
            self._rate_P[part].mul_(warmup)

    def zero_grad(self) -> None:
        """Set gradients to zero, in place."""
        self.grads_P.zero_()

    @torch.no_grad()
    def step(self, phase: str | None = None) -> None:
        """Update the parameters of a phase, or all; members at rate 0 keep their values.

        A CPU computes block by block, so that each block stays in the cache.
        """
        size = _BLOCK if self.values_P.device.type == "cpu" else len(self.values_P)
        for index, name in enumerate(self.phases):
            if phase not in (None, name):
                continue
            self.steps[index] += 1
            count = self.steps[index]
            corrections = (1 - _BETAS[0] ** count, (1 - _BETAS[1] ** count).sqrt())
            for part in self._parts[name]:
                if self.values_P.is_cpu and kernels.enabled():
                    self._step_in_c(part, *map(float, corrections))
                    continue
                for start in range(part.start, part.stop, size):
                    self._step(slice(start, min(start + size, part.stop)), *corrections)

    def _step_in_c(self, part: slice, first_correction: float, second_correction: float) -> None:
        decay = self.weight_decay
        decays, one = (decay[part], 0.0) if isinstance(decay, Tensor) else (None, decay)
        arrays = (self.values_P, self.grads_P, self.first_P, self.second_P, self._rate_P)
        settings = (float(one), float(self.clip_value), first_correction, second_correction)
        count = part.stop - part.start
        kernels.call(kernels.compiled().adam, *(x[part] for x in arrays), decays, *settings, count)

    def _step(self, part: slice, first_correction: Tensor, second_correction: Tensor) -> None:
        values, rate = self.values_P[part], self._rate_P[part]
        first, second = self.first_P[part], self.second_P[part]
        grads = self.grads_P[part].clamp_(-self.clip_value, self.clip_value)
        first.lerp_(grads, 1 - _BETAS[0])
        second.mul_(_BETAS[1]).addcmul_(grads, grads, value=1 - _BETAS[1])
        decay = self.weight_decay
        if isinstance(decay, Tensor):
            values.mul_(1 - rate * decay[part])
        elif decay:
            values.mul_(1 - rate * decay)
        spread = second.sqrt().div_(second_correction).add_(_EPSILON)
        values.sub_(first.div(spread).mul_(rate).div_(first_correction))

    def reset(self) -> None:
        """Reset moments and steps."""
        for tensor in (self.first_P, self.second_P, self.steps):
            tensor.zero_()

    def of_member(self, mask_E: Tensor) -> Tensor:
        """Return boolean `[P]`: the entries of the members that `mask_E` marks."""
        return mask_E[self._owner_P]

    def state(self) -> dict[str, Tensor]:
        """Return the state of the optimiser, to save and resume."""
        return {
            "values": self.values_P,
            "first": self.first_P,
            "second": self.second_P,
            "steps": self.steps,
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Restore a state of `state()`."""
        for name, value in self.state().items():
            value.copy_(state[name])
