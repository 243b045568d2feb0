"""JMT: a joint multimodal transformer with key-based cross-attention (Waligora et al., 2024).

CVPR workshops, arXiv 2403.10488. A joint representation is computed from all modalities at each
step. It and the modalities attend to each other, and a linear layer fuses the results. The paper
has two modalities; here the same rule applies to any number. Filled in: convolutions instead of
image and audio backbones; one output per utterance, from the mean of its real steps, instead of one
per frame; the task loss of this project instead of the concordance loss. Needs word-aligned
sequences.

Legend: B utterances, T steps, D model width, O outputs.
"""

from __future__ import annotations

from itertools import permutations

import torch
from torch import Tensor, nn

from dhmd.models.baselines._sub_networks import require_word_aligned
from dhmd.models.batch import Batch
from dhmd.models.config import ModelConfig
from dhmd.models.layers import Attention, masked_mean, modality_encoders, zero_padding
from dhmd.models.task import Task

JOINT = "joint"


class JMT(nn.Module):
    """Encoders, joint representation, transformers, cross-attention of all pairs, fusion."""

    title = "JMT"

    def __init__(self, inputs: dict[str, int], task: Task, config: ModelConfig) -> None:
        super().__init__()
        self.names, width = tuple(inputs), config.width
        self.encoders = modality_encoders(inputs, config)
        self.joint = nn.Linear(len(inputs) * width, width)
        sequences = (*inputs, JOINT)
        self.transformers = nn.ModuleDict(
            {n: nn.ModuleList(Layer(config) for _ in range(config.layers)) for n in sequences}
        )
        rates = {n: config.dropout.attention[n] for n in inputs} | {JOINT: 0.0}
        # One per query sequence, for all keys, as in the authors' code.
        self.cross_attention = nn.ModuleDict(
            {n: Attention(width, config.heads, rates[n]) for n in sequences}
        )
        self.pairs = list(permutations(sequences, 2))  # (query, key)
        self.fusion = nn.Linear(len(self.pairs) * width, 2 * width)
        self.dropout = nn.Dropout(config.dropout.output)
        self.head = nn.Linear(2 * width, task.outputs)

    def forward(self, batch: Batch) -> Tensor:
        """Return outputs `[B, O]`."""
        require_word_aligned("jmt", batch)
        masks = {n: batch.masks[n] for n in self.names}
        masks[JOINT] = torch.stack(list(masks.values())).any(0)
        x = {n: self.encoders[n](batch.features[n], masks[n]) for n in self.names}
        x[JOINT] = self.joint(torch.cat([x[n] for n in self.names], dim=2))
        for n, layers in self.transformers.items():
            assert isinstance(layers, nn.ModuleList)
            for layer in layers:
                x[n] = layer(x[n], masks[n])
        attended = [
            zero_padding(self.cross_attention[query](x[query], x[key], masks[key]), masks[query])
            for query, key in self.pairs
        ]
        fused_BTF = self.fusion(torch.cat(attended, dim=2))
        output_BO: Tensor = self.head(self.dropout(masked_mean(fused_BTF, masks[JOINT])))
        return output_BO


class Layer(nn.Module):
    """Post-norm self-attention and feed-forward block."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.attention = Attention(width, config.heads, 0.0)
        self.feed_forward = nn.Sequential(
            nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width)
        )
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.dropout = nn.Dropout(config.dropout.layer)

    def forward(self, x_BTD: Tensor, mask_BT: Tensor) -> Tensor:
        x_BTD = self.norms[0](x_BTD + self.dropout(self.attention(x_BTD, x_BTD, mask_BT)))
        out_BTD: Tensor = self.norms[1](x_BTD + self.dropout(self.feed_forward(x_BTD)))
        return out_BTD
