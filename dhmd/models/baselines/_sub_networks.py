"""Sub-networks that several of the field's models share: one vector per modality.

Legend: B utterances, T steps, I input width, H hidden width.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from dhmd.models.layers import masked_mean


class LastState(nn.Module):
    """The last hidden state of an LSTM over the real steps, `[B, T, I]` → `[B, H]`.

    A bidirectional LSTM returns the last states of both directions, `[B, 2 H]`.
    """

    def __init__(self, size: int, hidden: int, *, layers: int = 1, bidirectional: bool = False):
        super().__init__()
        self.lstm = nn.LSTM(
            size, hidden, num_layers=layers, batch_first=True, bidirectional=bidirectional
        )
        self.directions = 2 if bidirectional else 1

    def forward(self, x_BTI: Tensor, mask_BT: Tensor) -> Tensor:
        # An absent modality is read as one step of zeros.
        lengths_B = mask_BT.sum(1).clamp_min(1).cpu()
        packed = pack_padded_sequence(x_BTI, lengths_B, batch_first=True, enforce_sorted=False)
        _, (states_LBH, _) = self.lstm(packed)
        last: Tensor = states_LBH[-self.directions :].transpose(0, 1).flatten(1)
        return last


class SubNetwork(nn.Module):
    """Three rectified layers on the mean of the steps, `[B, T, I]` → `[B, H]` (TFN, section 4.2).

    Batch normalisation of the input follows the public implementations.
    """

    def __init__(self, size: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.dropout = nn.BatchNorm1d(size), nn.Dropout(dropout)
        self.layers = nn.Sequential(
            *(nn.Linear(size, hidden), nn.ReLU()),
            *(nn.Linear(hidden, hidden), nn.ReLU()),
            *(nn.Linear(hidden, hidden), nn.ReLU()),
        )

    def forward(self, x_BTI: Tensor, mask_BT: Tensor) -> Tensor:
        mean_BI = masked_mean(x_BTI, mask_BT)
        # One utterance has no variance: it is normalised by the running statistics.
        normed_BI = self.norm(mean_BI) if len(mean_BI) > 1 else _running(self.norm, mean_BI)
        found: Tensor = self.layers(self.dropout(normed_BI))
        return found


class TextNetwork(nn.Module):
    """An LSTM and a linear layer, `[B, T, I]` → `[B, H]` (TFN, section 4.1)."""

    def __init__(self, size: int, hidden: int, out: int, dropout: float) -> None:
        super().__init__()
        self.lstm, self.dropout = LastState(size, hidden), nn.Dropout(dropout)
        self.linear = nn.Linear(hidden, out)

    def forward(self, x_BTI: Tensor, mask_BT: Tensor) -> Tensor:
        found: Tensor = self.linear(self.dropout(self.lstm(x_BTI, mask_BT)))
        return found


def _running(norm: nn.BatchNorm1d, x_BI: Tensor) -> Tensor:
    return nn.functional.batch_norm(
        x_BI, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
    )
