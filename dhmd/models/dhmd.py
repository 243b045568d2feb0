"""DHMD for one seed in plain PyTorch: the definition of the method.

Decoupled Hierarchical Multimodal Distillation (arXiv 2602.04260) extends DMD (arXiv 2303.13802):

1. Encoders map the features of each modality m to X_m.
2. Decoupling splits X_m into shared features com_m and private features prt_m.
3. Coarse distillation. The homogeneous space has the shared features, the heterogeneous space the
   private features after cross-modal attention. In each space, a graph distillation unit (GD-Unit)
   weights the teachers of each modality: predictions of unimodal models on held-out folds.
4. Fine distillation. In each space, the modalities are matched over the codes of a dictionary.
5. Gated fusion of all features, plus the average of the auxiliary heads, is the final output.

docs/method.md has every equation and its source: the paper, DMD or ours. The losses are in
`losses.py`, the layers in `layers.py`. `model.engine: plain` trains this module;
`dhmd.models.stacked` computes the same for all seeds at once.

The suffix of a name is the tensor's shape: B utterances, M modalities, T steps, I source modality,
J target modality, D model width, W = (M − 1) D (D without cross-modal attention), O outputs,
K codes, H width of the edge network.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import torch
from torch import Tensor, nn

from dhmd.models import losses
from dhmd.models.batch import Batch
from dhmd.models.config import DecoupleConfig, DictionaryConfig, DistillationConfig, ModelConfig
from dhmd.models.layers import (
    TransformerEncoder,
    initial_codes,
    masked_mean,
    modality_encoders,
    sparsemax,
    zero_padding,
)
from dhmd.models.learner import ParameterGroup
from dhmd.models.task import Task

Features = dict[str, Tensor]  # by modality: sequences [B, T_m, D], or vectors [B, D] once pooled

HOMOGENEOUS, HETEROGENEOUS = "homogeneous", "heterogeneous"


# ---- 2. decoupling -------------------------------------------------------------------------------


class Decoupling(nn.Module):
    """Encoders that split features into shared and private ones (DMD, section 3.1).

    `com_m = E_com(X_m)` with one encoder for all modalities, `prt_m = E_prt_m(X_m)` with one per
    modality. The encoders act on each step alone (convolutions of width 1, as in DMD's code).
    """

    def __init__(self, modalities: tuple[str, ...], width: int) -> None:
        super().__init__()
        self.shared = nn.Linear(width, width)
        self.private = nn.ModuleDict({m: nn.Linear(width, width) for m in modalities})
        self.decoder = nn.ModuleDict({m: nn.Linear(2 * width, width) for m in modalities})

    def forward(self, encoded: Features, masks: dict[str, Tensor]) -> tuple[Features, Features]:
        """Return the shared and the private features, zero on padding."""
        com = {m: zero_padding(self.shared(x), masks[m]) for m, x in encoded.items()}
        prt = {m: zero_padding(self.private[m](x), masks[m]) for m, x in encoded.items()}
        return com, prt

    def decode(self, com: Features, prt: Features) -> tuple[Features, Features]:
        """Return the reconstruction `D_m([com_m, prt_m])`, and `E_prt_m` of it (the cycle)."""
        decoded = {m: self.decoder[m](torch.cat([com[m], prt[m]], -1)) for m in com}
        return decoded, {m: self.private[m](x) for m, x in decoded.items()}


# ---- 3. coarse distillation ----------------------------------------------------------------------


class CrossModalAttention(nn.Module):
    """Attention from prt_m to every other prt_n, concatenated, then self-attention (MulT, DMD).

    Every pair of modalities has its own encoder, and every modality a memory encoder for the
    self-attention. With one modality, or with `model.cross_modal` off, only the memory encoder
    remains.
    """

    def __init__(self, modalities: tuple[str, ...], config: ModelConfig) -> None:
        super().__init__()
        enabled = config.cross_modal and len(modalities) > 1
        self.width = (len(modalities) - 1) * config.width if enabled else config.width
        self.cross = nn.ModuleDict(
            {
                f"{source}_to_{target}": TransformerEncoder(config.width, config, attended=source)
                for target, source in (permutations(modalities, 2) if enabled else ())
            }
        )
        self.memory = nn.ModuleDict(
            {m: TransformerEncoder(self.width, config, attended=m) for m in modalities}
        )

    def forward(self, prt: Features, masks: dict[str, Tensor]) -> Features:
        """Return cross-modal features, `[B, T_m, W]` by modality."""
        attended = prt
        if self.cross:
            attended = {
                m: torch.cat(
                    [self.cross[f"{n}_to_{m}"](prt[m], masks[n], prt[n]) for n in prt if n != m], -1
                )
                for m in prt
            }
        return {m: self.memory[m](x, masks[m]) for m, x in attended.items()}


@dataclass
class Graph:
    """Outputs of a GD-Unit.

    Attributes:
        vertices_BMW: representations of the modalities.
        outputs_BMO: outputs of the auxiliary heads, one per vertex.
        learned_BIJ: edge weights of the edge network; their gradient reaches that network alone.
        edges_BIJ: edge weights that distillation uses, detached: learned, or a control.
        projected: `P_ij v_i` by pair (i, j), for `losses.representation`; empty without that term.
    """

    vertices_BMW: Tensor
    outputs_BMO: Tensor
    learned_BIJ: Tensor
    edges_BIJ: Tensor
    projected: dict[tuple[int, int], Tensor]


class GraphDistillationUnit(nn.Module):
    """A directed graph whose vertices are modalities (DMD, section 3.2).

    For each utterance, the weight of teacher i for student j is
    `w_{i→j} = softmax over present i of g([f(v_i), v_i], [f(v_j), v_j])`, where f is the auxiliary
    head of a vertex. g, the edge network, reads detached vertices. A modality may teach itself.
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
        self.task, self.modalities, self.control = task, modalities, kd.graph.edges
        inputs, hidden = width + task.outputs, kd.graph.hidden
        self.hidden = nn.ModuleDict({m: nn.Linear(width, width) for m in modalities})
        self.head = nn.ModuleDict({m: nn.Linear(width, task.outputs) for m in modalities})
        self.edge_source = nn.ModuleDict({m: nn.Linear(inputs, hidden) for m in modalities})
        self.edge_target = nn.ModuleDict({m: nn.Linear(inputs, hidden) for m in modalities})
        self.edge_score = nn.Linear(hidden, 1, bias=False)
        nn.init.zeros_(self.edge_score.weight)  # edges start uniform
        self.projection = nn.ModuleDict()
        if kd.graph.representation > 0:
            for target, source in permutations(modalities, 2):
                self.projection[f"{source}_to_{target}"] = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, vertices: Features, batch: Batch) -> Graph:
        """Compute auxiliary outputs and edge weights from pooled features `[B, W]`."""
        outputs = {
            m: self.head[m](self.dropout(self.hidden[m](v_BW).relu()))
            for m, v_BW in vertices.items()
        }
        # The edge network: its first layer acts on source and target separately.
        edge_inputs = {
            m: torch.cat(
                [
                    self.task.predictions(outputs[m].detach()),
                    nn.functional.layer_norm(v_BW.detach(), v_BW.shape[-1:]),
                ],
                dim=-1,
            )
            for m, v_BW in vertices.items()
        }
        sources_BIH = torch.stack([self.edge_source[m](x) for m, x in edge_inputs.items()], 1)
        targets_BJH = torch.stack([self.edge_target[m](x) for m, x in edge_inputs.items()], 1)
        hidden_BIJH = (sources_BIH.unsqueeze(2) + targets_BJH.unsqueeze(1)).relu()
        scores_BIJ = self.edge_score(hidden_BIJH)[..., 0]
        learned_BIJ = losses.softmax_over_present(scores_BIJ, batch.presence)
        projected = {
            (i, j): self.projection[f"{source}_to_{target}"](vertices[source].detach())
            for i, source in enumerate(self.modalities)
            for j, target in enumerate(self.modalities)
            if self.projection and i != j
        }
        return Graph(
            torch.stack(list(vertices.values()), 1),
            torch.stack(list(outputs.values()), 1),
            learned_BIJ,
            losses.control_edges(self.control, learned_BIJ, batch, self.modalities),
            projected,
        )


# ---- 4. fine distillation ------------------------------------------------------------------------


@dataclass
class DictionaryOutputs:
    """Outputs of a dictionary.

    Attributes:
        relevance_BMK: z, the scaled cosine of each code with the most similar step.
        activation_BMK: A, non-negative weights of the codes that sum to 1; zeros where absent.
        feature_BMW: u, the normalised mixture of the codes.
    """

    relevance_BMK: Tensor
    activation_BMK: Tensor
    feature_BMW: Tensor


class Dictionary(nn.Module):
    """Codes `C [K, W]` that all modalities of a space share (ours, after arXiv 2303.14865).

    `q_m = MLP_m(layernorm(h_m[t]))`, `z_m[k] = max over real t of s · cos(q_m[t], C[k])`,
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

    def forward(self, features: Features, batch: Batch) -> DictionaryOutputs:
        """Match the steps `[B, T_m, W]` of each modality to the codes."""
        codes_KW = nn.functional.normalize(self.codes_KW, dim=-1)
        relevance = []
        for m, h_BTW in features.items():
            # Without the norm, small h would give all utterances the same query, by the biases.
            q_BTW = self.query[m](nn.functional.layer_norm(h_BTW, h_BTW.shape[-1:]))
            cosine_BTK = nn.functional.normalize(q_BTW, dim=-1) @ codes_KW.T
            cosine_BTK = cosine_BTK.masked_fill(~batch.masks[m].unsqueeze(-1), -torch.inf)
            relevance.append(cosine_BTK.amax(1).masked_fill(~batch.present[m][:, None], 0.0))
        z_BMK = torch.stack(relevance, 1) * self.scale
        a_BMK = sparsemax(z_BMK) * batch.presence.unsqueeze(-1)
        return DictionaryOutputs(z_BMK, a_BMK, nn.functional.normalize(a_BMK @ codes_KW, dim=-1))


# ---- 5. fusion -----------------------------------------------------------------------------------


class GatedFusion(nn.Module):
    """A gate `h · σ(W h)` for each feature, a residual MLP and a head.

    Learned embeddings replace the features of an absent modality.

    Args:
        widths: width W of each feature that is fused.
        hidden: width of the MLP's hidden layer.
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
        """Fuse features `[B, M, W]`, one tensor per width, into outputs `[B, O]`."""
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


def auxiliary_average(graphs: dict[str, Graph], batch: Batch) -> Tensor:
    """Average the auxiliary heads over spaces and present modalities: `[B, O]`, detached (ours).

    Each head learns only from the labels and its teachers, so that distillation improves the final
    output directly; the fusion learns the residual.
    """
    present_BM1 = batch.presence.unsqueeze(-1)
    outputs_BMO = torch.stack([graph.outputs_BMO.detach() for graph in graphs.values()]).mean(0)
    return (outputs_BMO * present_BM1).sum(1) / present_BM1.sum(1).clamp(min=1)


# ---- the model -----------------------------------------------------------------------------------


@dataclass
class ModelOutputs:
    """Results of a forward pass: the final output, features by modality, graphs by space.

    `dictionaries` has the spaces whose dictionary is enabled.
    """

    output_BO: Tensor
    encoded: Features
    com: Features
    prt: Features
    pooled_com_BMD: Tensor
    graphs: dict[str, Graph]
    dictionaries: dict[str, DictionaryOutputs]


class DHMD(nn.Module):
    """The DHMD model of one seed and its losses.

    Args:
        inputs: feature width by modality, in the order of the batch.
    """

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
        """Return the final output `[B, O]`."""
        return self.outputs(batch).output_BO

    def outputs(self, batch: Batch) -> ModelOutputs:
        """Return the final output with all intermediate results, which the losses need."""
        masks = batch.masks

        def pool(features: Features) -> Features:
            return {m: masked_mean(x_BTD, masks[m]) for m, x_BTD in features.items()}

        def stack(vectors: Features) -> Tensor:
            return torch.stack(list(vectors.values()), 1)

        # 1. Encoders.
        encoded = {m: self.encoders[m](x, masks[m]) for m, x in batch.features.items()}
        # 2. Decoupling. Without it (an ablation), both spaces read X_m.
        com, prt = self.decoupling(encoded, masks) if self.decoupling else (encoded, encoded)
        # 3. Coarse distillation: a GD-Unit on pooled com_m, and one on pooled cross-modal features.
        cross_modal = self.heterogeneous(prt, masks)
        self_attended = {m: self.homogeneous[m](x, masks[m]) for m, x in com.items()}
        z, c, pooled_com = pool(cross_modal), pool(self_attended), pool(com)
        vertices = {HOMOGENEOUS: pooled_com, HETEROGENEOUS: z}
        graphs = {space: unit(vertices[space], batch) for space, unit in self.graphs.items()}
        # 4. Fine distillation: a dictionary per space.
        sequences = {HOMOGENEOUS: com, HETEROGENEOUS: cross_modal}
        dictionaries = {
            space: dictionary(sequences[space], batch)
            for space, dictionary in self.dictionaries.items()
        }
        # 5. Fusion of Z_m, C_m and u_m, plus the average of the auxiliary heads.
        features = [stack(z), stack(c), *(d.feature_BMW for d in dictionaries.values())]
        output_BO = self.fusion(features, batch)
        if self.auxiliary_average:
            output_BO = output_BO + auxiliary_average(graphs, batch)
        return ModelOutputs(output_BO, encoded, com, prt, stack(pooled_com), graphs, dictionaries)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return `total` and its parts by name, scalars.

        `L_task + aux [(1 − λ) Σ L_task(auxiliary heads) + λ (L_homoGD + L_heteroGD)]
        + decouple.weight · L_dec + λ · kd.dictionary.weight · L_DM + L_edge`.

        λ = 0 removes every distillation loss; L_edge remains, and reaches the edge networks only.
        """
        outputs, task, kd = self.outputs(batch), self.task, self.kd
        parts = {"task": batch.mean(task.loss(outputs.output_BO, batch.labels_B))}
        total = parts["task"]
        if self.decoupling is not None:
            decoded, cycled = self.decoupling.decode(outputs.com, outputs.prt)
            rec = losses.reconstruction(outputs.encoded, decoded, batch)
            cyc = losses.reconstruction(outputs.prt, cycled, batch)
            ort = losses.orthogonality(outputs.com, outputs.prt, batch)
            mar = losses.margin(outputs.pooled_com_BMD, batch, task, self.decouple.margin)
            dec = rec + cyc + self.decouple.gamma * (mar + ort)
            parts |= {"rec": rec, "cyc": cyc, "ort": ort, "mar": mar, "dec": dec}
            total = total + self.decouple.weight * dec
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
                edge = losses.edge_mixture(graph.learned_BIJ, batch, task)
            else:
                edge = losses.edge_kl(graph.learned_BIJ, batch, task, kd.graph.tau)
            parts |= {f"vertex_{space}": vertex, f"gd_{space}": distillation, f"edge_{space}": edge}
            enabled = float(getattr(kd.graph, space))
            auxiliary = (1 - kd.lambda_) * vertex + kd.lambda_ * enabled * distillation
            total = total + kd.aux * auxiliary + edge
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
            parts[f"dm_{space}"] = matching
            weight = kd.dictionary.weight if kd.dictionary.matching else 0.0
            total = total + kd.lambda_ * weight * matching
        return {"total": total, **parts}

    def details(self, batch: Batch) -> dict[str, Tensor]:
        """Return datasets of outputs.h5, `[B, …]` by name: all but the prediction.

        Per space: outputs of the auxiliary heads, edge weights (NaN for absent targets), code
        activations and pooled features.
        """
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
        """Return the parameter's group; the dictionaries have their own learning rate."""
        factor = self.kd.dictionary.lr_factor if name.startswith("dictionaries.") else 1.0
        return ParameterGroup(learning_rate=factor)
