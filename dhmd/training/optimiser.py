"""Adam over one flat buffer, a learning rate a member.

All parameters and gradients are views of two flat buffers, so that a step is a dozen kernels
whatever the model. Adam (Kingma & Ba, 2015) with decoupled weight decay (Loshchilov & Hutter,
2019); gradients are clipped by value, entry by entry, as DMD does.

Legend: P entries of all parameters of all members, E members.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8
_BLOCK = 1 << 15


class MemberAdam:
    """Optimises a module whose parameters are all `[E, …]`.

    Args:
        factor: how much faster than its member's learning rate a parameter learns, by name.
        ramped: whether a parameter's rate is held down while `set_rates` says so, by name.
    """

    def __init__(
        self,
        module: nn.Module,
        members: int,
        *,
        weight_decay: float,
        clip_value: float,
        factor: Callable[[str], float] = lambda _: 1.0,
        ramped: Callable[[str], bool] = lambda _: False,
    ) -> None:
        self.weight_decay, self.clip_value = weight_decay, clip_value
        named = list(module.named_parameters())
        device = named[0][1].device
        total = sum(parameter.numel() for _, parameter in named)
        self.values_P = torch.empty(total, device=device)
        self.grads_P = torch.zeros(total, device=device)
        self.first_P = torch.zeros(total, device=device)
        self.second_P = torch.zeros(total, device=device)
        # Float64: in single precision 1 - 0.999^t of the first steps has four digits.
        self.steps = torch.zeros((), dtype=torch.float64, device=device)
        self._owner_P = torch.empty(total, dtype=torch.int64, device=device)
        self._factor_P = torch.empty(total, device=device)
        self._ramped: list[slice] = []
        start = 0
        for name, parameter in named:
            if parameter.shape[0] != members:
                raise ValueError(f"{name} has no member axis of {members}")
            end = start + parameter.numel()
            self.values_P[start:end] = parameter.detach().reshape(-1)
            parameter.data = self.values_P[start:end].view(parameter.shape)
            parameter.grad = self.grads_P[start:end].view(parameter.shape)
            owner = torch.arange(members, device=device)
            self._owner_P[start:end] = owner.repeat_interleave(parameter.numel() // members)
            self._factor_P[start:end] = factor(name)
            if ramped(name):
                self._ramped.append(slice(start, end))
            start = end
        self._rate_P = torch.zeros(total, device=device)

    def set_rates(self, rates_E: Tensor, ramp: float = 1.0) -> None:
        """Each member's learning rate; 0 freezes it. Ramped parameters get the share `ramp`."""
        self._rate_P.copy_(rates_E[self._owner_P] * self._factor_P)
        for part in self._ramped:
            self._rate_P[part].mul_(ramp)

    def zero_grad(self) -> None:
        """Gradients become zeros, in place."""
        self.grads_P.zero_()

    @torch.no_grad()
    def step(self) -> None:
        """One update; members at rate 0 keep their values.

        On a CPU block by block, so that a block passes through all operations in the cache.
        """
        self.steps += 1
        corrections = (1 - _BETAS[0] ** self.steps, (1 - _BETAS[1] ** self.steps).sqrt())
        total = len(self.values_P)
        size = _BLOCK if self.values_P.device.type == "cpu" else total
        for start in range(0, total, size):
            self._step(slice(start, start + size), *corrections)

    def _step(self, part: slice, first_correction: Tensor, second_correction: Tensor) -> None:
        values, rate = self.values_P[part], self._rate_P[part]
        first, second = self.first_P[part], self.second_P[part]
        grads = self.grads_P[part].clamp_(-self.clip_value, self.clip_value)
        first.lerp_(grads, 1 - _BETAS[0])
        second.mul_(_BETAS[1]).addcmul_(grads, grads, value=1 - _BETAS[1])
        if self.weight_decay:
            values.mul_(1 - rate * self.weight_decay)
        spread = second.sqrt().div_(second_correction).add_(_EPSILON)
        values.sub_(first.div(spread).mul_(rate).div_(first_correction))

    def of_member(self, mask_E: Tensor) -> Tensor:
        """Boolean `[P]`: the entries of the members that `mask_E` marks."""
        return mask_E[self._owner_P]

    def state(self) -> dict[str, Tensor]:
        """What resuming needs."""
        return {
            "values": self.values_P,
            "first": self.first_P,
            "second": self.second_P,
            "steps": self.steps,
        }

    def restore(self, state: dict[str, Tensor]) -> None:
        """Put `state()` back."""
        for name, value in self.state().items():
            value.copy_(state[name])
