"""DHMD for one seed, in ordinary PyTorch: the definition of the method, section by section.

`model.engine: plain` trains it; `dhmd.models.stacked` computes the same for all seeds at once. The
losses are in `losses.py`, the layers in `layers.py`.

Legend: B utterances, M modalities, T steps, I source and J target modality, D model width,
W = (M − 1) D (D without cross-modal attention), O outputs, K codes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import permutations

import torch
from torch import Tensor, nn

from dhmd.models import losses
from dhmd.models.batch import Batch
from dhmd.models.config import DecoupleConfig, DictionaryConfig, DistillationConfig, ModelConfig
from dhmd.models.layers import (
    TransformerEncoder,
    masked_mean,
    modality_encoders,
    sparsemax,
    zero_padding,
)
from dhmd.models.learner import ParameterGroup
from dhmd.models.task import Task

Steps = dict[str, Tensor]  # by modality, [B, T_m, D]

HOMOGENEOUS, HETEROGENEOUS = "homogeneous", "heterogeneous"

# To have more active codes (ten, say), the initial codes must be so similar that all utterances use
# the same ones: after 200 updates the overlap of any two utterances was 0.9.
ACTIVE_AT_START = 3
PROBE_QUERIES = 64
PROBE_STEPS = 8


class Decoupling(nn.Module):
    """Section 2 (DMD, section 3.1): `com_m = E_com(X_m)`, `prt_m = E_prt_m(X_m)`, decoders `D_m`.

    com: shared features, one encoder for all modalities; prt: private features. The encoders act on
    each step alone (convolutions of width 1, DMD's public configuration).
    """

    def __init__(self, modalities: tuple[str, ...], width: int) -> None:
        super().__init__()
        self.shared = nn.Linear(width, width)
        self.private = nn.ModuleDict({m: nn.Linear(width, width) for m in modalities})
        self.decoder = nn.ModuleDict({m: nn.Linear(2 * width, width) for m in modalities})

    def forward(self, encoded: Steps, masks: Steps) -> tuple[Steps, Steps]:
        com = {m: zero_padding(self.shared(x), masks[m]) for m, x in encoded.items()}
        prt = {m: zero_padding(self.private[m](x), masks[m]) for m, x in encoded.items()}
        return com, prt

    def decode(self, com: Steps, prt: Steps) -> tuple[Steps, Steps]:
        """Return `D_m([com_m, prt_m])`, and `E_prt_m` of it."""
        decoded = {m: self.decoder[m](torch.cat([com[m], prt[m]], -1)) for m in com}
        return decoded, {m: self.private[m](x) for m, x in decoded.items()}


class CrossModalAttention(nn.Module):
    """Section 3: attention from prt_m to every other prt_n, concatenated, then a memory encoder.

    Every direction has its own encoder (MulT). With one modality, or with `model.cross_modal` off,
    it is self-attention on prt_m.
    """

    def __init__(self, modalities: tuple[str, ...], config: ModelConfig) -> None:
        super().__init__()
        crossing = config.cross_modal and len(modalities) > 1
        pairs = list(permutations(modalities, 2)) if crossing else []
        self.width = (len(modalities) - 1) * config.width if crossing else config.width
        self.cross = nn.ModuleDict(
            {
                edge(source, target): TransformerEncoder(config.width, config, attended=source)
                for target, source in pairs
            }
        )
        self.memory = nn.ModuleDict(
            {m: TransformerEncoder(self.width, config, attended=m) for m in modalities}
        )

    def forward(self, prt: Steps, masks: Steps) -> Steps:
        steps = prt
        if self.cross:
            steps = {
                m: torch.cat(
                    [self.cross[edge(n, m)](prt[m], masks[n], prt[n]) for n in prt if n != m], -1
                )
                for m in prt
            }
        return {m: self.memory[m](x, masks[m]) for m, x in steps.items()}


@dataclass
class Graph:
    """Outputs of a GD-Unit.

    Attributes:
        vertices_BMW: representations of the modalities.
        outputs_BMO: outputs of their own heads.
        learned_BIJ: edge weights of the edge network; the gradient reaches that network alone.
        edges_BIJ: edge weights of distillation, detached: learned, or a control.
        projected: see `losses.representation`.
    """

    vertices_BMW: Tensor
    outputs_BMO: Tensor
    learned_BIJ: Tensor
    edges_BIJ: Tensor
    projected: dict[tuple[int, int], Tensor]


class GraphDistillationUnit(nn.Module):
    """Section 3 (DMD, section 3.2): a directed graph whose vertices are modalities.

    The edge weights are `w_{i→j} = softmax over present i of g([f(v_i), v_i], [f(v_j), v_j])`, for
    each utterance and target, with self edges. g reads detached vertices.
    """

    def __init__(
        self,
        task: Task,
        modalities: tuple[str, ...],
        width: int,
        kd: DistillationConfig,
        dropout: float,
    ) -> None:
        super().__init__()
        self.task, self.modalities, self.kind = task, modalities, kd.graph.edges
        ends, hidden = width + task.outputs, kd.graph.hidden
        self.hidden = nn.ModuleDict({m: nn.Linear(width, width) for m in modalities})
        self.head = nn.ModuleDict({m: nn.Linear(width, task.outputs) for m in modalities})
        self.edge_source = nn.ModuleDict({m: nn.Linear(ends, hidden) for m in modalities})
        self.edge_target = nn.ModuleDict({m: nn.Linear(ends, hidden) for m in modalities})
        self.edge_score = nn.Linear(hidden, 1, bias=False)
        nn.init.zeros_(self.edge_score.weight)  # edges start uniform
        self.projection = nn.ModuleDict()
        if kd.graph.representation > 0:
            for target, source in permutations(modalities, 2):
                self.projection[edge(source, target)] = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, vertices: Steps, batch: Batch) -> Graph:
        outputs = {
            m: self.head[m](self.dropout(self.hidden[m](v_BW).relu()))
            for m, v_BW in vertices.items()
        }
        ends = {
            m: torch.cat(
                [
                    self.task.predictions(outputs[m].detach()),
                    nn.functional.layer_norm(v_BW.detach(), v_BW.shape[-1:]),
                ],
                dim=-1,
            )
            for m, v_BW in vertices.items()
        }
        sources_BIH = torch.stack([self.edge_source[m](end) for m, end in ends.items()], 1)
        targets_BJH = torch.stack([self.edge_target[m](end) for m, end in ends.items()], 1)
        hidden_BIJH = (sources_BIH.unsqueeze(2) + targets_BJH.unsqueeze(1)).relu()
        scores_BIJ = self.edge_score(hidden_BIJH)[..., 0]
        learned_BIJ = losses.over_present(scores_BIJ, batch.presence)
        index = {m: number for number, m in enumerate(self.modalities)}
        projected = {
            (index[i], index[j]): self.projection[edge(i, j)](vertices[i].detach())
            for i, j in permutations(self.modalities, 2)
            if self.projection
        }
        return Graph(
            torch.stack(list(vertices.values()), 1),
            torch.stack(list(outputs.values()), 1),
            learned_BIJ,
            losses.control_edges(self.kind, learned_BIJ, batch, self.modalities),
            projected,
        )


@dataclass
class DictionaryOutputs:
    """Outputs of a dictionary: relevance z, activation A (on the simplex), feature u."""

    relevance_BMK: Tensor
    activation_BMK: Tensor
    feature_BMW: Tensor


class Dictionary(nn.Module):
    """Section 4 (ours, after arXiv 2303.14865): codes `C [K, W]` shared by all modalities.

    `q_m = MLP_m(norm(h_m[t]))`, `z_m[k] = max over real t of s · cos(q_m[t], C[k])`,
    `A_m = sparsemax(z_m)`, `u_m = normalise(A_m C)`.
    """

    def __init__(self, modalities: tuple[str, ...], width: int, config: DictionaryConfig) -> None:
        super().__init__()
        self.scale = config.scale
        self.query = nn.ModuleDict(
            {
                m: nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
                for m in modalities
            }
        )
        self.codes_KW = nn.Parameter(initial_codes(width, config))

    def forward(self, steps: Steps, batch: Batch) -> DictionaryOutputs:
        codes_KW = nn.functional.normalize(self.codes_KW, dim=-1)
        relevance = []
        for m, h_BTW in steps.items():
            # Without the norm, small h would give every utterance the same codes (by the biases).
            q_BTW = self.query[m](nn.functional.layer_norm(h_BTW, h_BTW.shape[-1:]))
            cosine_BTK = nn.functional.normalize(q_BTW, dim=-1) @ codes_KW.T
            cosine_BTK = cosine_BTK.masked_fill(~batch.masks[m].unsqueeze(-1), -torch.inf)
            z_BK = cosine_BTK.amax(1).masked_fill(~batch.present[m][:, None], 0.0)
            relevance.append(z_BK)
        z_BMK = torch.stack(relevance, 1) * self.scale
        a_BMK = sparsemax(z_BMK) * batch.presence.unsqueeze(-1)
        return DictionaryOutputs(z_BMK, a_BMK, nn.functional.normalize(a_BMK @ codes_KW, dim=-1))


def initial_codes(width: int, config: DictionaryConfig) -> Tensor:
    """Draw codes `[K, W]` such that about three are active at the start (ours).

    With independent codes only one or two would be active, because their relevances differ too
    much. The codes are a common direction plus noise, whose size is found by bisection.
    """
    normalize = nn.functional.normalize
    common = normalize(torch.randn(1, width), dim=-1)
    noise = normalize(torch.randn(config.codes, width), dim=-1)
    probes = normalize(torch.randn(PROBE_QUERIES, PROBE_STEPS, width), dim=-1)
    wanted = min(ACTIVE_AT_START, config.codes / 2)
    low, high = 1e-3, 1e3
    for _ in range(30):
        middle = (low * high) ** 0.5
        cosine = probes @ normalize(common + middle * noise, dim=-1).T
        active = (sparsemax(cosine.amax(1) * config.scale) > 0).sum(-1).float().mean()
        low, high = (middle, high) if active > wanted else (low, middle)
    return normalize(common + high * noise, dim=-1)


class GatedFusion(nn.Module):
    """Section 5: each feature gated by `h · σ(W h)`, then a residual MLP and a head.

    Learned embeddings replace the features of an absent modality.
    """

    def __init__(
        self,
        modalities: tuple[str, ...],
        widths: list[int],
        *,
        hidden: int,
        outputs: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.modalities = modalities
        self.gates = nn.ModuleList(
            nn.ModuleDict({m: nn.Linear(width, width) for m in modalities}) for width in widths
        )
        self.absent = nn.ParameterList(
            nn.Parameter(torch.randn(len(modalities), width) * 0.1) for width in widths
        )
        total = len(modalities) * sum(widths)
        self.narrow = nn.Linear(total, hidden)
        self.widen = nn.Linear(hidden, total)
        self.head = nn.Linear(total, outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: list[Tensor], batch: Batch) -> Tensor:
        """Fuse features `[B, M, W]` into outputs `[B, O]`."""
        gated = []
        for index, m in enumerate(self.modalities):
            for feature_BMW, gates, absent_MW in zip(
                features, self.gates, self.absent, strict=True
            ):
                present_B1 = batch.present[m][:, None]
                h_BW = torch.where(present_B1, feature_BMW[:, index], absent_MW[index])
                gated.append(h_BW * gates[m](h_BW).sigmoid())  # type: ignore[index]
        joint = torch.cat(gated, -1)
        hidden = self.dropout(self.narrow(joint).relu())
        out: Tensor = self.head(joint + self.dropout(self.widen(hidden)))
        return out


@dataclass
class ModelOutputs:
    """Results of a forward pass: by modality, or by space."""

    output_BO: Tensor
    encoded: Steps
    com: Steps
    prt: Steps
    pooled_com_BMD: Tensor
    graphs: dict[str, Graph]
    dictionaries: dict[str, DictionaryOutputs] = field(default_factory=dict)


class DHMD(nn.Module):
    """The whole model."""

    def __init__(
        self,
        inputs: dict[str, int],
        task: Task,
        config: ModelConfig,
        *,
        decouple: DecoupleConfig,
        kd: DistillationConfig,
    ) -> None:
        super().__init__()
        self.task, self.decouple, self.kd = task, decouple, kd
        self.auxiliary_average = config.auxiliary_average
        modalities, width, dropout = tuple(inputs), config.width, config.dropout.output
        self.encoders = modality_encoders(inputs, config)
        self.decoupling = Decoupling(modalities, width) if decouple.enabled else None
        self.homogeneous = nn.ModuleDict(
            {m: TransformerEncoder(width, config, attended=m) for m in modalities}
        )
        self.heterogeneous = CrossModalAttention(modalities, config)
        widths = {HOMOGENEOUS: width, HETEROGENEOUS: self.heterogeneous.width}
        self.graphs = nn.ModuleDict(
            {
                space: GraphDistillationUnit(task, modalities, size, kd, dropout)
                for space, size in widths.items()
            }
        )
        self.dictionaries = nn.ModuleDict(
            {
                space: Dictionary(modalities, size, kd.dictionary)
                for space, size in widths.items()
                if getattr(kd.dictionary, space)
            }
        )
        self.fusion = GatedFusion(
            modalities,
            [self.heterogeneous.width, width, *(widths[space] for space in self.dictionaries)],
            hidden=2 * width,
            outputs=task.outputs,
            dropout=dropout,
        )

    def forward(self, batch: Batch) -> Tensor:
        return self.outputs(batch).output_BO

    def outputs(self, batch: Batch) -> ModelOutputs:
        """Run the whole model."""
        masks = batch.masks

        def pool(steps: Steps) -> Steps:
            return {m: masked_mean(x, masks[m]) for m, x in steps.items()}

        def stacked(vectors: Steps) -> Tensor:
            return torch.stack(list(vectors.values()), 1)

        # 1. Encoders.
        encoded = {m: self.encoders[m](x, masks[m]) for m, x in batch.features.items()}
        # 2. Decoupling. Without it both spaces read X_m (an ablation).
        com, prt = self.decoupling(encoded, masks) if self.decoupling else (encoded, encoded)
        # 3. Coarse distillation: a GD-Unit on pooled com, one on cross-modal features.
        crossed = self.heterogeneous(prt, masks)
        attended = {m: self.homogeneous[m](x, masks[m]) for m, x in com.items()}
        z, c, pooled_com = pool(crossed), pool(attended), pool(com)
        vertices = {HOMOGENEOUS: pooled_com, HETEROGENEOUS: z}
        graphs = {space: unit(vertices[space], batch) for space, unit in self.graphs.items()}
        # 4. Fine distillation: a dictionary per space.
        steps = {HOMOGENEOUS: com, HETEROGENEOUS: crossed}
        dictionaries = {
            space: unit(steps[space], batch) for space, unit in self.dictionaries.items()
        }
        # 5. Fusion of [Z_m, C_m, u_m], added to the average of the vertices' own outputs.
        features = [stacked(z), stacked(c), *(d.feature_BMW for d in dictionaries.values())]
        output_BO = self.fusion(features, batch)
        if self.auxiliary_average:
            output_BO = output_BO + average_of_vertices(graphs, batch)
        return ModelOutputs(output_BO, encoded, com, prt, stacked(pooled_com), graphs, dictionaries)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return `total` and its parts by name.

        `L_task + aux [(1 − λ) Σ L_task(vertices) + λ (L_homoGD + L_heteroGD)]
        + decouple.weight · L_dec + λ · kd.dictionary.weight · L_DM + L_edge`.

        λ = 0 removes every distillation loss; L_edge remains, and reaches the edge networks only.
        """
        outputs, task, kd = self.outputs(batch), self.task, self.kd
        found = {"task": batch.mean(task.loss(outputs.output_BO, batch.labels_B))}
        total = found["task"]
        if self.decoupling is not None:
            decoded, cycled = self.decoupling.decode(outputs.com, outputs.prt)
            found["rec"] = losses.reconstruction(outputs.encoded, decoded, batch)
            found["cyc"] = losses.reconstruction(outputs.prt, cycled, batch)
            found["ort"] = losses.orthogonality(outputs.com, outputs.prt, batch)
            unit, gamma = self.decouple.margin, self.decouple.gamma
            found["mar"] = losses.margin(outputs.pooled_com_BMD, batch, task, unit)
            found["dec"] = found["rec"] + found["cyc"] + gamma * (found["mar"] + found["ort"])
            total = total + self.decouple.weight * found["dec"]
        for space, graph in outputs.graphs.items():
            vertex = losses.vertex_task(graph.outputs_BMO, batch, task)
            distillation = losses.graph_distillation(
                graph.edges_BIJ, graph.outputs_BMO, batch, task, kd.graph.tau
            )
            if kd.graph.representation > 0:
                distillation = distillation + kd.graph.representation * losses.representation(
                    graph.edges_BIJ, graph.vertices_BMW, graph.projected, batch
                )
            if kd.graph.edge_loss == "mixture":
                edges = losses.edge_mixture(graph.learned_BIJ, batch, task)
            else:
                edges = losses.edge_kl(graph.learned_BIJ, batch, task, kd.graph.tau)
            found[f"vertex_{space}"], found[f"gd_{space}"] = vertex, distillation
            found[f"edge_{space}"] = edges
            distils = float(getattr(kd.graph, space))
            convex = (1 - kd.lambda_) * vertex + kd.lambda_ * distils * distillation
            total = total + kd.aux * convex + edges
        for space, dictionary in outputs.dictionaries.items():
            matching = losses.dictionary_matching(
                dictionary.relevance_BMK,
                dictionary.activation_BMK,
                dictionary.feature_BMW,
                outputs.graphs[space].edges_BIJ,
                batch,
                task,
                scale=kd.dictionary.scale,
                temperature=kd.dictionary.temperature,
                balance=kd.dictionary.balance,
            )
            found[f"dm_{space}"] = matching
            weight = kd.dictionary.weight if kd.dictionary.matching else 0.0
            total = total + kd.lambda_ * weight * matching
        return {"total": total, **found}

    def details(self, batch: Batch) -> dict[str, Tensor]:
        """Return the datasets of outputs.h5, `[B, …]` by name."""
        outputs = self.outputs(batch)
        details = {}
        for space, graph in outputs.graphs.items():
            details[f"vertex/{space}"] = self.task.stored(graph.outputs_BMO)
            absent_B1J = ~batch.presence.unsqueeze(1)
            details[f"edges/{space}"] = graph.edges_BIJ.masked_fill(absent_B1J, torch.nan)
        for space, dictionary in outputs.dictionaries.items():
            details[f"codes/{space}"] = dictionary.activation_BMK
        prt = {m: masked_mean(x, batch.masks[m]) for m, x in outputs.prt.items()}
        details["embedding/homogeneous"] = outputs.pooled_com_BMD
        details["embedding/heterogeneous"] = torch.stack(list(prt.values()), 1)
        return details

    def parameter_group(self, name: str) -> ParameterGroup:
        """Dictionaries learn at their own rate."""
        factor = self.kd.dictionary.lr_factor if name.startswith("dictionaries.") else 1.0
        return ParameterGroup(learning_rate=factor)


def average_of_vertices(graphs: dict[str, Graph], batch: Batch) -> Tensor:
    """Average the vertices' own outputs over spaces and present modalities, detached (ours).

    Each head learns only from the labels and its teachers, so that distillation improves the final
    output directly; the fusion learns the residual.
    """
    present_BM1 = batch.presence.unsqueeze(-1)
    outputs_BMO = torch.stack([graph.outputs_BMO.detach() for graph in graphs.values()]).mean(0)
    return (outputs_BMO * present_BM1).sum(1) / present_BM1.sum(1).clamp(min=1)


def edge(source: str, target: str) -> str:
    """Name the module of a directed edge."""
    return f"{source}_to_{target}"
