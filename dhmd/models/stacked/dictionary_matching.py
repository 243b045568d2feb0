"""Fine distillation: matching of modalities over a shared dictionary (method section 4).

The stage is the paper's. The equations are ours, after finite discrete tokens (arXiv 2303.14865).

Legend: E members, M modalities, B utterances (C candidates, also B), T steps, W width, K codes,
P ordered pairs (source i, target j).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dhmd.models.batch import EnsembleBatch
from dhmd.models.config import DictionaryConfig
from dhmd.models.layers import INITIAL_ACTIVE_CODES, PROBE_QUERIES, PROBE_STEPS
from dhmd.models.losses import fenchel_young
from dhmd.models.members import Members
from dhmd.models.stacked.kernels import product
from dhmd.models.stacked.layers import ALL, Linear, by_group, masked_max
from dhmd.models.stacked.sparsemax import sparsemax
from dhmd.models.task import Task


@dataclass
class DictionaryOutputs:
    """Outputs of a dictionary: relevance z, activation A (on the simplex), feature u."""

    relevance_EMBK: Tensor
    activation_EMBK: Tensor
    feature_EMBW: Tensor


class QueryMLP(nn.Module):
    """Query MLPs `q_m = MLP_m(layernorm(h_m[t]))`, which keep the shape `[E, g, B, T, W]`.

    Without the norm, small h would give all steps the same query, by the biases, and all utterances
    the same codes.
    """

    def __init__(self, members: Members, num_modalities: int, width: int) -> None:
        super().__init__()
        self.hidden = Linear(members, num_modalities, width, width)
        self.out = Linear(members, num_modalities, width, width)

    def forward(self, x: Tensor, select: slice = ALL) -> Tensor:
        normal = nn.functional.layer_norm(x, x.shape[-1:])
        query: Tensor = self.out(self.hidden(normal, select).relu(), select)
        return query


class DictionaryMatching(nn.Module):
    """A dictionary `C_s [K, W]` that the modalities of a space share, and a query MLP for each."""

    sources_P: Tensor
    targets_P: Tensor

    def __init__(
        self, members: Members, num_modalities: int, width: int, config: DictionaryConfig
    ) -> None:
        super().__init__()
        self.config = config
        self.query = QueryMLP(members, num_modalities, width)
        self.codes_EKW = nn.Parameter(initial_codes(members, width, config))
        self.pairs = [
            (i, j) for i in range(num_modalities) for j in range(num_modalities) if i != j
        ]
        # Buffers on the device, since a CUDA graph cannot copy from the host.
        ends_P2 = torch.tensor(self.pairs, dtype=torch.int64).view(-1, 2).to(members.device)
        self.register_buffer("sources_P", ends_P2[:, 0].contiguous(), persistent=False)
        self.register_buffer("targets_P", ends_P2[:, 1].contiguous(), persistent=False)

    def forward(self, steps: list[Tensor], masks: list[Tensor]) -> DictionaryOutputs:
        """Match the steps of each modality to the codes.

        `z_m[k] = max over real t of s · cos(q_m[t], C[k])`, `A = sparsemax(z)`,
        `u = normalise(A C)`. Everything is zero for absent modalities.
        """
        codes_EKW = nn.functional.normalize(self.codes_EKW, dim=-1)
        relevance = [
            masked_max(self._cosines(query, codes_EKW), mask)
            for query, mask in zip(by_group(self.query, steps), masks, strict=True)
        ]
        z = torch.cat(relevance, dim=1) * self.config.scale
        present_EMB = torch.cat([mask.any(-1) for mask in masks], dim=1)
        activation = sparsemax(z) * present_EMB.unsqueeze(-1)
        members, modalities, batch, codes = activation.shape
        mixed = product(activation.reshape(members, -1, codes), codes_EKW)
        feature = nn.functional.normalize(mixed, dim=-1).view(members, modalities, batch, -1)
        return DictionaryOutputs(z, activation, feature)

    @staticmethod
    def _cosines(query_EGBTW: Tensor, codes_EKW: Tensor) -> Tensor:
        """Compute the cosine of every step's query and every code, `[E, g, B, T, K]`."""
        members, *middle, width = query_EGBTW.shape
        unit = nn.functional.normalize(query_EGBTW, dim=-1).reshape(members, -1, width)
        return product(unit, codes_EKW.transpose(1, 2)).view(members, *middle, -1)

    def loss(
        self, outputs: DictionaryOutputs, edges_EBIJ: Tensor, batch: EnsembleBatch, task: Task
    ) -> Tensor:
        """Compute `L_DM`, `[E]` (ours).

        The sum of three terms: the mean of InfoNCE(u_j, u_i) over ordered pairs; Fenchel–Young
        losses of the pairs, weighted by the GD-Unit's edges, which couple the two stages; and
        `balance` times `usage_imbalance`. Without the last term, Fenchel–Young losses favour the
        most used codes until all utterances have the same ones.

        Fenchel–Young losses are divided by the scale s of their scores: otherwise they dominate
        InfoNCE at s = 10, and all utterances end up with the same codes.

        The gradient reaches both modalities in InfoNCE, the target in the Fenchel–Young losses (A_i
        is detached), and not the edges.
        """
        pairs, sources_P, targets_P = self.pairs, self.sources_P, self.targets_P
        if not pairs:
            return outputs.feature_EMBW.new_zeros(outputs.feature_EMBW.shape[0])
        present_EPB = batch.present_EMB[:, sources_P] & batch.present_EMB[:, targets_P]
        contrast_EPB = info_nce(
            outputs.feature_EMBW[:, targets_P],
            outputs.feature_EMBW[:, sources_P],
            present_EPB,
            batch,
            task,
            self.config.temperature,
        )
        divergence_EPB = fenchel_young(
            outputs.relevance_EMBK[:, targets_P],
            outputs.activation_EMBK[:, targets_P],
            outputs.activation_EMBK[:, sources_P],
        )
        edges_EPB = torch.stack([edges_EBIJ[:, :, i, j] for i, j in pairs], dim=1).detach()
        divergence_EPB = divergence_EPB / self.config.scale
        loss_EPB = contrast_EPB / len(pairs) + edges_EPB * divergence_EPB
        matching = ((loss_EPB * present_EPB).sum(1) * batch.weight_EB).sum(-1)
        return matching + self.config.balance * usage_imbalance(outputs, batch)


def info_nce(
    anchors_EPBW: Tensor,
    candidates_EPCW: Tensor,
    present_EPB: Tensor,
    batch: EnsembleBatch,
    task: Task,
    temperature: float,
) -> Tensor:
    """Compute InfoNCE of each anchor, `[E, P, B]`.

    The positive is the same utterance in the other modality. Utterances of its class, padding and
    utterances without both modalities are not negatives.
    """
    scores_EPBC = anchors_EPBW @ candidates_EPCW.transpose(-1, -2) / temperature
    classes_EB = task.margin_classes(batch.labels_EB)
    same_EBC = classes_EB.unsqueeze(-1) == classes_EB.unsqueeze(-2)
    itself = torch.eye(same_EBC.shape[-1], dtype=torch.bool, device=same_EBC.device)
    real_EPC = present_EPB & (batch.weight_EB > 0).unsqueeze(1)
    allowed = (real_EPC.unsqueeze(-2) & ~same_EBC.unsqueeze(1)) | itself
    scores = scores_EPBC.masked_fill(~allowed, -torch.inf)
    return scores.logsumexp(-1) - scores.diagonal(dim1=-2, dim2=-1)


def usage_imbalance(outputs: DictionaryOutputs, batch: EnsembleBatch) -> Tensor:
    """Measure how unevenly a batch uses the codes, `[E]`: `K Σ_k usage_k · p_k`, 1 for even use.

    usage is the mean activation over utterances and modalities, p the mean softmax of the
    relevances (the load balancing loss of mixtures of experts, Fedus et al., 2021, for sparse
    codes). The gradient reaches queries and codes through p alone, so that unused codes have a
    gradient too.
    """
    weight_EMB = batch.present_EMB * batch.weight_EB.unsqueeze(1)
    total_E = weight_EMB.sum((1, 2))
    share_EMB1 = (weight_EMB / total_E.clamp_min(1e-9)[:, None, None]).unsqueeze(-1)
    usage_EK = (outputs.activation_EMBK.detach() * share_EMB1).sum((1, 2))
    relevance = outputs.relevance_EMBK.masked_fill(~batch.present_EMB.unsqueeze(-1), 0.0)
    soft_EK = (relevance.softmax(-1) * share_EMB1).sum((1, 2))
    codes = usage_EK.shape[-1]
    return codes * (usage_EK * soft_EK).sum(-1) * batch.weight_EB.sum(-1)


def initial_codes(members: Members, width: int, config: DictionaryConfig) -> Tensor:
    """Draw codes `[E, K, W]` of which about three are active per utterance (ours).

    See `dhmd.models.layers.initial_codes`.
    """
    common = nn.functional.normalize(members.normal(1, width), dim=-1)
    noise = nn.functional.normalize(members.normal(config.codes, width), dim=-1)
    probes = nn.functional.normalize(members.normal(PROBE_QUERIES, PROBE_STEPS, width), dim=-1)
    target = min(INITIAL_ACTIVE_CODES, config.codes / 2)
    low = torch.full((members.count, 1, 1), 1e-3, device=members.device)
    high = torch.full_like(low, 1e3)
    for _ in range(30):
        middle = (low * high).sqrt()
        codes = nn.functional.normalize(common + middle * noise, dim=-1)
        cosine = torch.einsum("rnsw,rkw->rnsk", probes, codes)
        active = (sparsemax(cosine.amax(2) * config.scale) > 0).sum(-1).float().mean(-1)
        too_many = (active > target).view(-1, 1, 1)  # more noise makes fewer codes active
        low, high = torch.where(too_many, middle, low), torch.where(too_many, high, middle)
    return nn.functional.normalize(common + high * noise, dim=-1)
