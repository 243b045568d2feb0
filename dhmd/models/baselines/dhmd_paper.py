"""DHMD in the paper's form (arXiv 2602.04260), as far as it is known.

The components and their connections are those of the paper's framework figure. Equations that the
paper shares with DMD are DMD's. What neither defines follows a public draft, a fork of DMD's code
with two dictionaries: 512 codes, scaled dot product over temperature 2, maximum over steps,
sparsemax, L2-normalised features, InfoNCE over the pairs of modalities with weight 0.1. Ours alone:
padding is masked everywhere, sequences are summarised by the mean of their steps, and absent
modalities have no vertex, edge or contrastive pair. docs/method.md compares the forms in a table.

Legend: B utterances, M modalities, T steps, D model width, F width of a space, K codes, O outputs.
"""

from __future__ import annotations

import dataclasses
import math
from itertools import combinations, permutations
from typing import Literal, cast

import torch
from pydantic import NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from dhmd.config.schema import CONFIG, load_section
from dhmd.models.baselines._dmd_layers import Head, cross_attention, memory_transformers
from dhmd.models.baselines.dmd import EDGE_SCALE, EDGE_WIDTH
from dhmd.models.batch import Batch
from dhmd.models.config import ModelConfig
from dhmd.models.layers import masked_mean, sparsemax
from dhmd.models.task import Task

SPACES = ("homogeneous", "heterogeneous")
ACTIVATION_TEMPERATURE = 2.0
CONTRASTIVE_TEMPERATURE = 0.07  # as in CLIP
NO_EDGE = -1e9  # score of an edge that does not exist


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class PaperOptions:
    """Options `model.options.dhmd_paper`: choices that the paper does not specify.

    Attributes:
        teachers: live outputs of the other modalities, as in DMD, or out-of-fold predictions.
        edge_softmax: normalise over all edges, as DMD's code does, or over each target's sources.
        distillation: weight of the graph distillation losses (DMD's).
        contrastive: weight of the contrastive losses (the draft's).
        codes: number of codes of each dictionary (the draft's).
    """

    teachers: Literal["live", "out_of_fold"] = "live"
    edge_softmax: Literal["all", "target"] = "all"
    distillation: NonNegativeFloat = 0.05
    contrastive: NonNegativeFloat = 0.1
    codes: PositiveInt = 512


class DHMDPaper(nn.Module):
    """Decoupling, homogeneous and heterogeneous GD-Units, two dictionaries, fusion."""

    title = "DHMD (paper's form)"
    Options = PaperOptions

    def __init__(
        self,
        inputs: dict[str, int],
        task: Task,
        config: ModelConfig,
    ) -> None:
        super().__init__()
        options = load_section(
            PaperOptions, config.options.get("dhmd_paper", {}), where="model.options.dhmd_paper"
        )
        self.task, self.options, self.names = task, options, tuple(inputs)
        width = config.width
        self.input_dropout = nn.ModuleDict(
            {name: nn.Dropout(config.dropout.input[name]) for name in inputs}
        )
        self.projections = nn.ModuleDict(
            {
                name: nn.Conv1d(
                    size,
                    width,
                    config.kernels[name],
                    padding=config.kernels[name] // 2,
                    bias=False,
                )
                for name, size in inputs.items()
            }
        )
        # Decoupling: E_com is shared by all modalities.
        self.E_com = nn.Conv1d(width, width, 1, bias=False)
        self.E_prt = nn.ModuleDict({n: nn.Conv1d(width, width, 1, bias=False) for n in inputs})
        self.decoders = nn.ModuleDict(
            {n: nn.Conv1d(2 * width, width, 1, bias=False) for n in inputs}
        )
        # Cross-modal transformers of the heterogeneous space.
        self.cross_attention = cross_attention(inputs, width, config)
        # A single modality attends to no other: its memory transformer reads private features.
        sizes = {"homogeneous": width, "heterogeneous": max(len(inputs) - 1, 1) * width}
        self.memory = memory_transformers(inputs, sizes["heterogeneous"], config)
        self.units = nn.ModuleDict(
            {s: GDUnit(s, self.names, size, task, config, options) for s, size in sizes.items()}
        )
        self.dictionaries = nn.ModuleDict(
            {space: SharedDictionary(options.codes, size) for space, size in sizes.items()}
        )
        fused = 2 * len(inputs) * sum(sizes.values())
        self.fusion = Head(fused, fused // 2, task.outputs, config)

    def forward(self, batch: Batch) -> Tensor:
        """Return outputs `[B, O]`."""
        return self.outputs(batch).output_BO

    def outputs(self, batch: Batch) -> PaperOutputs:
        """Return the outputs with all intermediate results."""
        inputs, com, prt, decoded, cycled = {}, {}, {}, {}, {}
        for name in self.names:
            mask_B1T = batch.masks[name][:, None]
            x_BIT = self.input_dropout[name](batch.features[name].transpose(1, 2))
            x_BDT = self.projections[name](x_BIT) * mask_B1T
            com_BDT, prt_BDT = self.E_com(x_BDT), self.E_prt[name](x_BDT)
            decoded[name] = self.decoders[name](torch.cat([com_BDT, prt_BDT], dim=1))
            cycled[name] = self.E_prt[name](decoded[name])
            inputs[name], com[name], prt[name] = x_BDT, com_BDT, prt_BDT
        sequences = {
            "homogeneous": {name: com[name].transpose(1, 2) for name in self.names},
            "heterogeneous": self._cross_modal(prt, batch),
        }
        spaces, fused = {}, []
        for space in SPACES:
            graph = self.units[space](sequences[space], batch)
            codes, features = {}, {}
            for name in self.names:
                codes[name], features[name] = self.dictionaries[space](
                    graph.features[name], batch.masks[name]
                )
                pooled_BF = masked_mean(graph.features[name], batch.masks[name])
                fused.append(torch.cat([pooled_BF, features[name]], dim=1))
            spaces[space] = Space(graph, codes, features)
        _, output_BO, _ = self.fusion(torch.cat(fused, dim=1))
        return PaperOutputs(inputs, com, prt, decoded, cycled, spaces, fused, output_BO)

    def _cross_modal(self, prt: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Compute Z_prt_{→m}: each modality attends to the others, then to itself."""
        features = {}
        for target in self.names:
            query_BTD, mask_BT = prt[target].transpose(1, 2), batch.masks[target]
            attended = [
                self.cross_attention[f"{target}_{source}"](
                    query_BTD, mask_BT, prt[source].transpose(1, 2), batch.masks[source]
                )
                for source in self.names
                if source != target
            ]
            features[target] = self.memory[target](
                torch.cat(attended or [query_BTD], dim=2), mask_BT
            )
        return features

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return `total` and its parts by name.

        `L = L_task + Σ heads + .05 (L_homoGD + L_heteroGD) + .1 (L_rec + L_cyc + .1 L_ort)
        + .1 (L_ctr^ho + L_ctr^he)`.
        """
        outputs = self.outputs(batch)
        task = batch.mean(self.task.loss(outputs.output_BO, batch.labels_B))
        zero = torch.zeros_like(task)
        rec, cyc, ort = zero, zero, zero
        for name in self.names:
            mask_BT = batch.masks[name]
            com, prt = outputs.com[name], outputs.prt[name]
            error_BT = (outputs.decoded[name] - outputs.inputs[name]).square().mean(1)
            rec = rec + batch.mean(masked_mean(error_BT, mask_BT))
            error_BT = (prt - outputs.cycled[name]).square().mean(1)
            cyc = cyc + batch.mean(masked_mean(error_BT, mask_BT))
            cosine_BT = functional.cosine_similarity(com, prt, dim=1)
            ort = ort + batch.mean(masked_mean(cosine_BT.abs(), mask_BT))
        parts = {"task": task, "rec": rec, "cyc": cyc, "ort": ort}
        total = task + 0.1 * (rec + cyc + 0.1 * ort)
        for name, space in outputs.spaces.items():
            heads = zero
            for modality, logits_BO in space.graph.logits.items():
                loss_B = self.task.loss(logits_BO, batch.labels_B)
                heads = heads + batch.mean(loss_B * batch.present[modality])
            distillation = cast(GDUnit, self.units[name]).loss(space.graph, batch)
            contrast = contrastive_loss(space.features, batch)
            total = total + heads + self.options.distillation * distillation
            total = total + self.options.contrastive * contrast
            parts |= {f"heads_{name}": heads, f"gd_{name}": distillation, f"ctr_{name}": contrast}
        return {"total": total, **parts}

    def details(self, batch: Batch) -> dict[str, Tensor]:
        """Return heads' outputs, edges (source, target), codes and embeddings by space."""
        outputs = self.outputs(batch)
        details = {"prediction": self.task.stored(outputs.output_BO)}
        features = {"homogeneous": outputs.com, "heterogeneous": outputs.prt}
        for name, space in outputs.spaces.items():
            logits_BMO = torch.stack(list(space.graph.logits.values()), dim=1)
            details[f"vertex/{name}"] = self.task.stored(logits_BMO)
            details[f"edges/{name}"] = space.graph.edges_BIJ
            details[f"codes/{name}"] = torch.stack(list(space.codes.values()), dim=1)
            details[f"embedding/{name}"] = torch.stack(
                [
                    masked_mean(x_BDT.transpose(1, 2), batch.masks[modality])
                    for modality, x_BDT in features[name].items()
                ],
                dim=1,
            )
        return details


@dataclasses.dataclass
class Graph:
    """Outputs of a GD-Unit: features `[B, T, F]` and logits `[B, O]` by modality, edge weights."""

    features: dict[str, Tensor]
    logits: dict[str, Tensor]
    edges_BIJ: Tensor


@dataclasses.dataclass
class Space:
    """The graph of a space, and codes `[B, K]` and dictionary features `[B, F]` by modality."""

    graph: Graph
    codes: dict[str, Tensor]
    features: dict[str, Tensor]


@dataclasses.dataclass
class PaperOutputs:
    """Outputs, and intermediate results `[B, D, T]` by modality.

    `fused` has the six vectors (modality × space) that the fusion concatenates.
    """

    inputs: dict[str, Tensor]
    com: dict[str, Tensor]
    prt: dict[str, Tensor]
    decoded: dict[str, Tensor]
    cycled: dict[str, Tensor]
    spaces: dict[str, Space]
    fused: list[Tensor]
    output_BO: Tensor


class GDUnit(nn.Module):
    """Graph distillation unit: a dynamic directed graph without self edges (figure; DMD, 3.3).

    A vertex is a modality's logits and features, concatenated. The edge weights are the softmax of
    a linear score of the two vertices. The unit returns the features that give the logits.
    """

    def __init__(
        self,
        space: str,
        names: tuple[str, ...],
        size: int,
        task: Task,
        config: ModelConfig,
        options: PaperOptions,
    ) -> None:
        super().__init__()
        self.names, self.task, self.options = names, task, options
        self.edges = list(permutations(range(len(names)), 2))  # (source, target)
        self.heads = nn.ModuleDict({n: Head(size, size, task.outputs, config) for n in names})
        hidden = EDGE_WIDTH[space]
        self.logits = nn.Linear(task.outputs, hidden)
        self.representation = nn.Linear(size, hidden)
        self.score = nn.Linear(4 * hidden, 1)

    def forward(self, sequences: dict[str, Tensor], batch: Batch) -> Graph:
        features, logits, vertices = {}, {}, []
        for name in self.names:
            _, steps_BTO, features[name] = self.heads[name](sequences[name])
            logits[name] = masked_mean(steps_BTO, batch.masks[name])
            pooled_BF = masked_mean(features[name], batch.masks[name])
            vertices.append(
                torch.cat([self.logits(logits[name]), self.representation(pooled_BF)], dim=1)
            )
        return Graph(features, logits, self._weights(vertices, batch.presence))

    def _weights(self, vertices: list[Tensor], presence: Tensor) -> Tensor:
        """Compute edge weights `[B, I, J]` from source to target; 0 if one of them is absent."""
        count = len(self.names)
        no_edge_B = vertices[0].new_full((len(vertices[0]),), NO_EDGE)
        scores: dict[tuple[int, int], Tensor] = {}
        for source, target in self.edges:
            score_B1 = EDGE_SCALE * self.score(torch.cat([vertices[target], vertices[source]], 1))
            present_B = presence[:, source] & presence[:, target]
            scores[source, target] = torch.where(present_B, score_B1[:, 0], no_edge_B)
        scores_BIJ = torch.stack(
            [
                torch.stack([scores.get((i, j), no_edge_B) for j in range(count)], dim=1)
                for i in range(count)
            ],
            dim=1,
        )
        if self.options.edge_softmax == "target":
            weights_BIJ = scores_BIJ.softmax(1)
        else:
            weights_BIJ = scores_BIJ.flatten(1).softmax(1).view_as(scores_BIJ)
        # If no edge exists, the softmax is uniform.
        return weights_BIJ.masked_fill(scores_BIJ <= NO_EDGE, 0.0)

    def loss(self, graph: Graph, batch: Batch) -> Tensor:
        """Compute `Σ w_{i→j} |f(i) − f(j)|` over the edges, as in DMD.

        Teachers are detached; the weights are not, so that the loss trains them, as in DMD.
        """
        loss = graph.edges_BIJ.new_zeros(())
        for source, target in self.edges:
            student_BO = graph.logits[self.names[target]]
            if self.options.teachers == "live":
                teacher_BO = graph.logits[self.names[source]]
            else:
                assert batch.teachers is not None
                teacher_BO = batch.teachers[self.names[source]]
                student_BO = self.task.predictions(student_BO)
            distance_B = (student_BO - teacher_BO.detach()).abs().sum(1)
            loss = loss + batch.mean(distance_B * graph.edges_BIJ[:, source, target])
        return loss


class SharedDictionary(nn.Module):
    """Codes that all modalities of a space share (figure; equations after the draft)."""

    def __init__(self, num_codes: int, size: int) -> None:
        super().__init__()
        self.codes_KF = nn.Parameter(torch.randn(num_codes, size))

    def forward(self, x_BTF: Tensor, mask_BT: Tensor) -> tuple[Tensor, Tensor]:
        """Return activations `[B, K]` and normalised dictionary features `[B, F]`.

        Both are zero where no step is real.
        """
        scores_BTK = x_BTF @ self.codes_KF.T / math.sqrt(x_BTF.shape[2]) / ACTIVATION_TEMPERATURE
        lowest = torch.finfo(scores_BTK.dtype).min
        scores_BK = scores_BTK.masked_fill(~mask_BT[..., None], lowest).amax(1)
        present_B1 = mask_BT.any(1, keepdim=True)
        codes_BK = sparsemax(torch.where(present_B1, scores_BK, 0.0)) * present_B1
        return codes_BK, functional.normalize(codes_BK @ self.codes_KF, dim=1)


def contrastive_loss(features: dict[str, Tensor], batch: Batch) -> Tensor:
    """Compute L_ctr: symmetric InfoNCE over the pairs of modalities (after CLIP and the draft).

    The positive is the same utterance, the negatives are all others of the batch. Utterances
    without one of the two modalities, or with weight 0, are left out.
    """
    loss = torch.zeros_like(batch.share)
    pairs = list(combinations(features, 2))
    for first, second in pairs:
        real_B = batch.present[first] & batch.present[second] & (batch.weight_B > 0)
        scores_BB = features[first] @ features[second].T / CONTRASTIVE_TEMPERATURE
        lowest = torch.finfo(scores_BB.dtype).min
        for scores in (scores_BB, scores_BB.T):
            log_BB = scores.masked_fill(~real_B[None, :], lowest).log_softmax(1)
            loss = loss - batch.mean(log_BB.diagonal() * real_B) / 2
    return loss / max(len(pairs), 1)
