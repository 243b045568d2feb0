"""Adam over one flat buffer, with one learning rate per member.

All parameters and gradients are views of two flat buffers, so that a step of any model takes a
dozen kernels. The algorithm is Adam (Kingma & Ba, 2015) with decoupled weight decay (Loshchilov &
Hutter, 2019). Each entry of the gradients is clipped, as in DMD.

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
_BLOCK = 1 << 15  # entries that a CPU updates at a time


class MemberAdam:
    """Optimises a module whose parameters are all `[E, …]`.

    Args:
        weight_decay: the weight decay of parameters whose group has none of its own.
        clip_value: gradients are clipped to plus and minus this value.
        group: the function that returns the group of a parameter by its name.
        phases: see `Learner.phases`; every phase has its own count of steps.
    """

    def __init__(
        self,
        module: nn.Module,
        num_members: int,
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
        self._member_P = torch.empty(total, dtype=torch.int64, device=device)
        self._factor_P = torch.empty(total, device=device)
        self._warmup_entries: list[slice] = []
        self._entries: dict[str, list[slice]] = {phase: [] for phase in phases}
        decays: list[tuple[slice, float]] = []
        member_E = torch.arange(num_members, device=device)
        start = 0
        for name, parameter in named:
            if parameter.shape[0] != num_members:
                raise ValueError(f"{name} has no member axis of {num_members}")
            entries = slice(start, start + parameter.numel())
            self.values_P[entries] = parameter.detach().reshape(-1)
            parameter.data = self.values_P[entries].view(parameter.shape)
            parameter.grad = self.grads_P[entries].view(parameter.shape)
            self._member_P[entries] = member_E.repeat_interleave(parameter.numel() // num_members)
            options = group(name)
            self._factor_P[entries] = options.learning_rate
            decay = weight_decay if options.weight_decay is None else options.weight_decay
            decays.append((entries, decay))
            if options.warmup:
                self._warmup_entries.append(entries)
            slices = self._entries[phases[-1] if options.phase is None else options.phase]
            if slices and slices[-1].stop == start:
                slices[-1] = slice(slices[-1].start, entries.stop)
            else:
                slices.append(entries)
            start = entries.stop
        self._rate_P = torch.zeros(total, device=device)
        self.weight_decay: float | Tensor = decays[0][1]
        if len({decay for _, decay in decays}) > 1:
            self.weight_decay = torch.empty(total, device=device)
            for entries, decay in decays:
                self.weight_decay[entries] = decay

    def set_rates(self, rates_E: Tensor, warmup: float = 1.0) -> None:
        """Set the learning rate of each member; rate 0 freezes a member.

        Args:
            warmup: the factor for parameters whose group has a warm-up.
        """
        self._rate_P.copy_(rates_E[self._member_P] * self._factor_P)
        for entries in self._warmup_entries:
            self._rate_P[entries].mul_(warmup)

    def zero_grad(self) -> None:
        """Set gradients to zero, in place."""
        self.grads_P.zero_()

    @torch.no_grad()
    def step(self, phase: str | None = None) -> None:
        """Update the parameters of a phase, or all of them; members at rate 0 do not change.

        A CPU updates block by block, so that each block stays in its cache.
        """
        size = _BLOCK if self.values_P.device.type == "cpu" else len(self.values_P)
        for index, name in enumerate(self.phases):
            if phase not in (None, name):
                continue
            self.steps[index] += 1
            count = self.steps[index]
            corrections = (1 - _BETAS[0] ** count, (1 - _BETAS[1] ** count).sqrt())
            for entries in self._entries[name]:
                if kernels.native(self.values_P):
                    self._step_in_c(entries, *map(float, corrections))
                    continue
                for start in range(entries.start, entries.stop, size):
                    self._step(slice(start, min(start + size, entries.stop)), *corrections)

    def _step_in_c(self, entries: slice, first_correction: float, second_correction: float) -> None:
        decay = self.weight_decay
        decays, one = (decay[entries], 0.0) if isinstance(decay, Tensor) else (None, decay)
        buffers = (self.values_P, self.grads_P, self.first_P, self.second_P, self._rate_P)
        settings = (float(one), float(self.clip_value), first_correction, second_correction)
        count = entries.stop - entries.start
        arrays = (x[entries] for x in buffers)
        kernels.call("adam", *arrays, decays, *settings, count)

    def _step(self, entries: slice, first_correction: Tensor, second_correction: Tensor) -> None:
        values, rate = self.values_P[entries], self._rate_P[entries]
        first, second = self.first_P[entries], self.second_P[entries]
        grads = self.grads_P[entries].clamp_(-self.clip_value, self.clip_value)
        first.lerp_(grads, 1 - _BETAS[0])
        second.mul_(_BETAS[1]).addcmul_(grads, grads, value=1 - _BETAS[1])
        decay = self.weight_decay
        if isinstance(decay, Tensor):
            values.mul_(1 - rate * decay[entries])
        elif decay:
            values.mul_(1 - rate * decay)
        denominator = second.sqrt().div_(second_correction).add_(_EPSILON)
        values.sub_(first.div(denominator).mul_(rate).div_(first_correction))

    def reset(self) -> None:
        """Set moments and counts of steps to zero."""
        for tensor in (self.first_P, self.second_P, self.steps):
            tensor.zero_()

    def member_entries(self, mask_E: Tensor) -> Tensor:
        """Return which entries belong to the members in `mask_E`, boolean `[P]`."""
        return mask_E[self._member_P]

    def state(self) -> dict[str, Tensor]:
        """Return the tensors to save in a checkpoint."""
        return {
            "values": self.values_P,
            "first": self.first_P,
            "second": self.second_P,
            "steps": self.steps,
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Restore a state returned by `state()`."""
        for name, value in self.state().items():
            value.copy_(state[name])
