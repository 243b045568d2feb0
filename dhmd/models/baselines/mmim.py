"""MMIM: hierarchical mutual information maximisation (Han et al., EMNLP 2021, arXiv 2109.00412).

Training alternates: a pass that fits the estimators q(y | x) of the mutual information between
modalities, then a pass that trains all else on the task, a contrastive predictive coding loss
between the fusion and each modality, and the information's lower bound. Filled in: text is read by
an LSTM, where the paper has BERT; a small diagonal keeps the entropy of few samples finite.

Legend: B utterances, H width of a modality, G width of the entropy's projection.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from dhmd.models.baselines._sub_networks import LastState
from dhmd.models.batch import Batch
from dhmd.models.config import ModelConfig
from dhmd.models.learner import ParameterGroup
from dhmd.models.task import Task

CONTRAST, INFORMATION = 0.1, 0.1  # α and β of the overall loss
DIAGONAL = 1e-3
ESTIMATION = "estimation"


class MMIM(nn.Module):
    """LSTMs, estimators of mutual information, fusion, and predictors of each modality from it."""

    title = "MMIM"
    phases = (ESTIMATION, "")
    alternate = "epoch"

    def __init__(self, inputs: dict[str, int], task: Task, model: ModelConfig) -> None:
        super().__init__()
        self.task, self.names, width = task, tuple(inputs), model.width
        self.networks = nn.ModuleDict(
            {n: LastState(size, width // 2, bidirectional=True) for n, size in inputs.items()}
        )
        width = 2 * (width // 2)
        # Text is the modality that informs the others; without it the first one.
        self.main = "text" if "text" in inputs else self.names[0]
        self.others = tuple(n for n in self.names if n != self.main)
        self.estimators = nn.ModuleDict({n: Estimator(width) for n in self.others})
        self.narrow = nn.Sequential(
            nn.Dropout(model.dropout.output), nn.Linear(len(inputs) * width, 2 * width), nn.Tanh()
        )
        self.fuse = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.Tanh())
        self.head = nn.Linear(2 * width, task.outputs)
        self.predictors = nn.ModuleDict({n: nn.Linear(2 * width, width) for n in inputs})
        self._memory: dict[str, tuple[Tensor, Tensor]] = {}
        self._epoch = 0

    @staticmethod
    def parameter_group(name: str) -> ParameterGroup:
        """Train the estimators in their own phase alone."""
        return ParameterGroup(phase=ESTIMATION if name.startswith("estimators.") else None)

    def forward(self, batch: Batch) -> Tensor:
        """Return outputs `[B, O]`."""
        output_BO: Tensor = self.head(self._fused(self._vectors(batch)))
        return output_BO

    def _vectors(self, batch: Batch) -> dict[str, Tensor]:
        return {n: net(batch.features[n], batch.masks[n]) for n, net in self.networks.items()}

    def _estimators(self) -> list[tuple[str, Estimator]]:
        return [(n, cast(Estimator, each)) for n, each in self.estimators.items()]

    def _fused(self, vectors: dict[str, Tensor]) -> Tensor:
        fused: Tensor = self.fuse(self.narrow(torch.cat(list(vectors.values()), dim=1)))
        return fused

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of the phase: `−lld`, or the overall loss."""
        vectors = self._vectors(batch)
        zero = batch.labels_B.new_zeros(())
        likelihood = sum(
            (
                estimator.log_likelihood(vectors[self.main], vectors[n])
                for n, estimator in self._estimators()
            ),
            zero,
        )
        if batch.phase == ESTIMATION:
            total = -batch.share * likelihood
            # With one modality nothing is estimated, but the total must have a gradient.
            return {"total": total + 0 * vectors[self.main].sum()}
        fused = self._fused(vectors)
        task = batch.mean(self.task.loss(self.head(fused), batch.labels_B))
        contrast = sum(
            (contrastive_coding(vectors[n], self.predictors[n](fused)) for n in self.names), zero
        )
        information = likelihood + self._entropy(vectors, batch)
        total = task + batch.share * (CONTRAST * contrast - INFORMATION * information)
        return {"total": total, "task": task, "contrast": contrast, "information": information}

    def _entropy(self, vectors: dict[str, Tensor], batch: Batch) -> Tensor:
        """Estimate the entropy of each modality from this batch and the one before."""
        if batch.epoch != self._epoch:
            self._memory, self._epoch = {}, batch.epoch
        total = batch.labels_B.new_zeros(())
        if self.task.classes is not None:
            return total  # its classes are positive and negative labels
        for n, estimator in self._estimators():
            projected_BG = estimator.project(vectors[n])
            signs = (projected_BG[batch.labels_B > 0], projected_BG[batch.labels_B < 0])
            if n in self._memory:
                both = [torch.cat(pair) for pair in zip(self._memory[n], signs, strict=True)]
                total = total + sum(0.25 * log_determinant(x) for x in both if len(x) > 1)
            self._memory[n] = (signs[0].detach(), signs[1].detach())
        return total


class Estimator(nn.Module):
    """Gaussian q(y | x) with learned mean and variance, and the projection for the entropy."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean, self.log_variance = (
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            for _ in range(2)
        )
        self.project = nn.Sequential(nn.Linear(width, max(width // 4, 2)), nn.Tanh())

    def log_likelihood(self, x_BH: Tensor, y_BH: Tensor) -> Tensor:
        """Return the mean of `−(y − μ)² / 2σ²`, summed over features: `lld`."""
        error = (self.mean(x_BH) - y_BH).square()
        scaled: Tensor = error / (2 * self.log_variance(x_BH).exp())
        return -scaled.sum(1).mean()


def contrastive_coding(x_BH: Tensor, predicted_BH: Tensor) -> Tensor:
    """Return the noise-contrastive loss between a modality and its prediction: CPC."""
    x = nn.functional.normalize(x_BH, dim=1)
    predicted = nn.functional.normalize(predicted_BH, dim=1)
    positive = (x * predicted).sum(1)
    return -(positive - (x @ predicted.T).logsumexp(1)).mean()


def log_determinant(x_BG: Tensor) -> Tensor:
    """Return the log-determinant of the covariance of the rows."""
    centred = x_BG - x_BG.mean(0)
    covariance = centred.T @ centred / len(x_BG)
    eye = torch.eye(x_BG.shape[1], dtype=x_BG.dtype, device=x_BG.device)
    return torch.logdet(covariance + DIAGONAL * eye)
