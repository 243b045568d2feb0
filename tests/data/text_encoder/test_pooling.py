"""Sub-words' means, by hand."""

from __future__ import annotations

import torch

from dhmd.data.text.encoder import pool_words


def test_means_by_hand() -> None:
    hidden_BKH = torch.tensor(
        [[[9.0], [1.0], [2.0], [4.0], [9.0]], [[9.0], [5.0], [9.0], [9.0], [9.0]]]
    )
    step_BK = torch.tensor([[-1, 0, 1, 1, -1], [-1, 1, -1, -1, -1]])
    pooled = pool_words(hidden_BKH, step_BK, 3)
    assert pooled.tolist() == [[[1.0], [3.0], [0.0]], [[0.0], [5.0], [0.0]]]


def test_the_gradient_is_each_sub_words_share() -> None:
    hidden_BKH = torch.ones(1, 4, 1, requires_grad=True)
    pool_words(hidden_BKH, torch.tensor([[-1, 0, 0, 1]]), 2).sum().backward()
    assert hidden_BKH.grad is not None
    assert hidden_BKH.grad.flatten().tolist() == [0.0, 0.5, 0.5, 1.0]
