"""CM²: cross-modal alignment by a copula (Wu et al., ICML 2025, arXiv 2511.03196).

The marginal distribution of each modality's vector is a mixture of Gaussians; a Gumbel copula joins
the marginals, component by component. The negative log-likelihood is added to the task loss. The
vector of an absent modality is a sample of its marginal. An LSTM over the modalities fuses them.
As in the authors' code, the copula term is the logarithm of the copula's distribution function, not
of its density, and the samples of all components are summed with the mixture weights. Filled in: an
LSTM per modality instead of encoders of clinical data; in evaluation, the vector of an absent
modality is the mean of its marginal, so that predictions are deterministic.

Legend: B utterances, M modalities, H width, K components.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from dhmd.models.baselines._sub_networks import LastState
from dhmd.models.batch import Batch
from dhmd.models.config import ModelConfig
from dhmd.models.task import Task

COMPONENTS = 3
WEIGHT = 1e-6  # weight of the copula loss


class CM2(nn.Module):
    """Encoders, mixture marginals, copula, and fusion."""

    title = "CM²"

    def __init__(self, inputs: dict[str, int], task: Task, config: ModelConfig) -> None:
        super().__init__()
        self.task, width = task, config.width
        self.networks = nn.ModuleDict({n: LastState(size, width) for n, size in inputs.items()})
        self.projections = nn.ModuleDict({n: nn.Linear(width, width) for n in inputs})
        shape = (len(inputs), COMPONENTS, width)
        self.means_MKH = nn.Parameter(torch.zeros(shape))
        # Softplus of these is the standard deviation.
        self.spreads_MKH = nn.Parameter(torch.full(shape, -4.0))
        self.logits_MK = nn.Parameter(torch.full(shape[:2], 1 / COMPONENTS))
        self.theta = nn.Parameter(torch.ones(()))
        self.fusion = nn.LSTM(width, width, batch_first=True)
        self.dropout = nn.Dropout(config.dropout.output)
        self.head = nn.Linear(width, task.outputs)

    def forward(self, batch: Batch) -> Tensor:
        """Return outputs `[B, O]`."""
        return self._output(self._vectors(batch), batch)

    def _vectors(self, batch: Batch) -> Tensor:
        """Return normalised vectors, `[B, M, H]`."""
        vectors = [
            functional.normalize(self.projections[n](net(batch.features[n], batch.masks[n])), dim=1)
            for n, net in self.networks.items()
        ]
        return torch.stack(vectors, dim=1)

    def _output(self, vectors_BMH: Tensor, batch: Batch) -> Tensor:
        samples_BMH = self.sample(len(vectors_BMH)).detach()
        complete_BMH = torch.where(batch.presence[..., None], vectors_BMH, samples_BMH)
        _, (states, _) = self.fusion(complete_BMH)
        output_BO: Tensor = self.head(self.dropout(states[0]))
        return output_BO

    def sample(self, count: int) -> Tensor:
        """Draw vectors from the marginals, `[B, M, H]`; in evaluation mode, return their means."""
        samples_BMKH = self.means_MKH.expand(count, *self.means_MKH.shape)
        if self.training:
            noise = torch.randn_like(samples_BMKH)
            samples_BMKH = samples_BMKH + functional.softplus(self.spreads_MKH) * noise
        return (self.logits_MK.softmax(1)[..., None] * samples_BMKH).sum(2)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return `total = task + WEIGHT · copula`; incomplete utterances have no copula term."""
        vectors_BMH = self._vectors(batch)
        task = batch.mean(self.task.loss(self._output(vectors_BMH, batch), batch.labels_B))
        copula_B = negative_log_likelihood(
            vectors_BMH,
            self.means_MKH,
            functional.softplus(self.spreads_MKH),
            self.logits_MK.log_softmax(1),
            self.theta,
        )
        copula = batch.mean(copula_B * batch.presence.all(1))
        return {"total": task + WEIGHT * copula, "task": task, "copula": copula}


def negative_log_likelihood(
    x_BMH: Tensor, means_MKH: Tensor, spreads_MKH: Tensor, log_weights_MK: Tensor, theta: Tensor
) -> Tensor:
    """Return `−log Σ_k C(F_1k, …, F_Mk) Π_m π_mk f_mk` of each utterance, `[B]`.

    F and f are the distribution function and the density of component k of a modality.
    """
    z_BMKH = (x_BMH[:, :, None] - means_MKH) / spreads_MKH
    probability_BMKH = 0.5 * torch.erfc(-z_BMKH / math.sqrt(2))
    log_cdf_BMK = probability_BMKH.clamp_min(1e-15).log().sum(3)
    log_pdf_BMK = -(0.5 * z_BMKH.square() + spreads_MKH.log() + 0.5 * math.log(2 * math.pi)).sum(3)
    joint_BK = gumbel(log_cdf_BMK, theta) + (log_pdf_BMK + log_weights_MK).sum(1)
    return -joint_BK.logsumexp(1)


def gumbel(log_u_BMK: Tensor, theta: Tensor) -> Tensor:
    """Return `log C(u) = −(Σ_m (−log u_m)^θ)^(1/θ)`, θ ≥ 1."""
    theta = theta.clamp_min(1.0)
    # Without the clamp, a marginal of exactly 1 would have no finite gradient.
    powers = (-log_u_BMK).clamp_min(1e-12) ** theta
    return -(powers.sum(1) ** (1 / theta))
