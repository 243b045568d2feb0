"""Coarse distillation: the Graph Distillation Unit (method section 3; DMD, section 3.2).

A dynamic directed graph. Its vertices are modalities; its edge weights are the weights of
distillation from source to target modality, for each utterance.

Legend: E members, B utterances, M modalities, I source and J target modality (both M), D vertex
width, O outputs, H width of the edge network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dhmd.models.batch import EnsembleBatch
from dhmd.models.config import Edges, GraphConfig
from dhmd.models.losses import dmd_prior
from dhmd.models.members import Members
from dhmd.models.stacked.layers import Dropout, Linear
from dhmd.models.task import Task

EDGE_SOURCES: tuple[Edges, ...] = ("learned", "uniform", "prior", "mean", "shuffled", "self")


@dataclass
class Graph:
    """Outputs of a GD-Unit.

    Attributes:
        vertices_EMBD: representations of the modalities.
        outputs_EMBO: outputs of the auxiliary heads, one per vertex.
        learned_EBIJ: edge weights of the edge network; their gradient reaches that network alone.
        edges_EBIJ: edge weights that distillation uses, detached: learned, or a control.
    """

    vertices_EMBD: Tensor
    outputs_EMBO: Tensor
    learned_EBIJ: Tensor
    edges_EBIJ: Tensor


class GraphDistillationUnit(nn.Module):
    """One GD-Unit: HomoGD over pooled com, HeteroGD over cross-modal outputs.

    Args:
        edges: kind of edge weights of each member, one of `EDGE_SOURCES`.
    """

    prior_IJ: Tensor
    source_EE: Tensor
    ends_P2: Tensor

    def __init__(
        self,
        members: Members,
        task: Task,
        modalities: tuple[str, ...],
        width: int,
        *,
        config: GraphConfig,
        edges: tuple[Edges, ...],
        output_dropout: float,
    ) -> None:
        super().__init__()
        self.task, self.config = task, config
        groups, outputs, hidden = len(modalities), task.outputs, config.hidden
        self.hidden = Linear(members, groups, width, width)
        self.dropout = Dropout(members, output_dropout)
        self.head = Linear(members, groups, width, outputs)
        self.edge_source = Linear(members, groups, width + outputs, hidden)
        self.edge_target = Linear(members, groups, width + outputs, hidden)
        self.edge_score = Linear(members, 1, hidden, 1, bias=False)
        with torch.no_grad():  # edges start uniform
            self.edge_score.weight_EGIO.zero_()
        self.projection: Linear | None = None
        if config.representation > 0:
            self.pairs = [(i, j) for j in range(groups) for i in range(groups) if i != j]
            self.projection = Linear(members, len(self.pairs), width, width)
            ends_P2 = torch.tensor(self.pairs, dtype=torch.int64).view(-1, 2).to(members.device)
            self.register_buffer("ends_P2", ends_P2, persistent=False)
        chosen = torch.tensor([EDGE_SOURCES.index(name) for name in edges])
        one_hot = nn.functional.one_hot(chosen, len(EDGE_SOURCES)).float()
        self.register_buffer("source_EE", one_hot.to(members.device), persistent=False)
        prior = dmd_prior(modalities).to(members.device)
        self.register_buffer("prior_IJ", prior, persistent=False)

    def forward(self, vertices_EMBD: Tensor, batch: EnsembleBatch) -> Graph:
        outputs = self.head(self.dropout(self.hidden(vertices_EMBD).relu()))
        learned = self._edges(vertices_EMBD, outputs, batch.present_EMB)
        return Graph(
            vertices_EMBD, outputs, learned, self._distillation_edges(learned.detach(), batch)
        )

    def _edges(self, vertices: Tensor, outputs: Tensor, present_EMB: Tensor) -> Tensor:
        """Compute `softmax over present i of g([f(v_i), v_i], [f(v_j), v_j])` of detached vertices.

        The first layer of g acts on source and target separately, so that edges share its products.
        """
        width = vertices.shape[-1]
        normal = nn.functional.layer_norm(vertices.detach(), (width,))
        ends = torch.cat([self.task.predictions(outputs.detach()), normal], dim=-1)
        source, target = self.edge_source(ends), self.edge_target(ends)
        hidden_EIJBH = (source.unsqueeze(2) + target.unsqueeze(1)).relu()
        scores_EIJB = self.edge_score(hidden_EIJBH)[..., 0]
        scores_EBIJ = scores_EIJB.permute(0, 3, 1, 2)
        return softmax_over_present(scores_EBIJ, present_EMB)

    def _distillation_edges(self, learned_EBIJ: Tensor, batch: EnsembleBatch) -> Tensor:
        """Return the edge weights of each member's kind, detached."""
        present_EMB = batch.present_EMB
        flat = torch.zeros_like(learned_EBIJ)
        weight = (batch.weight_EB > 0).float()[..., None, None]
        mean = (learned_EBIJ * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp_min(
            1
        )
        itself = torch.eye(flat.shape[-1], device=flat.device).expand_as(flat)
        choices = {
            "learned": learned_EBIJ,
            "uniform": softmax_over_present(flat, present_EMB),
            "prior": softmax_over_present(self.prior_IJ.expand_as(flat), present_EMB),
            "mean": _renormalise(mean.expand_as(flat), present_EMB),
            # Weights of the previous utterance, which have the same distribution.
            "shuffled": _renormalise(learned_EBIJ.roll(1, dims=1), present_EMB),
            "self": _renormalise(itself, present_EMB),
        }
        stacked = torch.stack([choices[name] for name in EDGE_SOURCES], dim=1)
        return (stacked * self.source_EE[:, :, None, None, None]).sum(1)

    def task_loss(self, graph: Graph, batch: EnsembleBatch) -> Tensor:
        """Compute the task loss of the auxiliary heads, summed over present modalities: `[E]`."""
        each_EMB = self.task.loss(graph.outputs_EMBO, batch.labels_EB.unsqueeze(1))
        return ((each_EMB * batch.present_EMB).sum(1) * batch.weight_EB).sum(-1)

    def distillation_loss(self, graph: Graph, batch: EnsembleBatch) -> Tensor:
        """Compute `L_GD = Σ_j Σ_i w_{i→j} (ỹ_i − ŷ_j)²`, mean over utterances: `[E]`.

        The gradient reaches the vertices through ŷ_j only: edges and teachers are fixed. A target
        without another present modality has no loss.
        """
        teachers_EMBO = _teachers(batch)
        target = graph.outputs_EMBO.unsqueeze(1)  # [E, 1, J, B, O]
        distance_EIJB = self.task.distance(target, teachers_EMBO.unsqueeze(2), self.config.tau)
        each_EB = (graph.edges_EBIJ * distance_EIJB.permute(0, 3, 1, 2)).sum(2)
        loss = self._over_targets(each_EB, batch)
        if self.projection is not None:
            loss = loss + self.config.representation * self._representation(graph, batch)
        return loss

    def edge_loss(self, graph: Graph, batch: EnsembleBatch) -> Tensor:
        """Compute the loss that trains the edge network alone: `[E]` (ours).

        `L_edge = Σ_j |Σ_i w_{i→j} ỹ_i − y|`, in classification the cross-entropy of the mixture; or
        the control `KL(softmax_i(−|ỹ_i − y| / τ) ‖ w)`. Vertices and teachers are detached.
        """
        teachers_EBIO = _teachers(batch).transpose(1, 2)
        weights_EBIJ = graph.learned_EBIJ
        labels_EB = batch.labels_EB
        if self.config.edge_loss == "mixture":
            mixed_EBJO = torch.einsum("rbij,rbio->rbjo", weights_EBIJ, teachers_EBIO)
            each_EBJ = self.task.prediction_loss(mixed_EBJO, labels_EB.unsqueeze(-1))
        else:
            error_EBI = self.task.prediction_error(teachers_EBIO, labels_EB.unsqueeze(-1))
            scores = (-error_EBI / self.config.tau).unsqueeze(-1).expand_as(weights_EBIJ)
            target = softmax_over_present(scores, batch.present_EMB)
            log_ratio = target.clamp_min(1e-9).log() - weights_EBIJ.clamp_min(1e-9).log()
            each_EBJ = (target * log_ratio).sum(2)
        return self._over_targets(each_EBJ, batch)

    def _over_targets(self, each_EBJ: Tensor, batch: EnsembleBatch) -> Tensor:
        """Sum over present targets that have another present modality, average over utterances."""
        choice_EB = batch.present_EMB.sum(1) > 1
        counted = batch.present_EMB.transpose(1, 2) & choice_EB.unsqueeze(-1)
        return ((each_EBJ * counted).sum(-1) * batch.weight_EB).sum(-1)

    def _representation(self, graph: Graph, batch: EnsembleBatch) -> Tensor:
        """Compute `Σ_{i≠j} w_{i→j} (1 − cos(P_ij v_i, v_j))`; v_i is detached."""
        assert self.projection is not None
        pairs = self.pairs
        sources = graph.vertices_EMBD[:, self.ends_P2[:, 0]].detach()
        targets = graph.vertices_EMBD[:, self.ends_P2[:, 1]]
        cosine_EPB = nn.functional.cosine_similarity(self.projection(sources), targets, dim=-1)
        edges_EPB = torch.stack([graph.edges_EBIJ[:, :, i, j] for i, j in pairs], dim=1)
        counted = torch.stack(
            [batch.present_EMB[:, i] & batch.present_EMB[:, j] for i, j in pairs], dim=1
        )
        each_EB = (edges_EPB * (1 - cosine_EPB) * counted).sum(1)
        return (each_EB * batch.weight_EB).sum(-1)


def softmax_over_present(scores_EBIJ: Tensor, present_EMB: Tensor) -> Tensor:
    """Normalise the scores of each target over the present sources; absent sources get 0."""
    absent = ~present_EMB.transpose(1, 2).unsqueeze(-1)
    weights = scores_EBIJ.masked_fill(absent, -1e9).softmax(2)
    return weights * ~absent


def _renormalise(weights_EBIJ: Tensor, present_EMB: Tensor) -> Tensor:
    kept = weights_EBIJ * present_EMB.transpose(1, 2).unsqueeze(-1)
    return kept / kept.sum(2, keepdim=True).clamp_min(1e-9)


def _teachers(batch: EnsembleBatch) -> Tensor:
    if batch.teachers_EMBO is None:
        raise ValueError("distillation needs out-of-fold teachers in the batch")
    return batch.teachers_EMBO
