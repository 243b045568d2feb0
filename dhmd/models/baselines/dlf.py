"""DLF: disentangled-language-focused fusion (Wang et al., AAAI 2025, arXiv 2412.12225).

Transformers split each modality into specific and shared features; the language-focused attractor
then combines language with each other modality. The loss weights are those of the authors' code.
Filled in: sequences are summarised by the mean of their real steps, where the code takes the last
one, and the triplet loss reads these means; padding is masked; the orthogonality loss is a cosine
per step, where the code cuts the flattened tensors into rows; without text, the first modality
takes its place; the loss of classification is cross-entropy.

Legend: B utterances, T steps, D model width, F width of all modalities, O outputs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from dhmd.models.baselines._dmd_layers import MEMORY_LAYERS, Head, Transformer
from dhmd.models.baselines.dmd import margin_loss
from dhmd.models.batch import Batch
from dhmd.models.config import ModelConfig
from dhmd.models.layers import masked_mean, modality_encoders
from dhmd.models.task import Task

LANGUAGE_WEIGHT = 3.0  # weight of the language head's task loss
DECOUPLING_WEIGHT, GAMMA = 0.1, 0.1


@dataclass
class Features:
    """Sequences `[B, T, D]` by modality."""

    inputs: dict[str, Tensor]
    specific: dict[str, Tensor]
    shared: dict[str, Tensor]
    decoded: dict[str, Tensor]
    cycled: dict[str, Tensor]


class DLF(nn.Module):
    """Disentanglement, shared branch, language-focused attractor, fusion and heads."""

    title = "DLF"

    def __init__(self, inputs: dict[str, int], task: Task, config: ModelConfig) -> None:
        super().__init__()
        self.task, self.names, width = task, tuple(inputs), config.width
        self.language = "text" if "text" in inputs else self.names[0]
        self.encoders = modality_encoders(inputs, config)

        def transformer(name: str, layers: int = 0) -> Transformer:
            rate = config.dropout.attention[name]
            return Transformer(width, max(config.layers, layers), config, rate)

        self.specific = nn.ModuleDict({n: transformer(n) for n in inputs})
        self.shared = transformer(self.language)
        self.decoders = nn.ModuleDict({n: nn.Linear(2 * width, width, bias=False) for n in inputs})
        self.align = nn.ModuleDict({n: nn.Linear(width, width) for n in inputs})
        self.shared_attention = nn.ModuleDict({n: transformer(n) for n in inputs})
        self.attractor = nn.ModuleDict({n: transformer(n) for n in inputs if n != self.language})
        self.memory = nn.ModuleDict(
            {n: transformer(n, 0 if n == self.language else MEMORY_LAYERS) for n in inputs}
        )
        self.heads = nn.ModuleDict({n: Head(width, width, task.outputs, config) for n in inputs})
        common = len(inputs) * width
        self.shared_head = Head(common, common, task.outputs, config)
        self.projectors = nn.ModuleDict({n: nn.Linear(width, width) for n in inputs})
        self.shared_projector = nn.Linear(common, common)
        self.head = Head(2 * common, 2 * common, task.outputs, config)

    def forward(self, batch: Batch) -> Tensor:
        """Return outputs `[B, O]`."""
        return self._outputs(self.disentangled(batch), batch)["final"]

    def disentangled(self, batch: Batch) -> Features:
        """Split each modality, decode it, and encode the decoded sequence again."""
        features = Features({}, {}, {}, {}, {})
        for n in self.names:
            mask_BT = batch.masks[n]
            x_BTD = self.encoders[n](batch.features[n], mask_BT)
            specific_BTD, shared_BTD = self.specific[n](x_BTD, mask_BT), self.shared(x_BTD, mask_BT)
            decoded_BTD = self.decoders[n](torch.cat([specific_BTD, shared_BTD], dim=2))
            features.inputs[n], features.decoded[n] = x_BTD, decoded_BTD
            features.specific[n], features.shared[n] = specific_BTD, shared_BTD
            features.cycled[n] = self.specific[n](decoded_BTD, mask_BT)
        return features

    def _outputs(self, features: Features, batch: Batch) -> dict[str, Tensor]:
        """Return outputs `[B, O]` of the final head, the shared head and each modality's head."""
        outputs, fused = {}, []
        language_BTD, common = features.specific[self.language], []
        for n in self.names:
            mask_BT = batch.masks[n]
            specific_BTD = features.specific[n]
            query_BT = mask_BT
            if n != self.language:
                # The queries come from language, so the result has the steps of language.
                query_BT = batch.masks[self.language]
                specific_BTD = self.attractor[n](language_BTD, query_BT, specific_BTD, mask_BT)
            summary_BD = masked_mean(self.memory[n](specific_BTD, query_BT), query_BT)
            _, outputs[n], residual_BD = self.heads[n](summary_BD)
            fused.append(self.projectors[n](residual_BD).sigmoid())
            attended_BTD = self.shared_attention[n](features.shared[n], mask_BT)
            common.append(masked_mean(attended_BTD, mask_BT))
        common_BF = torch.cat(common, dim=1)
        _, outputs["shared"], _ = self.shared_head(common_BF)
        fused.append(self.shared_projector(common_BF).sigmoid())
        _, outputs["final"], _ = self.head(torch.cat(fused, dim=1))
        return outputs

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return `total = task + heads + .1 (rec + specific + .1 (triplet + orthogonality))`.

        The heads are the shared one and each modality's; that of language has weight 3.
        """
        features = self.disentangled(batch)
        outputs = self._outputs(features, batch)
        tasks = {n: batch.mean(self.task.loss(x, batch.labels_B)) for n, x in outputs.items()}
        zero = torch.zeros_like(tasks["final"])
        heads = (LANGUAGE_WEIGHT - 1) * tasks[self.language] + tasks["shared"]
        heads = heads + sum((tasks[n] for n in self.names), zero)
        rec, specific, orthogonality = zero, zero, zero
        for n in self.names:
            mask_BT = batch.masks[n]
            error_BT = (features.decoded[n] - features.inputs[n]).square().mean(2)
            rec = rec + batch.mean(masked_mean(error_BT, mask_BT))
            error_BT = (features.specific[n] - features.cycled[n]).square().mean(2)
            specific = specific + batch.mean(masked_mean(error_BT, mask_BT))
            cosine_BT = functional.cosine_similarity(
                features.specific[n], features.shared[n], dim=2
            ).clamp_min(0)
            orthogonality = orthogonality + batch.mean(masked_mean(cosine_BT, mask_BT))
        aligned = [
            self.align[n](masked_mean(features.shared[n], batch.masks[n])) for n in self.names
        ]
        classes_B = self.task.margin_classes(batch.labels_B)
        triplet = batch.share * margin_loss(torch.stack(aligned, dim=1), classes_B)
        decoupling = rec + specific + GAMMA * (triplet + orthogonality)
        parts = {"task": tasks["final"], "heads": heads, "rec": rec, "specific": specific}
        parts |= {"orthogonality": orthogonality, "triplet": triplet}
        return {"total": tasks["final"] + heads + DECOUPLING_WEIGHT * decoupling, **parts}
