"""Summaries over real steps. Legend: E members, G groups, B utterances, T steps, D features."""

from __future__ import annotations

import torch
from torch import Tensor


def masked_mean(x_EGBTD: Tensor, mask_EGBT: Tensor) -> Tensor:
    """The mean over real steps, `[E, G, B, D]`; zeros where no step is real."""
    weight = mask_EGBT.to(x_EGBTD.dtype)
    weight = weight / weight.sum(-1, keepdim=True).clamp_min(1)
    return (weight.unsqueeze(-2) @ x_EGBTD).squeeze(-2)


def padding_bias(mask: Tensor) -> Tensor:
    """What hides padding in a maximum or a softmax: 0 on real steps, −1e9 on padded ones.

    Not −inf: where nothing is real there must be numbers, which another mask then hides.
    """
    return (~mask).to(torch.float32) * -1e9


def masked_max(x_EGBTK: Tensor, mask_EGBT: Tensor) -> Tensor:
    """The maximum over real steps, `[E, G, B, K]`; zeros where no step is real.

    Gradient goes to one step where several share the maximum.
    """
    # A sum, not a fill: torch is slow where booleans meet large tensors, and so is the fill's
    # gradient. Real values are far above the bias, and get 0 added.
    highest, _ = (x_EGBTK + padding_bias(mask_EGBT).unsqueeze(-1)).max(-2)
    return highest.masked_fill(~mask_EGBT.any(-1, keepdim=True), 0.0)


def zero_padding(x_EGBTD: Tensor, mask_EGBT: Tensor) -> Tensor:
    """`x` with zeros on padded steps."""
    return x_EGBTD * mask_EGBT.unsqueeze(-1)
