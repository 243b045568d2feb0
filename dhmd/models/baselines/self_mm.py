"""Self-MM: self-supervised unimodal labels (Yu et al., AAAI 2021, arXiv 2102.04830).

Each modality has its own head, trained on generated labels: the distances of its representation to
the class centres, compared with those of the fused representation, shift the multimodal label.
Filled in: an LSTM reads text like the other modalities, where the paper has BERT.

Legend: B utterances, N train utterances, H hidden width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dhmd.base.errors import DhmdError
from dhmd.models.baselines._sub_networks import TextNetwork
from dhmd.models.batch import Batch
from dhmd.models.config import ModelConfig
from dhmd.models.registry import CorpusInfo
from dhmd.models.task import Task

FUSION = "fusion"
EPSILON = 1e-8


class SelfMM(nn.Module):
    """One network and head per modality, a fusion head, and the generated labels.

    Buffers per train utterance: the generated labels `labels_{name}_N` and the representations
    `features_{name}_NH`, where `name` is a modality or `fusion`.
    """

    title = "Self-MM"

    def __init__(
        self, inputs: dict[str, int], task: Task, config: ModelConfig, corpus: CorpusInfo
    ) -> None:
        super().__init__()
        if task.classes is not None:
            raise DhmdError("self_mm generates regression labels, but the task has classes")
        self.task, self.names, width = task, tuple(inputs), config.width
        dropout = config.dropout.output
        self.networks = nn.ModuleDict(
            {n: TextNetwork(size, width, width, dropout) for n, size in inputs.items()}
        )
        sizes = {FUSION: len(inputs) * width, **dict.fromkeys(inputs, width)}
        self.first = nn.ModuleDict(
            {
                n: nn.Sequential(nn.Dropout(dropout), nn.Linear(size, width), nn.ReLU())
                for n, size in sizes.items()
            }
        )
        self.second = nn.ModuleDict(
            {
                n: nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1))
                for n in sizes
            }
        )
        for n in sizes:
            self.register_buffer(f"labels_{n}_N", torch.zeros(corpus.train_utterances))
            self.register_buffer(f"features_{n}_NH", torch.zeros(corpus.train_utterances, width))

    def forward(self, batch: Batch) -> Tensor:
        """Return outputs `[B, O]`."""
        output_BO: Tensor = self.second[FUSION](self._representations(batch)[FUSION])
        return output_BO

    def _representations(self, batch: Batch) -> dict[str, Tensor]:
        """Return the representation `[B, H]` of each modality and of the fusion."""
        vectors = {n: net(batch.features[n], batch.masks[n]) for n, net in self.networks.items()}
        representations = {n: self.first[n](vector_BH) for n, vector_BH in vectors.items()}
        fused_BF = torch.cat(list(vectors.values()), dim=1)
        return {**representations, FUSION: self.first[FUSION](fused_BF)}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted losses of all heads, and update the generated labels."""
        rows = batch.index_B
        representations = self._representations(batch)
        if batch.epoch <= 1:
            for n in representations:
                self._state("labels", n)[rows] = batch.labels_B
        parts = {}
        for n, features_BH in representations.items():
            labels_B = self._state("labels", n)[rows]
            error_B = (self.second[n](features_BH)[:, 0] - labels_B).abs()
            if n == FUSION:
                parts["task"] = batch.mean(error_B)
            else:
                # The more the generated label differs from the label, the higher its weight.
                weight_B = (labels_B - batch.labels_B).abs().tanh()
                parts[f"task_{n}"] = batch.mean(weight_B * error_B * batch.present[n])
        with torch.no_grad():
            if batch.epoch > 1:
                self._update_labels(representations, rows, batch.epoch)
            for n, features_BH in representations.items():
                self._state("features", n)[rows] = features_BH
        return {"total": sum(parts.values(), torch.zeros_like(parts["task"])), **parts}

    def _update_labels(self, representations: dict[str, Tensor], rows: Tensor, epoch: int) -> None:
        """Update the generated labels with momentum (section 3.4.3)."""
        relative = {n: relative_distance(x, *self._centres(n)) for n, x in representations.items()}
        fused_B = self._state("labels", FUSION)[rows]
        for n in self.names:
            new_B = generated_label(fused_B, relative[n], relative[FUSION])
            new_B = new_B.clamp(self.task.low, self.task.high)
            labels_N = self._state("labels", n)
            old, new = (epoch - 1) / (epoch + 1), 2 / (epoch + 1)
            labels_N[rows] = old * labels_N[rows] + new * new_B

    def _centres(self, name: str) -> tuple[Tensor, Tensor]:
        """Return the class centres: mean representations of positive and of negative labels."""
        labels_N, features_NH = self._state("labels", name), self._state("features", name)
        centres = []
        for class_N in (labels_N > 0, labels_N < 0):
            weight_N1 = class_N.to(features_NH.dtype)[:, None]
            centres.append((features_NH * weight_N1).sum(0) / weight_N1.sum().clamp_min(1))
        return centres[0], centres[1]

    def _state(self, kind: str, name: str) -> Tensor:
        return self.get_buffer(f"{kind}_{name}_{'N' if kind == 'labels' else 'NH'}")


def relative_distance(x_BH: Tensor, positive_H: Tensor, negative_H: Tensor) -> Tensor:
    """Return `(D_n − D_p) / (D_p + ε)` of each row, from its distances to the two centres."""
    to_positive: Tensor = torch.linalg.vector_norm(x_BH - positive_H, dim=1)
    to_negative: Tensor = torch.linalg.vector_norm(x_BH - negative_H, dim=1)
    return (to_negative - to_positive) / (to_positive + EPSILON)


def generated_label(label_B: Tensor, modality_B: Tensor, fusion_B: Tensor) -> Tensor:
    """Return the unimodal label from the multimodal one and two relative distances."""
    ratio_B = modality_B / (fusion_B + EPSILON)
    return 0.5 * ratio_B * label_B + 0.5 * (label_B + modality_B - fusion_B)
