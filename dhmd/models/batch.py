"""What the model sees of a batch.

Legend: E members, M modalities, B utterances, T steps, K sub-words, I features, O outputs
(1, or C classes).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn


@dataclass
class TokenBatch:
    """The sub-words of a batch's utterances, for an encoder of text that is trained along.

    Attributes:
        ids_EBK, types_EBK: tokens and segment ids, 0 on padding.
        mask_EBK: true on tokens.
        steps_EBK: the step of text that each is a part of, −1 for none.
    """

    ids_EBK: Tensor
    types_EBK: Tensor
    mask_EBK: Tensor
    steps_EBK: Tensor


@dataclass
class Batch:
    """A batch for all members; modality tensors come as lists, since lengths may differ.

    Attributes:
        features: a modality each, `[E, 1, B, T_m, I_m]`, normalised, zeros on padding.
        masks: a modality each, `[E, 1, B, T_m]`, true on real steps.
        present_EMB: true where the utterance has the modality.
        weight_EB: an utterance's share of the mean loss of the whole update (0 on padding and on
            utterances a member does not train on); sums to 1 over an update.
        labels_EB: the label, or the class index.
        teachers_EMBO: out-of-fold predictions: values, or class probabilities. None outside train.
        tokens: of text, where its encoder is trained along.
    """

    features: list[Tensor]
    masks: list[Tensor]
    present_EMB: Tensor
    weight_EB: Tensor
    labels_EB: Tensor
    teachers_EMBO: Tensor | None = None
    tokens: TokenBatch | None = None

    def without(self, absent_EMB: Tensor) -> Batch:
        """The same batch with modalities taken away where `absent` is true."""
        keep_EMB = ~absent_EMB
        masks, features = [], []
        for index, (mask, feature) in enumerate(zip(self.masks, self.features, strict=True)):
            kept = keep_EMB[:, index : index + 1]
            masks.append(mask & kept[..., None])
            features.append(feature * kept[..., None, None])
        return replace(
            self, features=features, masks=masks, present_EMB=self.present_EMB & keep_EMB
        )


def by_group(module: nn.Module, *columns: list[Tensor]) -> list[Tensor]:
    """Apply a module of G groups to G inputs `[E, 1, …]`: at once where their shapes agree.

    Modalities at their own rates have their own lengths; those go one by one, with the weights of
    their group, so that short sequences are not padded to the longest.
    """
    groups = len(columns[0])
    if all(len({tuple(x.shape) for x in column}) == 1 for column in columns):
        return list(module(*(torch.cat(column, dim=1) for column in columns)).split(1, dim=1))
    return [
        module(*(column[g] for column in columns), select=slice(g, g + 1)) for g in range(groups)
    ]
