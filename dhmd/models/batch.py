"""Batches: `Batch`, which a model of one seed reads, and `EnsembleBatch`, one for E members.

Legend: E members, M modalities, B utterances, T steps, K sub-words, I features, O outputs
(1, or C classes).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass
class Batch:
    """Utterances as a model of one seed sees them: `forward(batch)` returns outputs `[B, O]`.

    A training batch holds only utterances that count: padding rows are removed.

    Attributes:
        features: by modality, `[B, T_m, I_m]`, normalised, zeros on padding.
        masks: by modality, `[B, T_m]`, true on real steps.
        present: by modality, `[B]`, true where the utterance has the modality.
        labels_B: labels, or class indices as floats.
        weight_B: share of each utterance in the mean loss of the whole update. It sums to 1 over
            an update, which may consist of several batches (`train.accumulate`); use `mean`.
        index_B: position in the train split, −1 outside it: where state per utterance is stored.
        video_B: number of the video that the utterance comes from.
        teachers: by modality, out-of-fold predictions `[B, O]` of train utterances: values, or
            class probabilities. None where no teachers were loaded.
        epoch: from 1 in training, 0 in evaluation.
        phase: name of the training phase, see `dhmd.models.learner.Learner.phases`.
    """

    features: dict[str, Tensor]
    masks: dict[str, Tensor]
    present: dict[str, Tensor]
    labels_B: Tensor
    weight_B: Tensor
    index_B: Tensor
    video_B: Tensor
    teachers: dict[str, Tensor] | None = None
    epoch: int = 0
    phase: str = ""

    @property
    def presence(self) -> Tensor:
        """Presence of all modalities, `[B, M]`."""
        return torch.stack(list(self.present.values()), dim=1)

    def mean(self, values_B: Tensor) -> Tensor:
        """Average a loss per utterance; sums to the mean over the update."""
        return (values_B * self.weight_B).sum()

    @property
    def share(self) -> Tensor:
        """Share of this batch in the update, the factor of a loss of the batch as a whole."""
        return self.weight_B.sum()


@dataclass
class TokenBatch:
    """Sub-words of a batch's utterances, for a text encoder that is fine-tuned.

    Attributes:
        ids_EBK, types_EBK: tokens and segment ids, 0 on padding.
        mask_EBK: true on tokens.
        steps_EBK: the text step that each token is a part of, −1 for none.
    """

    ids_EBK: Tensor
    types_EBK: Tensor
    mask_EBK: Tensor
    steps_EBK: Tensor


@dataclass
class EnsembleBatch:
    """A batch for all members; modality tensors come as lists, since lengths may differ.

    Attributes:
        modalities: names of the modalities, in the order of the lists.
        features: per modality `[E, 1, B, T_m, I_m]`, normalised, zeros on padding.
        masks: per modality `[E, 1, B, T_m]`, true on real steps.
        present_EMB: true where the utterance has the modality.
        weight_EB: share of an utterance in the mean loss of the whole update (0 on padding and on
            utterances that a member does not train on); sums to 1 over an update.
        labels_EB: labels, or class indices.
        index_EB, video_EB, epoch, phase: see `Batch`.
        teachers_EMBO: out-of-fold predictions of train utterances: values, or class probabilities.
            None where no teachers were loaded.
        tokens: of text, where its encoder is fine-tuned.
    """

    modalities: tuple[str, ...]
    features: list[Tensor]
    masks: list[Tensor]
    present_EMB: Tensor
    weight_EB: Tensor
    labels_EB: Tensor
    index_EB: Tensor
    video_EB: Tensor
    teachers_EMBO: Tensor | None = None
    tokens: TokenBatch | None = None
    epoch: int = 0
    phase: str = ""

    def without(self, absent_EMB: Tensor) -> EnsembleBatch:
        """Return the batch with modalities removed where `absent` is true."""
        keep_EMB = ~absent_EMB
        masks, features = [], []
        for index, (mask, feature) in enumerate(zip(self.masks, self.features, strict=True)):
            kept = keep_EMB[:, index : index + 1]
            masks.append(mask & kept[..., None])
            features.append(feature * kept[..., None, None])
        return replace(
            self, features=features, masks=masks, present_EMB=self.present_EMB & keep_EMB
        )

    def rows(self, index_B: Tensor) -> EnsembleBatch:
        """Return the batch restricted to the utterances `index_B`."""
        return self._each(lambda tensor, axis: tensor.index_select(axis, index_B))

    def members(self, some: slice) -> EnsembleBatch:
        """Return the batch restricted to a range of members."""
        return self._each(lambda tensor, axis: tensor[some])

    def _each(self, change: Callable[[Tensor, int], Tensor]) -> EnsembleBatch:
        """Apply a function of a tensor and its utterance axis to all tensors."""
        if self.tokens is not None:
            raise ValueError("a batch with tokens cannot be divided")
        teachers = self.teachers_EMBO
        return replace(
            self,
            features=[change(x, 2) for x in self.features],
            masks=[change(x, 2) for x in self.masks],
            present_EMB=change(self.present_EMB, 2),
            weight_EB=change(self.weight_EB, 1),
            labels_EB=change(self.labels_EB, 1),
            index_EB=change(self.index_EB, 1),
            video_EB=change(self.video_EB, 1),
            teachers_EMBO=None if teachers is None else change(teachers, 2),
        )

    def tensors(self) -> dict[str, dict[str, Tensor] | Tensor]:
        """Return the tensor fields of `Batch` with a leading member axis."""
        tensors: dict[str, dict[str, Tensor] | Tensor] = {
            "features": {n: x[:, 0] for n, x in zip(self.modalities, self.features, strict=True)},
            "masks": {n: x[:, 0] for n, x in zip(self.modalities, self.masks, strict=True)},
            "present": dict(zip(self.modalities, self.present_EMB.unbind(1), strict=True)),
            "labels_B": self.labels_EB,
            "weight_B": self.weight_EB,
            "index_B": self.index_EB,
            "video_B": self.video_EB,
        }
        if self.teachers_EMBO is not None:
            teachers = self.teachers_EMBO.unbind(1)
            tensors["teachers"] = dict(zip(self.modalities, teachers, strict=True))
        return tensors

    def tensors_of(self, member: int) -> dict[str, Any]:
        """Return the tensor fields of one member's `Batch`."""
        return {
            name: {key: x[member] for key, x in value.items()}
            if isinstance(value, dict)
            else value[member]
            for name, value in self.tensors().items()
        }

    def of_member(self, member: int) -> Batch:
        """Return one member's batch without the axes of the ensemble."""
        return Batch(**self.tensors_of(member), epoch=self.epoch, phase=self.phase)
