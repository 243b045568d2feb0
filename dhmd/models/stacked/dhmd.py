"""DHMD for all members at once; tests check that it equals `dhmd.models.dhmd`.

Legend: E members, M modalities, B utterances, T steps, I features, D model width, W = (M − 1) D
(D without cross-modal attention), O outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dhmd.models.batch import EnsembleBatch
from dhmd.models.config import DecoupleConfig, DistillationConfig, Edges, ModelConfig
from dhmd.models.dhmd import HETEROGENEOUS, HOMOGENEOUS
from dhmd.models.learner import Learner, ParameterGroup
from dhmd.models.members import Members
from dhmd.models.stacked.decoupling import Decoupled, Decoupling
from dhmd.models.stacked.dictionary_matching import DictionaryMatching, DictionaryOutputs
from dhmd.models.stacked.encoders import (
    CrossModalAttention,
    SelfAttention,
    copy_encoders,
    modality_encoders,
)
from dhmd.models.stacked.fusion import GatedFusion, auxiliary_average
from dhmd.models.stacked.graph_distillation import Graph, GraphDistillationUnit
from dhmd.models.stacked.layers import pool
from dhmd.models.task import Task


@dataclass(frozen=True)
class LossWeights:
    """Weights of the total loss, `[E]` each, and each member's kind of edge weights.

    Variants that differ in these alone train as one stack.
    """

    distill: Tensor  # λ, kd.lambda
    aux: Tensor
    decouple: Tensor
    gamma: Tensor
    homogeneous: Tensor  # 1 where HomoGD distils
    heterogeneous: Tensor  # 1 where HeteroGD distils
    matching: Tensor  # weight of L_DM, multiplied by λ; 0 where it is off
    edges: tuple[Edges, ...]

    @staticmethod
    def of(
        settings: Sequence[tuple[DecoupleConfig, DistillationConfig]], device: torch.device
    ) -> LossWeights:
        """Collect the loss weights of one pair of settings per member."""

        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32, device=device)

        decouples = [decouple for decouple, _ in settings]
        kds = [kd for _, kd in settings]
        return LossWeights(
            distill=column([kd.lambda_ for kd in kds]),
            aux=column([kd.aux for kd in kds]),
            decouple=column([d.weight if d.enabled else 0.0 for d in decouples]),
            gamma=column([d.gamma for d in decouples]),
            homogeneous=column([float(kd.graph.homogeneous) for kd in kds]),
            heterogeneous=column([float(kd.graph.heterogeneous) for kd in kds]),
            matching=column(
                [kd.dictionary.weight if kd.dictionary.matching else 0.0 for kd in kds]
            ),
            edges=tuple(kd.graph.edges for kd in kds),
        )


@dataclass
class ModelOutputs:
    """Results of a forward pass.

    Attributes:
        output_EBO: the final output.
        encoded: X_m, `[E, 1, B, T_m, D]` each.
        decoupled: com and prt.
        graphs: outputs of the GD-Unit by space.
        dictionaries: outputs of the dictionary by space, for the spaces that have one.
    """

    output_EBO: Tensor
    encoded: list[Tensor]
    decoupled: Decoupled
    graphs: dict[str, Graph]
    dictionaries: dict[str, DictionaryOutputs] = field(default_factory=dict)


class DHMD(Learner):
    """DHMD with E members, which may differ only in `loss_weights`.

    Without decoupling (`decouple.enabled` off, an ablation), both spaces read X_m.
    """

    def __init__(
        self,
        members: Members,
        task: Task,
        inputs: dict[str, int],
        *,
        config: ModelConfig,
        decouple: DecoupleConfig,
        kd: DistillationConfig,
        loss_weights: LossWeights,
    ) -> None:
        super().__init__()
        self.task, self.loss_weights, self.decouple, self.kd = task, loss_weights, decouple, kd
        self.modalities, self.auxiliary_average = tuple(inputs), config.auxiliary_average
        count, width, output_dropout = len(inputs), config.width, config.dropout.output
        self.encoders = modality_encoders(members, inputs, config)
        self.decoupling = Decoupling(members, count, width) if decouple.enabled else None
        self.homogeneous = SelfAttention(members, self.modalities, width, config)
        self.heterogeneous = CrossModalAttention(members, self.modalities, width, config)
        wide = self.heterogeneous.width
        self.graphs = nn.ModuleDict(
            {
                space: GraphDistillationUnit(
                    members,
                    task,
                    self.modalities,
                    size,
                    config=kd.graph,
                    edges=loss_weights.edges,
                    output_dropout=output_dropout,
                )
                for space, size in ((HOMOGENEOUS, width), (HETEROGENEOUS, wide))
            }
        )
        spaces = {HOMOGENEOUS: width} if kd.dictionary.homogeneous else {}
        spaces |= {HETEROGENEOUS: wide} if kd.dictionary.heterogeneous else {}
        self.dictionaries = nn.ModuleDict(
            {
                space: DictionaryMatching(members, count, size, kd.dictionary)
                for space, size in spaces.items()
            }
        )
        self.fusion = GatedFusion(
            members,
            count,
            [wide, width, *spaces.values()],
            hidden=2 * width,
            outputs=task.outputs,
            dropout=output_dropout,
        )

    def forward(self, batch: EnsembleBatch) -> ModelOutputs:
        masks = batch.masks
        encoded = [
            encoder(x, mask)
            for encoder, x, mask in zip(self.encoders, batch.features, masks, strict=True)
        ]
        if self.decoupling is None:
            decoupled = Decoupled(encoded, encoded, pool(encoded, masks))
        else:
            decoupled = self.decoupling(encoded, masks)
        cross_modal = self.heterogeneous(decoupled.prt, masks)
        z_EMBW = pool(cross_modal, masks)
        c_EMBD = pool(self.homogeneous(decoupled.com, masks), masks)
        vertices = {HOMOGENEOUS: decoupled.pooled_com_EMBD, HETEROGENEOUS: z_EMBW}
        graphs = {space: unit(vertices[space], batch) for space, unit in self.graphs.items()}
        steps = {HOMOGENEOUS: decoupled.com, HETEROGENEOUS: cross_modal}
        dictionaries = {
            space: unit(steps[space], masks) for space, unit in self.dictionaries.items()
        }
        features = [outputs.feature_EMBW for outputs in dictionaries.values()]
        output = self.fusion([z_EMBW, c_EMBD, *features], batch.present_EMB)
        if self.auxiliary_average:
            heads = [graph.outputs_EMBO for graph in graphs.values()]
            output = output + auxiliary_average(heads, batch.present_EMB)
        return ModelOutputs(output, encoded, decoupled, graphs, dictionaries)

    def predict(self, batch: EnsembleBatch) -> Tensor:
        output: Tensor = self(batch).output_EBO
        return output

    def losses(self, batch: EnsembleBatch) -> dict[str, Tensor]:
        """Return `total` and its parts by name, `[E]` each.

        `L_task + aux [(1 − λ) Σ L_task(auxiliary heads) + λ (L_homoGD + L_heteroGD)]
        + decouple.weight · L_dec + λ · kd.dictionary.weight · L_DM + L_edge`.

        λ = 0 removes every distillation loss; L_edge remains, and reaches the edge networks only.
        """
        outputs: ModelOutputs = self(batch)
        weights = self.loss_weights
        loss_EB = self.task.loss(outputs.output_EBO, batch.labels_EB)
        task = (loss_EB * batch.weight_EB).sum(-1)
        losses = {"task": task}
        total = task
        on = {HOMOGENEOUS: weights.homogeneous, HETEROGENEOUS: weights.heterogeneous}
        for space, unit in self.graphs.items():
            assert isinstance(unit, GraphDistillationUnit)
            graph = outputs.graphs[space]
            vertex = unit.task_loss(graph, batch)
            distillation = unit.distillation_loss(graph, batch)
            edge = unit.edge_loss(graph, batch)
            share = weights.distill
            convex = (1 - share) * vertex + share * on[space] * distillation
            total = total + weights.aux * convex + edge
            losses |= {
                f"vertex_{space}": vertex,
                f"gd_{space}": distillation,
                f"edge_{space}": edge,
            }
        if self.decoupling is not None:
            parts = self.decoupling.losses(
                outputs.encoded,
                outputs.decoupled,
                batch,
                task=self.task,
                margin=self.decouple.margin,
                gamma=weights.gamma,
            )
            losses |= parts
            total = total + weights.decouple * parts["dec"]
        for space, dictionary in self.dictionaries.items():
            assert isinstance(dictionary, DictionaryMatching)
            edges = outputs.graphs[space].edges_EBIJ
            matching = dictionary.loss(outputs.dictionaries[space], edges, batch, self.task)
            losses[f"dm_{space}"] = matching
            total = total + weights.distill * weights.matching * matching
        return {"total": total, **losses}

    def details(self, batch: EnsembleBatch) -> dict[str, Tensor]:
        outputs: ModelOutputs = self(batch)
        details = {"prediction": self.task.stored(outputs.output_EBO)}
        present_EBM = batch.present_EMB.transpose(1, 2)
        for space, graph in outputs.graphs.items():
            vertex_EMBO = self.task.stored(graph.outputs_EMBO)
            details[f"vertex/{space}"] = vertex_EMBO.transpose(1, 2)
            absent = ~present_EBM.unsqueeze(2)
            details[f"edges/{space}"] = graph.edges_EBIJ.masked_fill(absent, torch.nan)
        for space, dictionary in outputs.dictionaries.items():
            details[f"codes/{space}"] = dictionary.activation_EMBK.transpose(1, 2)
        prt_EMBD = pool(outputs.decoupled.prt, batch.masks)
        details["embedding/homogeneous"] = outputs.decoupled.pooled_com_EMBD.transpose(1, 2)
        details["embedding/heterogeneous"] = prt_EMBD.transpose(1, 2)
        return details

    def parameter_group(self, name: str) -> ParameterGroup:
        """Return the parameter's group; the dictionaries have their own learning rate."""
        factor = self.kd.dictionary.lr_factor if name.startswith("dictionaries.") else 1.0
        return ParameterGroup(learning_rate=factor)

    def load_encoders(self, encoders: Mapping[str, Mapping[str, Tensor]]) -> None:
        copy_encoders(self.encoders, self.modalities, encoders)
