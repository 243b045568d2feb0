"""From vectors of sub-words to vectors of words.

Legend: B utterances (or passes), K sub-words, T words, H the encoder's width.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pool_words(hidden_BKH: Tensor, step_BK: Tensor, steps: int) -> Tensor:
    """The mean over each word's sub-words, `[B, T, H]`; zeros for words that have none here.

    Args:
        step_BK: the word that each sub-word is a part of, −1 for none (special tokens, padding).
        steps: T.

    A product with a matrix of shares: its gradient is deterministic on a GPU too, which adding at
    indices is not.
    """
    words_T = torch.arange(steps, device=step_BK.device)
    part_BTK = (step_BK.unsqueeze(1) == words_T.unsqueeze(-1)).to(hidden_BKH.dtype)
    share_BTK = part_BTK / part_BTK.sum(-1, keepdim=True).clamp_min(1)
    return torch.bmm(share_BTK, hidden_BKH)
