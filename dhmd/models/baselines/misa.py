"""MISA: modality-invariant and -specific representations (Hazarika et al., ACM MM 2020).

arXiv 2005.03545. Each utterance vector is projected into a shared and a private subspace; the six
vectors pass a self-attention layer and a prediction network. The losses are similarity (central
moment discrepancy of the shared vectors), difference (orthogonality) and reconstruction. Filled in:
the stacked bidirectional LSTM also reads text, where the paper has BERT; the loss weights are those
of MMSA's configuration.

Legend: B utterances, M modalities, H hidden width.
"""

from __future__ import annotations

from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_packed_sequence

from dhmd.models.batch import Batch
from dhmd.models.config import ModelConfig
from dhmd.models.layers import pack
from dhmd.models.task import Task

DIFFERENCE, SIMILARITY, RECONSTRUCTION = 0.1, 0.3, 1.0  # α, β, γ of the overall loss
MOMENTS = 5


class MISA(nn.Module):
    """Projections into two subspaces, and fusion by a transformer layer."""

    title = "MISA"

    def __init__(self, inputs: dict[str, int], task: Task, config: ModelConfig) -> None:
        super().__init__()
        self.task, self.names, width = task, tuple(inputs), config.width
        self.encoders = nn.ModuleDict({n: Utterance(size, width) for n, size in inputs.items()})
        self.project = nn.ModuleDict(
            {
                n: nn.Sequential(nn.Linear(4 * width, width), nn.ReLU(), nn.LayerNorm(width))
                for n in inputs
            }
        )
        self.private = nn.ModuleDict(
            {n: nn.Sequential(nn.Linear(width, width), nn.Sigmoid()) for n in inputs}
        )
        self.shared = nn.Sequential(nn.Linear(width, width), nn.Sigmoid())
        self.decoders = nn.ModuleDict({n: nn.Linear(width, width) for n in inputs})
        self.attention = nn.TransformerEncoderLayer(
            width,
            nhead=2 - width % 2,
            dim_feedforward=4 * width,
            dropout=config.dropout.layer,
            batch_first=True,
        )
        self.predictor = nn.Sequential(
            nn.Linear(2 * len(inputs) * width, len(inputs) * width),
            nn.Dropout(config.dropout.output),
            nn.ReLU(),
            nn.Linear(len(inputs) * width, task.outputs),
        )

    def forward(self, batch: Batch) -> Tensor:
        """Return outputs `[B, O]`."""
        return self._output(*self._subspaces(batch)[1:])

    def _subspaces(self, batch: Batch) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Return each modality's utterance, private and shared vector, `[B, H]`."""
        utterances, private, shared = [], [], []
        for n in self.names:
            u_BH = self.project[n](self.encoders[n](batch.features[n], batch.masks[n]))
            utterances.append(u_BH)
            private.append(self.private[n](u_BH))
            shared.append(self.shared(u_BH))
        return utterances, private, shared

    def _output(self, private: list[Tensor], shared: list[Tensor]) -> Tensor:
        attended = self.attention(torch.stack([*private, *shared], dim=1))
        output_BO: Tensor = self.predictor(attended.flatten(1))
        return output_BO

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return `total = task + α difference + β similarity + γ reconstruction`."""
        utterances, private, shared = self._subspaces(batch)
        output_BO = self._output(private, shared)
        task = batch.mean(self.task.loss(output_BO, batch.labels_B))
        count, zero = len(self.names), torch.zeros_like(task)
        difference = sum((orthogonality(p, s) for p, s in zip(private, shared, strict=True)), zero)
        difference = difference + sum((orthogonality(*p) for p in combinations(private, 2)), zero)
        pairs = list(combinations(shared, 2))
        similarity = sum((moment_discrepancy(*pair) for pair in pairs), zero) / max(len(pairs), 1)
        decoded = [
            self.decoders[n](p + s) for n, p, s in zip(self.names, private, shared, strict=True)
        ]
        errors = [functional.mse_loss(d, u) for d, u in zip(decoded, utterances, strict=True)]
        reconstruction = sum(errors, zero) / count
        extra = DIFFERENCE * difference + SIMILARITY * similarity + RECONSTRUCTION * reconstruction
        parts = {"difference": difference, "similarity": similarity, "rec": reconstruction}
        return {"total": task + batch.share * extra, "task": task, **parts}


class Utterance(nn.Module):
    """The last states of two stacked bidirectional LSTMs; maps `[B, T, I]` to `[B, 4 H]`."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.LSTM(size, hidden, bidirectional=True, batch_first=True)
        self.norm = nn.LayerNorm(2 * hidden)
        self.second = nn.LSTM(2 * hidden, hidden, bidirectional=True, batch_first=True)

    def forward(self, x_BTI: Tensor, mask_BT: Tensor) -> Tensor:
        states, (last_first, _) = self.first(pack(x_BTI, mask_BT))
        padded, _ = pad_packed_sequence(states, batch_first=True)
        _, (last_second, _) = self.second(pack(self.norm(padded), mask_BT))
        return torch.cat([last_first, last_second], dim=2).transpose(0, 1).flatten(1)


def orthogonality(a_BH: Tensor, b_BH: Tensor) -> Tensor:
    """Return `L_diff`: the mean squared entry of `Âᵀ B̂`, with centred columns and unit rows."""
    first = functional.normalize(a_BH - a_BH.mean(0), dim=1)
    second = functional.normalize(b_BH - b_BH.mean(0), dim=1)
    return (first.T @ second).square().mean()


def moment_discrepancy(a_BH: Tensor, b_BH: Tensor) -> Tensor:
    """Return the CMD: distances of the means and of the central moments up to the fifth, summed."""
    mean_a, mean_b = a_BH.mean(0), b_BH.mean(0)
    distance = _norm(mean_a - mean_b)
    for order in range(2, MOMENTS + 1):
        moment_a = (a_BH - mean_a).pow(order).mean(0)
        moment_b = (b_BH - mean_b).pow(order).mean(0)
        distance = distance + _norm(moment_a - moment_b)
    return distance


def _norm(x: Tensor) -> Tensor:
    """Return the Euclidean norm, with a finite gradient at zero."""
    return (x.square().sum() + 1e-12).sqrt()
