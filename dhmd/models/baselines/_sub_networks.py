"""Sub-networks of several baselines: one vector per modality.

Legend: B utterances, T steps, I input width, H hidden width.
"""

from __future__ import annotations

from torch import Tensor, nn

from dhmd.base.errors import DhmdError
from dhmd.models.batch import Batch
from dhmd.models.config import ModelConfig
from dhmd.models.layers import masked_mean, pack


class LastState(nn.Module):
    """The last hidden state of an LSTM over the real steps; maps `[B, T, I]` to `[B, H]`.

    With `bidirectional`, the last states of both directions, `[B, 2 H]`.
    """

    def __init__(self, size: int, hidden: int, *, layers: int = 1, bidirectional: bool = False):
        super().__init__()
        self.lstm = nn.LSTM(
            size, hidden, num_layers=layers, batch_first=True, bidirectional=bidirectional
        )
        self.directions = 2 if bidirectional else 1

    def forward(self, x_BTI: Tensor, mask_BT: Tensor) -> Tensor:
        _, (states_LBH, _) = self.lstm(pack(x_BTI, mask_BT))
        last: Tensor = states_LBH[-self.directions :].transpose(0, 1).flatten(1)
        return last


class SubNetwork(nn.Module):
    """Three rectified layers on the mean of the steps; maps `[B, T, I]` to `[B, H]`.

    From TFN, section 4.2; batch normalisation of the input follows the public implementations.
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
        # A single utterance has no variance, so the running statistics normalise it.
        normed_BI = self.norm(mean_BI) if len(mean_BI) > 1 else _running(self.norm, mean_BI)
        vector_BH: Tensor = self.layers(self.dropout(normed_BI))
        return vector_BH


class TextNetwork(nn.Module):
    """An LSTM and a linear layer; maps `[B, T, I]` to `[B, H]` (TFN, section 4.1)."""

    def __init__(self, size: int, hidden: int, out: int, dropout: float) -> None:
        super().__init__()
        self.lstm, self.dropout = LastState(size, hidden), nn.Dropout(dropout)
        self.linear = nn.Linear(hidden, out)

    def forward(self, x_BTI: Tensor, mask_BT: Tensor) -> Tensor:
        vector_BH: Tensor = self.linear(self.dropout(self.lstm(x_BTI, mask_BT)))
        return vector_BH


def tfn_widths(inputs: dict[str, int], config: ModelConfig) -> dict[str, int]:
    """Return the width of each modality's vector in TFN and LMF; that of text is the widest."""
    return {name: config.width if name == "text" else max(config.width // 2, 4) for name in inputs}


def tfn_networks(inputs: dict[str, int], config: ModelConfig) -> nn.ModuleDict:
    """Build the sub-networks of TFN and LMF: an LSTM for text, `SubNetwork` for the others."""
    widths, dropout = tfn_widths(inputs, config), config.dropout.output
    return nn.ModuleDict(
        {
            name: TextNetwork(size, 2 * config.width, config.width, dropout)
            if name == "text"
            else SubNetwork(size, widths[name], dropout)
            for name, size in inputs.items()
        }
    )


def require_word_aligned(name: str, batch: Batch) -> None:
    """Raise an error if the modalities of a batch differ in length.

    Raises:
        DhmdError: the lengths differ; the message names the model.
    """
    if len({x.shape[1] for x in batch.features.values()}) > 1:
        raise DhmdError(
            f"{name} needs word-aligned sequences: set data.alignment to word in params.yaml"
        )


def _running(norm: nn.BatchNorm1d, x_BI: Tensor) -> Tensor:
    """Normalise by the running statistics, also in training."""
    return nn.functional.batch_norm(
        x_BI, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
    )
