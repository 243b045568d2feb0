"""MMIM: hierarchical mutual information maximisation (Han et al., EMNLP 2021, arXiv 2109.00412).

Training alternates between two passes. The first fits the estimators q(y | x) of the mutual
information between modalities. The second trains all other parameters with the task loss, a
contrastive predictive coding loss between the fusion and each modality, and the lower bound of the
information. Filled in: an LSTM reads text, where the paper has BERT; a small diagonal keeps the
entropy of few samples finite.

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
DIAGONAL = 1e-3  # added to covariance matrices
ESTIMATION = "estimation"


class MMIM(nn.Module):
    """LSTMs, estimators of mutual information, fusion, and predictors of each modality."""

    title = "MMIM"
    phases = (ESTIMATION, "")
    alternate = "epoch"

    def __init__(self, inputs: dict[str, int], task: Task, config: ModelConfig) -> None:
        super().__init__()
        self.task, self.names, width = task, tuple(inputs), config.width
        self.networks = nn.ModuleDict(
            {n: LastState(size, width // 2, bidirectional=True) for n, size in inputs.items()}
        )
        width = 2 * (width // 2)
        # The information is that of text about the others; without text, of the first modality.
        self.main = "text" if "text" in inputs else self.names[0]
        self.others = tuple(n for n in self.names if n != self.main)
        self.estimators = nn.ModuleDict({n: Estimator(width) for n in self.others})
        self.narrow = nn.Sequential(
            nn.Dropout(config.dropout.output), nn.Linear(len(inputs) * width, 2 * width), nn.Tanh()
        )
        self.fuse = nn.Sequential(nn.Linear(2 * width, 2 * width), nn.Tanh())
        self.head = nn.Linear(2 * width, task.outputs)
        self.predictors = nn.ModuleDict({n: nn.Linear(2 * width, width) for n in inputs})
        self._memory: dict[str, tuple[Tensor, Tensor]] = {}
        self._epoch = 0

    @staticmethod
    def parameter_group(name: str) -> ParameterGroup:
        """Train the estimators in the estimation phase, and all else in the main phase."""
        return ParameterGroup(phase=ESTIMATION if name.startswith("estimators.") else None)

    def forward(self, batch: Batch) -> Tensor:
        """Return outputs `[B, O]`."""
        output_BO: Tensor = self.head(self._fuse(self._vectors(batch)))
        return output_BO

    def _vectors(self, batch: Batch) -> dict[str, Tensor]:
        return {n: net(batch.features[n], batch.masks[n]) for n, net in self.networks.items()}

    def _estimators(self) -> list[tuple[str, Estimator]]:
        return [(n, cast(Estimator, estimator)) for n, estimator in self.estimators.items()]

    def _fuse(self, vectors: dict[str, Tensor]) -> Tensor:
        fused: Tensor = self.fuse(self.narrow(torch.cat(list(vectors.values()), dim=1)))
        return fused

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the estimators' negative log-likelihood in their phase, else the overall loss."""
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
            # With one modality nothing is estimated, but the total needs a gradient.
            return {"total": total + 0 * vectors[self.main].sum()}
        fused = self._fuse(vectors)
        task = batch.mean(self.task.loss(self.head(fused), batch.labels_B))
        contrast = sum(
            (contrastive_coding(vectors[n], self.predictors[n](fused)) for n in self.names), zero
        )
        information = likelihood + self._entropy(vectors, batch)
        total = task + batch.share * (CONTRAST * contrast - INFORMATION * information)
        return {"total": total, "task": task, "contrast": contrast, "information": information}

    def _entropy(self, vectors: dict[str, Tensor], batch: Batch) -> Tensor:
        """Estimate the entropy of each modality from this batch and the previous one."""
        if batch.epoch != self._epoch:
            self._memory, self._epoch = {}, batch.epoch
        total = batch.labels_B.new_zeros(())
        if self.task.classes is not None:
            return total  # the estimate needs positive and negative labels
        for n, estimator in self._estimators():
            projected_BG = estimator.project(vectors[n])
            by_sign = (projected_BG[batch.labels_B > 0], projected_BG[batch.labels_B < 0])
            if n in self._memory:
                samples = [torch.cat(pair) for pair in zip(self._memory[n], by_sign, strict=True)]
                total = total + sum(0.25 * log_determinant(x) for x in samples if len(x) > 1)
            self._memory[n] = (by_sign[0].detach(), by_sign[1].detach())
        return total


class Estimator(nn.Module):
    """A Gaussian q(y | x) with learned mean and variance, and a projection for the entropy."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mean, self.log_variance = (
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            for _ in range(2)
        )
        self.project = nn.Sequential(nn.Linear(width, max(width // 4, 2)), nn.Tanh())

    def log_likelihood(self, x_BH: Tensor, y_BH: Tensor) -> Tensor:
        """Return `lld`: the mean over utterances of `−(y − μ)² / 2σ²`, summed over features."""
        error = (self.mean(x_BH) - y_BH).square()
        scaled: Tensor = error / (2 * self.log_variance(x_BH).exp())
        return -scaled.sum(1).mean()


def contrastive_coding(x_BH: Tensor, predicted_BH: Tensor) -> Tensor:
    """Return the contrastive predictive coding loss between a modality and its prediction."""
    x = nn.functional.normalize(x_BH, dim=1)
    predicted = nn.functional.normalize(predicted_BH, dim=1)
    positive = (x * predicted).sum(1)
    return -(positive - (x @ predicted.T).logsumexp(1)).mean()


def log_determinant(x_BG: Tensor) -> Tensor:
    """Return the log-determinant of the covariance matrix of the rows."""
    centred = x_BG - x_BG.mean(0)
    covariance = centred.T @ centred / len(x_BG)
    eye = torch.eye(x_BG.shape[1], dtype=x_BG.dtype, device=x_BG.device)
    return torch.logdet(covariance + DIAGONAL * eye)
