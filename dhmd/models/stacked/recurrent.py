"""A bidirectional GRU over stacks of members.

Legend: E members, G groups (1 here), B utterances, T steps, I inputs, H hidden width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dhmd.models.stacked.linear import Linear
from dhmd.models.stacked.members import Members


class GRU(nn.Module):
    """`[E, 1, B, T, I]` → `[E, 2, B, T, H]`, forward and backward in the groups.

    Padded steps leave the state as it is, so the backward pass starts at the last real step and the
    state at the end is that of the last real one.
    """

    def __init__(self, members: Members, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.input = Linear(members, 2, inputs, 3 * hidden)
        self.state = Linear(members, 2, hidden, 3 * hidden)

    def forward(self, x_EGBTI: Tensor, mask_EGBT: Tensor) -> Tensor:
        both = torch.cat([x_EGBTI, x_EGBTI.flip(3)], dim=1)
        real = torch.cat([mask_EGBT, mask_EGBT.flip(3)], dim=1).unsqueeze(-1)
        gates = self.input(both)
        state = x_EGBTI.new_zeros(*both.shape[:3], self.hidden)
        states = []
        for step in range(both.shape[3]):
            given_r, given_z, given_n = gates[:, :, :, step].chunk(3, dim=-1)
            kept_r, kept_z, kept_n = self.state(state).chunk(3, dim=-1)
            reset, update = torch.sigmoid(given_r + kept_r), torch.sigmoid(given_z + kept_z)
            new = torch.tanh(given_n + reset * kept_n)
            state = torch.where(real[:, :, :, step], new + update * (state - new), state)
            states.append(state)
        forward, backward = torch.stack(states, dim=3).chunk(2, dim=1)
        return torch.cat([forward, backward.flip(3)], dim=1)
