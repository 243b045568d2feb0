"""PyTorch layers with the weights of one member and group of stacked layers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

import pytest
import torch
from torch import nn

from dhmd.models.members import Members
from dhmd.models.stacked.layers import Linear

CPU = torch.device("cpu")

needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CC", "cc")) is None, reason="there is no C compiler here"
)
NATIVE = [False, pytest.param(True, marks=needs_compiler)]


def members(*seeds: int) -> Members:
    return Members(seeds or (1, 2), CPU)


def linear_of(ours: Linear, member: int, group: int) -> nn.Linear:
    _, _, inputs, outputs = ours.weight_EGIO.shape
    reference = nn.Linear(inputs, outputs, bias=ours.bias_EGO is not None)
    with torch.no_grad():
        reference.weight.copy_(ours.weight_EGIO[member, group].T)
        if ours.bias_EGO is not None:
            reference.bias.copy_(ours.bias_EGO[member, group])
    return reference


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Set all parameters to random numbers, including those that start at 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)


def masks(*shape: int, steps: int, seed: int = 0, least: int = 1) -> torch.Tensor:
    """Return random masks `[*shape, steps]` with at least `least` real steps."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(least, steps + 1, shape, generator=generator)
    return torch.arange(steps) < lengths.unsqueeze(-1)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def member_group_pairs(shape: Sequence[int]) -> list[tuple[int, int]]:
    """Return all (member, group) pairs."""
    return [(r, g) for r in range(shape[0]) for g in range(shape[1])]
