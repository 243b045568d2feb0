"""Coarse distillation: the Graph Distillation Unit (method section 3; DMD, section 3.2).

A dynamic directed graph whose vertices are modalities and whose edges say, for each utterance, how
much each target modality listens to each source.

Legend: R replicas, B utterances, M modalities, I source and J target modality (both M), D vertex
width, O outputs, H width of the edge network.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dhmd.models.batch import Batch
from dhmd.models.config import MODALITIES, Edges, GraphConfig
from dhmd.models.stacked.dropout import Dropout
from dhmd.models.stacked.linear import Linear
from dhmd.models.stacked.replicas import Replicas
from dhmd.models.task import Task

EDGE_SOURCES: tuple[Edges, ...] = ("learned", "uniform", "prior", "mean", "shuffled", "self")

# DMD's hard-coded prior, kept as a control only: (source, target) pairs that it favours, as logits
# 1 against 0 at temperature 0.25. The self edge, which DMD has not, counts as favoured [ours].
_DMD_PRIOR = {("text", "audio"), ("text", "vision"), ("vision", "audio")}
_DMD_PRIOR_TEMPERATURE = 0.25


@dataclass
class Graph:
    """What a GD-Unit says of a batch.

    Attributes:
        vertices_RMBD: the modalities' representations.
        outputs_RMBO: each vertex' own output.
        learned_RBIJ: the edge network's weights, softmax over present sources; gradient reaches
            the edge network alone.
        edges_RBIJ: the weights used to distil, detached: learned, or one of the controls.
    """

    vertices_RMBD: Tensor
    outputs_RMBO: Tensor
    learned_RBIJ: Tensor
    edges_RBIJ: Tensor


class GraphDistillationUnit(nn.Module):
    """One GD-Unit: HomoGD over pooled com, HeteroGD over cross-modal outputs.

    Args:
        edges: `[R]` names of `EDGE_SOURCES`: where each replica's edges come from.
    """

    prior_IJ: Tensor
    source_RE: Tensor

    def __init__(
        self,
        replicas: Replicas,
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
        self.hidden = Linear(replicas, groups, width, width)
        self.dropout = Dropout(replicas, output_dropout)
        self.head = Linear(replicas, groups, width, outputs)
        self.edge_source = Linear(replicas, groups, width + outputs, hidden)
        self.edge_target = Linear(replicas, groups, width + outputs, hidden)
        self.edge_score = Linear(replicas, 1, hidden, 1, bias=False)
        with torch.no_grad():  # edges start uniform
            self.edge_score.weight_RGIO.zero_()
        self.projection: Linear | None = None
        if config.representation > 0:
            pairs = groups * (groups - 1)
            self.projection = Linear(replicas, pairs, width, width)
        chosen = torch.tensor([EDGE_SOURCES.index(name) for name in edges])
        one_hot = nn.functional.one_hot(chosen, len(EDGE_SOURCES)).float()
        self.register_buffer("source_RE", one_hot.to(replicas.device), persistent=False)
        prior = _prior(modalities).to(replicas.device)
        self.register_buffer("prior_IJ", prior, persistent=False)

    def forward(self, vertices_RMBD: Tensor, batch: Batch) -> Graph:
        outputs = self.head(self.dropout(self.hidden(vertices_RMBD).relu()))
        learned = self._edges(vertices_RMBD, outputs, batch.present_RMB)
        return Graph(vertices_RMBD, outputs, learned, self._used(learned.detach(), batch))

    def _edges(self, vertices: Tensor, outputs: Tensor, present_RMB: Tensor) -> Tensor:
        """`softmax over present i of g([f(v_i), v_i], [f(v_j), v_j])`, reading detached vertices.

        The first layer of g acts on each end alone, so that its products are shared by all edges.
        """
        width = vertices.shape[-1]
        normal = nn.functional.layer_norm(vertices.detach(), (width,))
        ends = torch.cat([self.task.present(outputs.detach()), normal], dim=-1)
        source, target = self.edge_source(ends), self.edge_target(ends)
        hidden_RIJBH = (source.unsqueeze(2) + target.unsqueeze(1)).relu()
        scores_RIJB = self.edge_score(hidden_RIJBH)[..., 0]
        scores_RBIJ = scores_RIJB.permute(0, 3, 1, 2)
        return over_present(scores_RBIJ, present_RMB)

    def _used(self, learned_RBIJ: Tensor, batch: Batch) -> Tensor:
        """The weights that distil: per replica the learned ones or a control, detached."""
        present_RMB = batch.present_RMB
        flat = torch.zeros_like(learned_RBIJ)
        weight = (batch.weight_RB > 0).float()[..., None, None]
        mean = (learned_RBIJ * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp_min(
            1
        )
        itself = torch.eye(flat.shape[-1], device=flat.device).expand_as(flat)
        choices = {
            "learned": learned_RBIJ,
            "uniform": over_present(flat, present_RMB),
            "prior": over_present(self.prior_IJ.expand_as(flat), present_RMB),
            "mean": _renormalise(mean.expand_as(flat), present_RMB),
            # Another utterance's weights: what is lost is only the tie to this utterance.
            "shuffled": _renormalise(learned_RBIJ.roll(1, dims=1), present_RMB),
            "self": _renormalise(itself, present_RMB),
        }
        stacked = torch.stack([choices[name] for name in EDGE_SOURCES], dim=1)
        return (stacked * self.source_RE[:, :, None, None, None]).sum(1)

    def task_loss(self, graph: Graph, batch: Batch) -> Tensor:
        """Σ over present vertices of their own task loss, mean over utterances: `[R]`."""
        each_RMB = self.task.loss(graph.outputs_RMBO, batch.labels_RB.unsqueeze(1))
        return ((each_RMB * batch.present_RMB).sum(1) * batch.weight_RB).sum(-1)

    def distillation_loss(self, graph: Graph, batch: Batch) -> Tensor:
        """`L_GD = Σ_j Σ_i w_{i→j} (ỹ_i − ŷ_j)²`, mean over utterances: `[R]` (eq. ours).

        Gradient reaches the vertices through ŷ_j only: edges and teachers are fixed. A target that
        has no foreign source takes no part: with one modality there is nothing to distil.
        """
        teachers_RMBO = _teachers(batch)
        target = graph.outputs_RMBO.unsqueeze(1)  # [R, 1, J, B, O]
        distance_RIJB = self.task.distance(target, teachers_RMBO.unsqueeze(2), self.config.tau)
        each_RB = (graph.edges_RBIJ * distance_RIJB.permute(0, 3, 1, 2)).sum(2)
        loss = self._over_targets(each_RB, batch)
        if self.projection is not None:
            loss = loss + self.config.representation * self._representation(graph, batch)
        return loss

    def edge_loss(self, graph: Graph, batch: Batch) -> Tensor:
        """What trains the edges and nothing else: `[R]` (eq. ours).

        `L_edge = Σ_j |Σ_i w_{i→j} ỹ_i − y|`, for classes the mixture's cross-entropy; or the
        control `KL(softmax_i(−|ỹ_i − y| / τ) ‖ w)`. Vertices are detached, teachers are fixed.
        """
        teachers_RBIO = _teachers(batch).transpose(1, 2)
        weights_RBIJ = graph.learned_RBIJ
        labels_RB = batch.labels_RB
        if self.config.edge_loss == "mixture":
            mixed_RBJO = torch.einsum("rbij,rbio->rbjo", weights_RBIJ, teachers_RBIO)
            each_RBJ = self._mixture_loss(mixed_RBJO, labels_RB)
        else:
            error_RBI = self._teacher_error(teachers_RBIO, labels_RB)
            scores = (-error_RBI / self.config.tau).unsqueeze(-1).expand_as(weights_RBIJ)
            wanted = over_present(scores, batch.present_RMB)
            log_ratio = wanted.clamp_min(1e-9).log() - weights_RBIJ.clamp_min(1e-9).log()
            each_RBJ = (wanted * log_ratio).sum(2)
        return self._over_targets(each_RBJ, batch)

    def _mixture_loss(self, mixed_RBJO: Tensor, labels_RB: Tensor) -> Tensor:
        if self.task.classes is None:
            return (mixed_RBJO[..., 0] - labels_RB.unsqueeze(-1)).abs()
        index = labels_RB.long()[..., None, None].expand(*mixed_RBJO.shape[:-1], 1)
        return -mixed_RBJO.gather(-1, index)[..., 0].clamp_min(1e-6).log()

    def _teacher_error(self, teachers_RBIO: Tensor, labels_RB: Tensor) -> Tensor:
        if self.task.classes is None:
            return (teachers_RBIO[..., 0] - labels_RB.unsqueeze(-1)).abs()
        index = labels_RB.long()[..., None, None].expand(*teachers_RBIO.shape[:-1], 1)
        return 1 - teachers_RBIO.gather(-1, index)[..., 0]

    def _over_targets(self, each_RBJ: Tensor, batch: Batch) -> Tensor:
        """Σ over present targets with a foreign source present, mean over utterances."""
        choice_RB = batch.present_RMB.sum(1) > 1
        counted = batch.present_RMB.transpose(1, 2) & choice_RB.unsqueeze(-1)
        return ((each_RBJ * counted).sum(-1) * batch.weight_RB).sum(-1)

    def _representation(self, graph: Graph, batch: Batch) -> Tensor:
        """`Σ_{i≠j} w_{i→j} (1 − cos(P_ij v_i, v_j))`; v_i is fixed, P_ij and v_j learn."""
        assert self.projection is not None
        count = graph.vertices_RMBD.shape[1]
        pairs = [(i, j) for j in range(count) for i in range(count) if i != j]
        sources = graph.vertices_RMBD[:, [i for i, _ in pairs]].detach()
        targets = graph.vertices_RMBD[:, [j for _, j in pairs]]
        cosine_RPB = nn.functional.cosine_similarity(self.projection(sources), targets, dim=-1)
        edges_RPB = torch.stack([graph.edges_RBIJ[:, :, i, j] for i, j in pairs], dim=1)
        counted = torch.stack(
            [batch.present_RMB[:, i] & batch.present_RMB[:, j] for i, j in pairs], dim=1
        )
        each_RB = (edges_RPB * (1 - cosine_RPB) * counted).sum(1)
        return (each_RB * batch.weight_RB).sum(-1)


def over_present(scores_RBIJ: Tensor, present_RMB: Tensor) -> Tensor:
    """Softmax over the sources that are present, for each target."""
    absent = ~present_RMB.transpose(1, 2).unsqueeze(-1)
    weights = scores_RBIJ.masked_fill(absent, -1e9).softmax(2)
    return weights * ~absent


def _renormalise(weights_RBIJ: Tensor, present_RMB: Tensor) -> Tensor:
    kept = weights_RBIJ * present_RMB.transpose(1, 2).unsqueeze(-1)
    return kept / kept.sum(2, keepdim=True).clamp_min(1e-9)


def _teachers(batch: Batch) -> Tensor:
    if batch.teachers_RMBO is None:
        raise ValueError("distillation needs the out-of-fold teachers of the batch")
    return batch.teachers_RMBO


def _prior(modalities: tuple[str, ...]) -> Tensor:
    unknown = set(modalities) - set(MODALITIES)
    if unknown:
        raise ValueError(f"no such modality: {sorted(unknown)}")
    favoured = [[float(i == j or (i, j) in _DMD_PRIOR) for j in modalities] for i in modalities]
    return torch.tensor(favoured) / _DMD_PRIOR_TEMPERATURE
