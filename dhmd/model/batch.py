"""What the model sees of a batch.

Legend: R replicas, M modalities, B utterances, T steps, I features, O outputs (1, or C classes).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class Batch:
    """A batch for all replicas; modality tensors come as lists, since lengths may differ.

    Attributes:
        features: a modality each, `[R, 1, B, T_m, I_m]`, normalised, zeros on padding.
        masks: a modality each, `[R, 1, B, T_m]`, true on real steps.
        present_RMB: true where the utterance has the modality.
        weight_RB: an utterance's share of the mean loss of the whole update (0 on padding and on
            utterances a replica does not train on); sums to 1 over an update.
        labels_RB: the label, or the class index.
        teachers_RMBO: out-of-fold predictions: values, or class probabilities. None outside train.
    """

    features: list[Tensor]
    masks: list[Tensor]
    present_RMB: Tensor
    weight_RB: Tensor
    labels_RB: Tensor
    teachers_RMBO: Tensor | None = None

    def without(self, absent_RMB: Tensor) -> Batch:
        """The same batch with modalities taken away where `absent` is true."""
        keep_RMB = ~absent_RMB
        masks, features = [], []
        for index, (mask, feature) in enumerate(zip(self.masks, self.features, strict=True)):
            kept = keep_RMB[:, index : index + 1]
            masks.append(mask & kept[..., None])
            features.append(feature * kept[..., None, None])
        return Batch(
            features=features,
            masks=masks,
            present_RMB=self.present_RMB & keep_RMB,
            weight_RB=self.weight_RB,
            labels_RB=self.labels_RB,
            teachers_RMBO=self.teachers_RMBO,
        )


def by_group(module: nn.Module, *columns: list[Tensor]) -> list[Tensor]:
    """Apply a module of G groups to G inputs `[R, 1, …]`: at once where their shapes agree.

    Modalities at their own rates have their own lengths; those go one by one, with the weights of
    their group, so that short sequences are not padded to the longest.
    """
    groups = len(columns[0])
    if all(len({tuple(x.shape) for x in column}) == 1 for column in columns):
        return list(module(*(torch.cat(column, dim=1) for column in columns)).split(1, dim=1))
    return [
        module(*(column[g] for column in columns), select=slice(g, g + 1)) for g in range(groups)
    ]
