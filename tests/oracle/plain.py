"""DHMD for one seed, from ordinary torch layers: one module a modality, padded to full length.

No groups, no members, no trimming: what the engine must equal and is timed against. The losses are
in `losses.py`.

Legend: B utterances, M modalities, T steps, U key steps, I features, D width, W vertex width,
O outputs, H heads, E = D / H, K codes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import product

import torch
from torch import Tensor, nn

from dhmd.models.config import DecoupleConfig, DistillationConfig, ModelConfig
from dhmd.models.task import Task
from tests.oracle.batches import PlainBatch

SPACES = ("homogeneous", "heterogeneous")


def masked_mean(x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
    total = (x_BTD * mask_BT.unsqueeze(-1)).sum(1)
    return total / mask_BT.sum(1, keepdim=True).clamp(min=1)


def keep_present(x_BMD: Tensor, present_BM: Tensor) -> Tensor:
    return x_BMD * present_BM.unsqueeze(-1)


class PlainEncoder(nn.Module):
    """`X_m = Conv1d_m(x_m)`."""

    def __init__(self, inputs: int, width: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.convolution = nn.Conv1d(inputs, width, kernel, padding=kernel // 2)

    def forward(self, x_BTI: Tensor, mask_BT: Tensor) -> Tensor:
        y_BTD = self.convolution(self.dropout(x_BTI).transpose(1, 2)).transpose(1, 2)
        return y_BTD * mask_BT.unsqueeze(-1)


class PlainAttention(nn.Module):
    """Multi-head attention with masked keys."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_BTD: Tensor, keys_BUD: Tensor, mask_BU: Tensor) -> Tensor:
        batch, steps, width = x_BTD.shape

        def split(y: Tensor) -> Tensor:
            return y.view(batch, -1, self.heads, width // self.heads).transpose(1, 2)

        query, key, value = (
            split(self.query(x_BTD)),
            split(self.key(keys_BUD)),
            split(self.value(keys_BUD)),
        )
        scores = query @ key.transpose(-1, -2) / math.sqrt(width // self.heads)
        scores = scores.masked_fill(~mask_BU[:, None, None, :], -1e9)
        mixed = self.dropout(scores.softmax(-1)) @ value
        return self.out(mixed.transpose(1, 2).reshape(batch, steps, width))


class PlainLayer(nn.Module):
    """A pre-norm transformer layer."""

    def __init__(self, width: int, heads: int, attention_dropout: float, dropout: float) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(width)
        self.attention = PlainAttention(width, heads, attention_dropout)
        self.norm_middle = nn.LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, keys: Tensor | None, mask_BU: Tensor) -> Tensor:
        queries = self.norm_in(x)
        attended = queries if keys is None else self.norm_in(keys)
        x = x + self.dropout(self.attention(queries, attended, mask_BU))
        hidden = self.dropout(self.up(self.norm_middle(x)).relu())
        return x + self.dropout(self.down(hidden))


class PlainTransformer(nn.Module):
    """Layers with sinusoidal positions, for self-attention or attention to another sequence."""

    def __init__(
        self,
        width: int,
        heads: int,
        layers: int,
        *,
        attention: float,
        layer: float,
        embedding: float,
    ) -> None:
        super().__init__()
        self.width = width
        self.dropout = nn.Dropout(embedding)
        self.layers = nn.ModuleList(
            PlainLayer(width, heads, attention, layer) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def embed(self, x_BTD: Tensor) -> Tensor:
        half = self.width // 2
        steps_T = torch.arange(1, x_BTD.shape[1] + 1, device=x_BTD.device)
        rates = 10000 ** (-torch.arange(half, device=x_BTD.device) / max(half - 1, 1))
        table_TD = torch.zeros(x_BTD.shape[1], self.width, device=x_BTD.device)
        table_TD[:, :half] = (steps_T[:, None] * rates).sin()
        table_TD[:, half : 2 * half] = (steps_T[:, None] * rates).cos()
        return x_BTD * math.sqrt(self.width) + table_TD

    def forward(self, x_BTD: Tensor, mask_BU: Tensor, keys_BUD: Tensor | None = None) -> Tensor:
        x = self.dropout(self.embed(x_BTD))
        keys = None
        if keys_BUD is not None:
            # An absent sequence is one of zeros, however far it is padded.
            keys = self.dropout(self.embed(keys_BUD) * mask_BU.unsqueeze(-1))
        for layer in self.layers:
            x = layer(x, keys, mask_BU)
        return self.norm(x)


class PlainGraph(nn.Module):
    """A GD-Unit: a head and an end of the edge network for each modality."""

    def __init__(
        self, modalities: int, width: int, outputs: int, kd: DistillationConfig, dropout: float
    ) -> None:
        super().__init__()
        hidden = kd.graph.hidden
        each = range(modalities)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in each)
        self.head = nn.ModuleList(nn.Linear(width, outputs) for _ in each)
        self.edge_source = nn.ModuleList(nn.Linear(width + outputs, hidden) for _ in each)
        self.edge_target = nn.ModuleList(nn.Linear(width + outputs, hidden) for _ in each)
        self.edge_score = nn.Linear(hidden, 1, bias=False)
        self.projection = nn.ModuleDict()
        if kd.graph.representation > 0:
            for j, i in product(each, each):
                if i != j:
                    self.projection[f"{i}-{j}"] = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)


class PlainDictionary(nn.Module):
    """A dictionary and a query MLP for each modality."""

    def __init__(self, modalities: int, width: int, codes: int) -> None:
        super().__init__()
        self.query = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
            for _ in range(modalities)
        )
        self.codes_KW = nn.Parameter(torch.randn(codes, width))


class PlainFusion(nn.Module):
    """Gates for each modality and part, embeddings of absent ones, a residual MLP, the head."""

    def __init__(
        self, modalities: int, widths: list[int], hidden: int, outputs: int, dropout: float
    ) -> None:
        super().__init__()
        self.gates = nn.ModuleList(
            nn.ModuleList(nn.Linear(width, width) for _ in range(modalities)) for width in widths
        )
        self.absent = nn.ParameterList(
            nn.Parameter(torch.randn(modalities, width) * 0.1) for width in widths
        )
        total = modalities * sum(widths)
        self.narrow = nn.Linear(total, hidden)
        self.widen = nn.Linear(hidden, total)
        self.head = nn.Linear(total, outputs)
        self.dropout = nn.Dropout(dropout)

    def forward(self, parts_BMW: list[Tensor], present_BM: Tensor) -> Tensor:
        columns = []
        for modality in range(present_BM.shape[1]):
            there = present_BM[:, modality, None]
            for part, gates, absent in zip(parts_BMW, self.gates, self.absent, strict=True):
                h = torch.where(there, part[:, modality], absent[modality])
                columns.append(h * gates[modality](h).sigmoid())
        joint = torch.cat(columns, -1)
        hidden = self.dropout(self.narrow(joint).relu())
        return self.head(joint + self.dropout(self.widen(hidden)))


@dataclass
class PlainPassed:
    """All that a forward pass gives, by modality or by space."""

    output_BO: Tensor
    encoded: list[Tensor]
    com: list[Tensor]
    prt: list[Tensor]
    pooled_com_BMD: Tensor
    vertices: dict[str, Tensor] = field(default_factory=dict)
    outputs: dict[str, Tensor] = field(default_factory=dict)
    edges: dict[str, Tensor] = field(default_factory=dict)
    relevance: dict[str, Tensor] = field(default_factory=dict)
    activation: dict[str, Tensor] = field(default_factory=dict)
    feature: dict[str, Tensor] = field(default_factory=dict)


class PlainDHMD(nn.Module):
    """The whole model."""

    def __init__(
        self,
        task: Task,
        inputs: dict[str, int],
        *,
        model: ModelConfig,
        decouple: DecoupleConfig,
        kd: DistillationConfig,
    ) -> None:
        super().__init__()
        self.task, self.decouple, self.kd = task, decouple, kd
        self.modalities, self.vote = tuple(inputs), model.vote
        count, width = len(inputs), model.width
        crossing = model.cross_modal and count > 1
        wide = (count - 1) * width if crossing else width
        drop = model.dropout

        def transformer(size: int, attended: str) -> PlainTransformer:
            return PlainTransformer(
                size,
                model.heads,
                model.layers,
                attention=drop.attention[attended],
                layer=drop.layer,
                embedding=drop.embedding,
            )

        self.encoders = nn.ModuleList(
            PlainEncoder(size, width, model.kernels[name], drop.input[name])
            for name, size in inputs.items()
        )
        if decouple.enabled:
            self.shared = nn.Linear(width, width)
            self.private = nn.ModuleList(nn.Linear(width, width) for _ in inputs)
            self.decoder = nn.ModuleList(nn.Linear(2 * width, width) for _ in inputs)
        self.self_attention = nn.ModuleList(transformer(width, name) for name in inputs)
        self.cross = nn.ModuleDict()
        if crossing:
            for target, source in product(range(count), range(count)):
                if target != source:
                    key = f"{target}-{source}"
                    self.cross[key] = transformer(width, self.modalities[source])
        self.memory = nn.ModuleList(transformer(wide, name) for name in inputs)
        sizes = dict(zip(SPACES, (width, wide), strict=True))
        self.graphs = nn.ModuleDict(
            {
                space: PlainGraph(count, size, task.outputs, kd, drop.output)
                for space, size in sizes.items()
            }
        )
        self.dictionaries = nn.ModuleDict(
            {
                space: PlainDictionary(count, size, kd.dictionary.codes)
                for space, size in sizes.items()
                if getattr(kd.dictionary, space)
            }
        )
        widths = [wide, width, *(sizes[space] for space in self.dictionaries)]
        self.fusion = PlainFusion(count, widths, 2 * width, task.outputs, drop.output)

    def forward(self, batch: PlainBatch) -> PlainPassed:
        masks, each = batch.masks, range(len(self.modalities))
        encoded = [self.encoders[m](batch.features[m], masks[m]) for m in each]
        com, prt = encoded, encoded
        if self.decouple.enabled:
            com = [self.shared(encoded[m]) * masks[m].unsqueeze(-1) for m in each]
            prt = [self.private[m](encoded[m]) * masks[m].unsqueeze(-1) for m in each]
        crossed = prt
        if self.cross:
            crossed = [
                torch.cat(
                    [self.cross[f"{m}-{n}"](prt[m], masks[n], prt[n]) for n in each if n != m], -1
                )
                for m in each
            ]
        crossed = [self.memory[m](crossed[m], masks[m]) for m in each]
        attended = [self.self_attention[m](com[m], masks[m]) for m in each]
        z = torch.stack([masked_mean(crossed[m], masks[m]) for m in each], 1)
        c = torch.stack([masked_mean(attended[m], masks[m]) for m in each], 1)
        pooled_com = torch.stack([masked_mean(com[m], masks[m]) for m in each], 1)
        passed = PlainPassed(z, encoded, com, prt, pooled_com)
        vertices = dict(zip(SPACES, (pooled_com, z), strict=True))
        for space, graph in self.graphs.items():
            self._graph(space, graph, vertices[space], batch, passed)
        steps = dict(zip(SPACES, (com, crossed), strict=True))
        for space, dictionary in self.dictionaries.items():
            self._dictionary(space, dictionary, steps[space], batch, passed)
        passed.output_BO = self.fusion([z, c, *passed.feature.values()], batch.present_BM)
        if self.vote:
            there = batch.present_BM.unsqueeze(-1)
            for said_BMO in passed.outputs.values():
                mean_BO = (said_BMO.detach() * there).sum(1) / there.sum(1).clamp(min=1)
                passed.output_BO = passed.output_BO + mean_BO / len(passed.outputs)
        return passed

    def _graph(
        self, space: str, graph: PlainGraph, v_BMD: Tensor, batch: PlainBatch, passed: PlainPassed
    ) -> None:
        each = range(len(self.modalities))
        outputs = [graph.head[m](graph.dropout(graph.hidden[m](v_BMD[:, m]).relu())) for m in each]
        told = [
            o.detach() if self.task.classes is None else o.detach().softmax(-1) for o in outputs
        ]
        ends = [
            torch.cat(
                [told[m], nn.functional.layer_norm(v_BMD[:, m].detach(), v_BMD.shape[-1:])], -1
            )
            for m in each
        ]
        scores = []
        for i in each:
            for j in each:
                hidden = (graph.edge_source[i](ends[i]) + graph.edge_target[j](ends[j])).relu()
                scores.append(graph.edge_score(hidden))
        scores_BIJ = torch.cat(scores, -1).view(-1, len(each), len(each))
        absent = ~batch.present_BM.unsqueeze(-1)
        passed.vertices[space] = v_BMD
        passed.outputs[space] = torch.stack(outputs, 1)
        passed.edges[space] = scores_BIJ.masked_fill(absent, -torch.inf).softmax(1)

    def _dictionary(
        self,
        space: str,
        dictionary: PlainDictionary,
        steps: list[Tensor],
        batch: PlainBatch,
        passed: PlainPassed,
    ) -> None:
        codes_KW = nn.functional.normalize(dictionary.codes_KW, dim=-1)
        relevance = []
        for m, query in enumerate(dictionary.query):
            h_BTW = nn.functional.layer_norm(steps[m], steps[m].shape[-1:])
            q_BTW = nn.functional.normalize(query(h_BTW), dim=-1)
            cosines = (q_BTW @ codes_KW.T).masked_fill(~batch.masks[m].unsqueeze(-1), -torch.inf)
            highest = cosines.amax(1).masked_fill(~batch.present_BM[:, m, None], 0.0)
            relevance.append(self.kd.dictionary.scale * highest)
        z_BMK = torch.stack(relevance, 1)
        activation = keep_present(sort_sparsemax(z_BMK), batch.present_BM)
        passed.relevance[space] = z_BMK
        passed.activation[space] = activation
        passed.feature[space] = nn.functional.normalize(activation @ codes_KW, dim=-1)


def sort_sparsemax(z: Tensor) -> Tensor:
    """Sparsemax as most code has it: sort, cumulate, threshold."""
    ordered, _ = z.sort(-1, descending=True)
    ranks = torch.arange(1, z.shape[-1] + 1, device=z.device)
    sums = ordered.cumsum(-1)
    size = (1 + ranks * ordered > sums).sum(-1, keepdim=True)
    tau = (sums.gather(-1, size - 1) - 1) / size
    return (z - tau).clamp(min=0)
