"""DHMD, whole: encoders, decoupling, two GD-Units, two dictionaries, fusion, and the total loss.

Legend: E members, M modalities, B utterances, T steps, I features, D model width, W = (M − 1) D
(D without cross-modal attention), O outputs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dhmd.models.batch import Batch
from dhmd.models.config import DecoupleConfig, DistillationConfig, ModelConfig
from dhmd.models.stacked.cross_modal import CrossModalAttention, SelfAttention
from dhmd.models.stacked.decoupling import Decoupled, Decoupling, pool
from dhmd.models.stacked.dictionary_matching import DictionaryMatching, DictionaryOutputs
from dhmd.models.stacked.encoders import ModalityEncoder
from dhmd.models.stacked.fusion import GatedFusion, vote
from dhmd.models.stacked.graph_distillation import Graph, GraphDistillationUnit
from dhmd.models.stacked.loss_weights import LossWeights
from dhmd.models.stacked.members import Members
from dhmd.models.task import Task

HOMOGENEOUS, HETEROGENEOUS = "homogeneous", "heterogeneous"


@dataclass
class ModelOutputs:
    """All that a forward pass gives; the dictionaries of spaces that the model has.

    Attributes:
        output_EBO: the final output.
        encoded: X_m, `[E, 1, B, T_m, D]` each.
        parts: com and prt.
        graphs: a GD-Unit's view by space.
        matched: a dictionary's view by space.
    """

    output_EBO: Tensor
    encoded: list[Tensor]
    parts: Decoupled
    graphs: dict[str, Graph]
    matched: dict[str, DictionaryOutputs] = field(default_factory=dict)


class DHMD(nn.Module):
    """The model of E members; `loss_weights` holds what may differ between them.

    Without decoupling (`decouple.enabled` off, an ablation) both spaces read X_m itself.
    """

    def __init__(
        self,
        members: Members,
        task: Task,
        inputs: dict[str, int],
        *,
        model: ModelConfig,
        decouple: DecoupleConfig,
        kd: DistillationConfig,
        loss_weights: LossWeights,
    ) -> None:
        super().__init__()
        self.task, self.loss_weights, self.decouple = task, loss_weights, decouple
        self.modalities, self.vote = tuple(inputs), model.vote
        count, width, output_dropout = len(inputs), model.width, model.dropout.output
        self.encoders = nn.ModuleList(
            ModalityEncoder(
                members,
                size,
                width,
                kernel=model.kernels[name],
                input_dropout=model.dropout.input[name],
            )
            for name, size in inputs.items()
        )
        self.decoupling = Decoupling(members, count, width) if decouple.enabled else None
        self.homogeneous = SelfAttention(members, self.modalities, width, model)
        self.heterogeneous = CrossModalAttention(members, self.modalities, width, model)
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

    def forward(self, batch: Batch) -> ModelOutputs:
        masks = batch.masks
        encoded = [
            encoder(x, mask)
            for encoder, x, mask in zip(self.encoders, batch.features, masks, strict=True)
        ]
        if self.decoupling is None:
            parts = Decoupled(encoded, encoded, pool(encoded, masks))
        else:
            parts = self.decoupling(encoded, masks)
        crossed = self.heterogeneous(parts.prt, masks)
        z_EMBW = pool(crossed, masks)
        c_EMBD = pool(self.homogeneous(parts.com, masks), masks)
        vertices = {HOMOGENEOUS: parts.pooled_com_EMBD, HETEROGENEOUS: z_EMBW}
        graphs = {space: unit(vertices[space], batch) for space, unit in self.graphs.items()}
        steps = {HOMOGENEOUS: parts.com, HETEROGENEOUS: crossed}
        matched = {space: unit(steps[space], masks) for space, unit in self.dictionaries.items()}
        features = [matched[space].feature_EMBW for space in matched]
        output = self.fusion([z_EMBW, c_EMBD, *features], batch.present_EMB)
        if self.vote:
            said = [graph.outputs_EMBO for graph in graphs.values()]
            output = output + vote(said, batch.present_EMB)
        return ModelOutputs(output, encoded, parts, graphs, matched)

    def predict(self, batch: Batch) -> Tensor:
        """Final outputs `[E, B, O]`."""
        output: Tensor = self(batch).output_EBO
        return output

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """`total` and its parts by name, `[E]` each:

        `L_task + aux [(1 − λ) Σ L_task(vertices) + λ (L_homoGD + L_heteroGD)]
        + decouple.weight · L_dec + λ · kd.dictionary.weight · L_DM + L_edge`.

        λ = 0 removes every distillation loss; L_edge stays, and reaches the edge networks only.
        """
        passed: ModelOutputs = self(batch)
        loss_weights = self.loss_weights
        each_EB = self.task.loss(passed.output_EBO, batch.labels_EB)
        task = (each_EB * batch.weight_EB).sum(-1)
        losses = {"task": task}
        total = task
        on = {HOMOGENEOUS: loss_weights.homogeneous, HETEROGENEOUS: loss_weights.heterogeneous}
        for space, unit in self.graphs.items():
            assert isinstance(unit, GraphDistillationUnit)
            graph = passed.graphs[space]
            vertex = unit.task_loss(graph, batch)
            distilled = unit.distillation_loss(graph, batch)
            edge = unit.edge_loss(graph, batch)
            share = loss_weights.distill
            convex = (1 - share) * vertex + share * on[space] * distilled
            total = total + loss_weights.aux * convex + edge
            losses |= {f"vertex_{space}": vertex, f"gd_{space}": distilled, f"edge_{space}": edge}
        if self.decoupling is not None:
            parts = self.decoupling.losses(
                passed.encoded,
                passed.parts,
                batch,
                task=self.task,
                margin=self.decouple.margin,
                gamma=loss_weights.gamma,
            )
            losses |= parts
            total = total + loss_weights.decouple * parts["dec"]
        for space, dictionary in self.dictionaries.items():
            assert isinstance(dictionary, DictionaryMatching)
            edges = passed.graphs[space].edges_EBIJ
            matching = dictionary.loss(passed.matched[space], edges, batch, self.task)
            losses[f"dm_{space}"] = matching
            total = total + loss_weights.distill * loss_weights.matching * matching
        return {"total": total, **losses}

    def learning_rate_factor(self, name: str, kd: DistillationConfig) -> float:
        """How much faster than `train.lr` a parameter learns: dictionaries do."""
        return kd.dictionary.lr_factor if name.startswith("dictionaries.") else 1.0


def initialise_encoders(model: nn.Module, pretrained: dict[str, Tensor]) -> None:
    """Put pretrained encoder weights, by parameter name, `[E, …]` each, in place."""
    own = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in pretrained.items():
            own[name].copy_(value)
