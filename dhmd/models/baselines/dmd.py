"""DMD: Decoupled Multimodal Distillation (Li et al., CVPR 2023, arXiv 2303.13802).

The model behaves like DMD's public code. Two faults are always fixed: the orthogonality loss is
taken over features (over the batch axis it fails in current versions of PyTorch), and the trainer
does not drop accumulated gradients at the end of an epoch. Every other known fault of the model and
its losses has a switch in `DMDOptions`; the defaults are the public code's behaviour.

Legend: B utterances, M modalities, T steps, D model width, F features, O outputs, P edges,
A anchors.
"""

from __future__ import annotations

from itertools import permutations
from typing import Literal, cast

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional

from dhmd.config.schema import CONFIG, load_section
from dhmd.models.baselines._dmd_layers import (
    Head,
    Transformer,
    cross_attention,
    memory_transformers,
)
from dhmd.models.batch import Batch
from dhmd.models.config import ModelConfig
from dhmd.models.layers import masked_mean
from dhmd.models.registry import CorpusInfo
from dhmd.models.task import Task

# (student, teacher) pairs with a high prior weight in the public code: text teaches vision and
# audio, and in the heterogeneous space vision teaches audio, too.
PRIOR_EDGES = {
    "homogeneous": {("vision", "text"), ("audio", "text")},
    "heterogeneous": {("vision", "text"), ("audio", "text"), ("audio", "vision")},
}
PRIOR_TEMPERATURE = 0.25
EDGE_SCALE = 1 / 8  # factor of the edge scores before their softmax
EDGE_WIDTH = {"homogeneous": 64, "heterogeneous": 32}
PRIOR_WEIGHT = 10.0  # weight of the loss that pulls the mean edge weights to the prior
REPRESENTATION_WEIGHT = 10.0
DISTILLATION_WEIGHT = 0.05
DECOUPLING_WEIGHT = 0.1
GAMMA = 0.1
MARGIN = 0.15


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class DMDOptions:
    """Options `model.options.dmd`: known faults of the public code; the defaults keep them.

    Attributes:
        prior: add a fixed prior to the edge weights, and pull their mean to it by a loss.
        edge_softmax: normalise over all edges, or over the sources of each target.
        heterogeneous_representation: push a student's representation away from its teacher's
            (cosine embedding loss with target −1), or pull it closer.
        representation: in the losses, use homogeneous representations after the in-place ReLU of
            the public code, or before it.
        gate: replace a feature h by σ(W h), or multiply it by σ(W h).
        margin_classes: two utterances are of one class if their labels are equal, or if they round
            to the same number.
        heads: the homogeneous heads read all steps flattened, or their mean.
        summary: summarise a sequence by its last step, padded or not, or by the mean of its steps.
        masked: exclude padding from attention, means and losses.
    """

    prior: bool = True
    edge_softmax: Literal["all", "target"] = "all"
    heterogeneous_representation: Literal["repel", "attract"] = "repel"
    representation: Literal["rectified", "raw"] = "rectified"
    gate: Literal["replace", "multiply"] = "replace"
    margin_classes: Literal["exact", "rounded"] = "exact"
    heads: Literal["flatten", "mean"] = "flatten"
    summary: Literal["last", "mean"] = "last"
    masked: bool = False


class DMD(nn.Module):
    """The DMD model with its two graph distillation units and all losses.

    Args:
        inputs: feature width by modality.
        corpus: its longest sequences, to whose lengths batches are padded.
    """

    title = "DMD"
    Options = DMDOptions

    def __init__(
        self,
        inputs: dict[str, int],
        task: Task,
        config: ModelConfig,
        corpus: CorpusInfo,
    ) -> None:
        super().__init__()
        options = load_section(DMDOptions, config.options.get("dmd", {}), where="model.options.dmd")
        self.task, self.options, self.modalities = task, options, tuple(inputs)
        # The public code's order of concatenated features and of edges.
        rank = {"text": 0, "vision": 1, "audio": 2}
        self.names = sorted(inputs, key=lambda name: rank.get(name, len(rank)))
        width = config.width
        kernels = {name: config.kernels[name] for name in inputs}
        self.steps = {name: max(corpus.steps[name], kernels[name]) for name in inputs}
        # Features of the model's width are not projected.
        projects = {name: size != width for name, size in inputs.items()}
        lengths = {
            name: self.steps[name] - (kernels[name] - 1 if projects[name] else 0) for name in inputs
        }
        self.input_dropout = nn.ModuleDict(
            {name: nn.Dropout(config.dropout.input[name]) for name in inputs}
        )
        self.projections = nn.ModuleDict(
            {
                name: nn.Conv1d(size, width, kernels[name], bias=False)
                for name, size in inputs.items()
                if projects[name]
            }
        )
        self.private = nn.ModuleDict({n: nn.Conv1d(width, width, 1, bias=False) for n in inputs})
        self.shared = nn.Conv1d(width, width, 1, bias=False)
        self.decoders = nn.ModuleDict(
            {n: nn.Conv1d(2 * width, width, 1, bias=False) for n in inputs}
        )
        self.margin = nn.ModuleDict({n: nn.Linear(width * lengths[n], width) for n in inputs})
        attention = config.dropout.attention
        self.self_attention = nn.ModuleDict(
            {name: Transformer(width, config.layers, config, attention[name]) for name in inputs}
        )
        self.cross_attention = cross_attention(inputs, width, config)
        # A single modality attends to no other: its memory transformer reads private features.
        memory = max(len(inputs) - 1, 1) * width
        self.memory = memory_transformers(inputs, memory, config)

        flat = {
            name: width * (lengths[name] if options.heads == "flatten" else 1) for name in inputs
        }
        heads = {
            "homogeneous": {name: Head(flat[name], width, task.outputs, config) for name in inputs},
            "heterogeneous": {name: Head(memory, memory, task.outputs, config) for name in inputs},
        }
        self.heads = nn.ModuleDict({space: nn.ModuleDict(by) for space, by in heads.items()})
        common = len(inputs) * width
        self.common_head = Head(common, common, task.outputs, config)
        self.gates = nn.ModuleDict({name: nn.Linear(memory, memory) for name in inputs})
        self.common_gate = nn.Linear(common, common)
        total = len(inputs) * memory + common
        self.head = Head(total, total, task.outputs, config)
        sizes = {"homogeneous": width, "heterogeneous": memory}
        self.units = nn.ModuleDict(
            {
                space: GraphDistillation(space, self.names, sizes[space], task.outputs, options)
                for space in (sizes if len(inputs) > 1 else ())
            }
        )

    def forward(self, batch: Batch) -> Tensor:
        """Return outputs `[B, O]`."""
        return self.outputs(batch)["output"]

    def details(self, batch: Batch) -> dict[str, Tensor]:
        """Return outputs of the heads `[B, M, O]` and edges `[B, M, M]` (source, target)."""
        outputs = self.outputs(batch)
        details = {"prediction": self.task.stored(outputs["output"])}
        for space, unit in self._units():
            logits = torch.stack([outputs[f"{space}/logits/{n}"] for n in self.modalities], dim=1)
            details[f"vertex/{space}"] = self.task.stored(logits)
            edges_BP = unit(outputs)
            edge = dict(zip(unit.pairs, edges_BP.unbind(1), strict=True))
            zero_B = torch.zeros_like(edges_BP[:, 0])
            details[f"edges/{space}"] = torch.stack(
                [
                    torch.stack([edge.get((j, i), zero_B) for j in self.modalities], dim=1)
                    for i in self.modalities
                ],
                dim=1,
            )
        return details

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """Return the output `[B, O]` and all intermediate results by name."""
        outputs: dict[str, Tensor] = {}
        private, shared, masks = {}, {}, {}
        for name in self.names:
            x_BTI = _padded(batch.features[name], self.steps[name])
            x_BIT = self.input_dropout[name](x_BTI.transpose(1, 2))
            x_BDT = self.projections[name](x_BIT) if name in self.projections else x_BIT
            mask_BT = _padded(batch.masks[name], self.steps[name])[:, : x_BDT.shape[2]]
            masks[name] = mask_BT if self.options.masked else torch.ones_like(mask_BT)
            private_BDT, shared_BDT = self.private[name](x_BDT), self.shared(x_BDT)
            decoded_BDT = self.decoders[name](torch.cat([private_BDT, shared_BDT], dim=1))
            outputs[f"input/{name}"], outputs[f"decoded/{name}"] = x_BDT, decoded_BDT
            outputs[f"private/{name}"], outputs[f"shared/{name}"] = private_BDT, shared_BDT
            outputs[f"cycled/{name}"] = self.private[name](decoded_BDT)
            outputs[f"margin/{name}"] = self.margin[name](shared_BDT.flatten(1))
            private[name], shared[name] = private_BDT.transpose(1, 2), shared_BDT.transpose(1, 2)
            outputs[f"mask/{name}"] = masks[name]

        for name in self.names:
            if self.options.heads == "flatten":
                # The public code flattens steps first, features second.
                flat_BF = shared[name].flatten(1)
            else:
                flat_BF = masked_mean(shared[name], masks[name])
            hidden, logits, _ = self._heads("homogeneous")[name](flat_BF)
            rectified = self.options.representation == "rectified"
            outputs[f"homogeneous/repr/{name}"] = hidden.relu() if rectified else hidden
            outputs[f"homogeneous/logits/{name}"] = logits

        common = [
            self._summary(self.self_attention[name](shared[name], masks[name]), masks[name])
            for name in self.names
        ]
        common_BF = torch.cat(common, dim=1)
        _, outputs["logits_common"], _ = self.common_head(common_BF)

        gated = []
        for target in self.names:
            attended = [
                self.cross_attention[f"{target}_{source}"](
                    private[target], masks[target], private[source], masks[source]
                )
                for source in self.modalities
                if source != target
            ]
            attended_BTF = torch.cat(attended or [private[target]], dim=2)
            memory_BTF = self.memory[target](attended_BTF, masks[target])
            summary_BF = self._summary(memory_BTF, masks[target])
            _, logits, residual = self._heads("heterogeneous")[target](summary_BF)
            outputs[f"heterogeneous/repr/{target}"] = residual
            outputs[f"heterogeneous/logits/{target}"] = logits
            gated.append(self._gated(self.gates[target], summary_BF))
        gated.append(self._gated(self.common_gate, common_BF))
        _, outputs["output"], _ = self.head(torch.cat(gated, dim=1))
        return outputs

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return `total` and its parts by name, with the public code's weights."""
        outputs = self.outputs(batch)

        def task(output: Tensor) -> Tensor:
            return batch.mean(self.task.loss(output, batch.labels_B))

        parts = {"task": task(outputs["output"])}
        parts["heads"] = task(outputs["logits_common"]) + sum(
            (task(outputs[f"{space}/logits/{n}"]) for space in self.heads for n in self.names),
            start=torch.zeros_like(parts["task"]),
        )
        zero = torch.zeros_like(parts["task"])
        reconstruction, cycle, orthogonality = zero, zero, zero
        for n in self.names:
            mask_BT = outputs[f"mask/{n}"]
            private, shared = outputs[f"private/{n}"], outputs[f"shared/{n}"]
            error_BT = (outputs[f"decoded/{n}"] - outputs[f"input/{n}"]).square().mean(1)
            reconstruction = reconstruction + batch.mean(masked_mean(error_BT, mask_BT))
            error_BT = (private - outputs[f"cycled/{n}"]).square().mean(1)
            cycle = cycle + batch.mean(masked_mean(error_BT, mask_BT))
            cosine_BT = functional.cosine_similarity(private, shared, dim=1).clamp_min(0)
            orthogonality = orthogonality + batch.mean(masked_mean(cosine_BT, mask_BT))
        features_BMD = torch.stack([outputs[f"margin/{n}"] for n in self.names], dim=1)
        exact = self.options.margin_classes == "exact"
        classes_B = batch.labels_B if exact else self.task.margin_classes(batch.labels_B)
        margin = batch.share * margin_loss(features_BMD, classes_B)
        parts |= {"reconstruction": reconstruction, "cycle": cycle}
        parts |= {"orthogonality": orthogonality, "margin": margin}
        for space, unit in self._units():
            parts |= {f"{name}_{space}": x for name, x in unit.losses(outputs, batch).items()}
        distillation = sum(
            (value for name, value in parts.items() if name.startswith("gd_")), start=zero
        )
        decoupling = cycle + reconstruction + GAMMA * (margin + orthogonality)
        total = parts["task"] + parts["heads"]
        total = total + DISTILLATION_WEIGHT * distillation + DECOUPLING_WEIGHT * decoupling
        return {"total": total, **parts}

    def _units(self) -> list[tuple[str, GraphDistillation]]:
        return [(space, cast(GraphDistillation, unit)) for space, unit in self.units.items()]

    def _heads(self, space: str) -> nn.ModuleDict:
        return cast(nn.ModuleDict, self.heads[space])

    def _summary(self, x_BTF: Tensor, mask_BT: Tensor) -> Tensor:
        return x_BTF[:, -1] if self.options.summary == "last" else masked_mean(x_BTF, mask_BT)

    def _gated(self, gate: nn.Module, x_BF: Tensor) -> Tensor:
        gate_BF: Tensor = gate(x_BF).sigmoid()
        return gate_BF if self.options.gate == "replace" else x_BF * gate_BF


class GraphDistillation(nn.Module):
    """Edge weights between modalities, and distillation losses (DMD, section 3.3)."""

    prior_logits_P: Tensor

    def __init__(
        self, space: str, names: list[str], size: int, outputs: int, options: DMDOptions
    ) -> None:
        super().__init__()
        self.space, self.names, self.options = space, names, options
        self.pairs = list(permutations(names, 2))  # (target, source)
        hidden = EDGE_WIDTH[space]
        self.logits = nn.Linear(outputs, hidden)
        self.representation = nn.Linear(size, hidden)
        self.edge = nn.Linear(4 * hidden, 1)
        logits = torch.tensor([float(pair in PRIOR_EDGES[space]) for pair in self.pairs])
        self.register_buffer("prior_logits_P", logits / PRIOR_TEMPERATURE, persistent=False)

    def forward(self, outputs: dict[str, Tensor]) -> Tensor:
        """Return the weight of every edge, `[B, P]` in the order of `pairs`."""
        vertices = {
            name: torch.cat(
                [
                    self.logits(outputs[f"{self.space}/logits/{name}"]),
                    self.representation(outputs[f"{self.space}/repr/{name}"]),
                ],
                dim=1,
            )
            for name in self.names
        }
        scores = [
            self.edge(torch.cat([vertices[target], vertices[source]], dim=1))
            for target, source in self.pairs
        ]
        scores_BP = EDGE_SCALE * torch.cat(scores, dim=1)
        if self.options.edge_softmax == "all":
            return scores_BP.softmax(1)
        return scores_BP.view(len(scores_BP), len(self.names), -1).softmax(2).flatten(1)

    def losses(self, outputs: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
        """Return the losses of logits, representations and prior by name.

        Teachers are detached; the weights are not, so that the losses also train the edges.
        """
        edges_BP, prior_P = self(outputs), self.prior_logits_P.softmax(0)
        weights_BP = edges_BP + prior_P if self.options.prior else edges_BP
        logit = representation = edges_BP.new_zeros(())
        for index, (target, source) in enumerate(self.pairs):
            student, teacher = (outputs[f"{self.space}/logits/{n}"] for n in (target, source))
            distance_B = (student - teacher.detach()).abs().sum(1)
            logit = logit + batch.mean(distance_B * weights_BP[:, index])
            if self.space == "heterogeneous":
                student, teacher = (outputs[f"{self.space}/repr/{n}"] for n in (target, source))
                cosine_B = functional.cosine_similarity(student, teacher.detach(), dim=1)
                repel = self.options.heterogeneous_representation == "repel"
                distance_B = cosine_B.clamp_min(0) if repel else 1 - cosine_B
                # The public code averages the distance over the batch before weighting it.
                mean = batch.mean(distance_B) / batch.share.clamp_min(1e-12)
                representation = representation + batch.mean(mean * weights_BP[:, index])
        losses = {"gd_logits": logit}
        if self.space == "heterogeneous":
            losses["gd_representation"] = REPRESENTATION_WEIGHT * representation
        if self.options.prior:
            share = batch.share.clamp_min(1e-12)
            mean_P = (edges_BP * batch.weight_B[:, None]).sum(0) / share
            difference = (mean_P - prior_P).square().sum()
            losses["gd_prior"] = PRIOR_WEIGHT * batch.share * difference
        return losses


def margin_loss(features_BMD: Tensor, classes_B: Tensor) -> Tensor:
    """Compute `L_mar`: anchors are closer to their class than to others (DMD).

    Anchors are all utterances in all modalities. For anchor i, the loss is the mean over positives
    j and negatives k among the anchors of `max(0, 0.15 |y_i − y_k| − cos(i, j) + cos(i, k))`; the
    result is the mean over anchors that have both.
    """
    anchors = features_BMD.flatten(0, 1)
    classes = classes_B.repeat_interleave(features_BMD.shape[1])
    norm = (anchors.square().sum(1) + 1e-8).sqrt()
    cosine_AA = anchors @ anchors.T / (norm[:, None] * norm[None, :])
    same_AA = classes[:, None] == classes[None, :]
    self_AA = torch.eye(len(anchors), dtype=torch.bool, device=anchors.device)
    positive_AA, negative_AA = same_AA & ~self_AA, ~same_AA
    margin_AA = MARGIN * (classes[:, None] - classes[None, :]).abs()
    hinge_AJK = (margin_AA[:, None, :] - cosine_AA[:, :, None] + cosine_AA[:, None, :]).clamp_min(0)
    pairs_AJK = positive_AA[:, :, None] & negative_AA[:, None, :]
    count_A = pairs_AJK.sum((1, 2))
    mean_A = (hinge_AJK * pairs_AJK).sum((1, 2)) / count_A.clamp_min(1)
    return mean_A.sum() / (count_A > 0).sum().clamp_min(1)


def _padded(x: Tensor, steps: int) -> Tensor:
    """Pad axis 1 of `[B, T, …]` with zeros to `steps`, or cut it."""
    if x.shape[1] >= steps:
        return x[:, :steps]
    shape = (x.shape[0], steps - x.shape[1], *x.shape[2:])
    return torch.cat([x, x.new_zeros(shape)], dim=1)
