"""Batches: `Batch` for a model of one seed, and `EnsembleBatch` for E members.

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
    """Input of a model of one seed; its `forward(batch)` returns outputs `[B, O]`.

    A training batch has no padding rows.

    Attributes:
        features: normalised features by modality, `[B, T_m, I_m]`, zero on padding.
        masks: by modality, `[B, T_m]`, true on real steps.
        present: by modality, `[B]`, true where the utterance has the modality.
        labels_B: labels, or class indices as floats.
        weight_B: weight of each utterance in the mean loss of the whole update. It sums to 1 over
            an update, which may consist of several batches (`train.accumulate`). See `mean`.
        index_B: position in the train split, an index for state per utterance; −1 outside it.
        video_B: number of the video that contains the utterance.
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
        """Average values per utterance; the sum over an update's batches is the update's mean."""
        return (values_B * self.weight_B).sum()

    @property
    def share(self) -> Tensor:
        """Fraction of the update in this batch: the factor of a loss that is not per utterance."""
        return self.weight_B.sum()


@dataclass
class TokenBatch:
    """Sub-words of the utterances, for a text encoder that is fine-tuned.

    Attributes:
        ids_EBK, types_EBK: token ids and segment ids, 0 on padding.
        mask_EBK: true on tokens.
        steps_EBK: index of the text step that contains the token, −1 for none.
    """

    ids_EBK: Tensor
    types_EBK: Tensor
    mask_EBK: Tensor
    steps_EBK: Tensor


@dataclass
class EnsembleBatch:
    """A batch for all members. Lists have one tensor per modality, since lengths may differ.

    Attributes:
        modalities: names of the modalities, in the order of the lists.
        features: per modality `[E, 1, B, T_m, I_m]`, normalised, zeros on padding.
        masks: per modality `[E, 1, B, T_m]`, true on real steps.
        present_EMB: true where the utterance has the modality.
        weight_EB: weight of an utterance in the mean loss of the whole update; sums to 1 over an
            update. 0 on padding rows and on utterances that a member does not train on.
        labels_EB: labels, or class indices.
        index_EB, video_EB, epoch, phase: see `Batch`.
        teachers_EMBO: out-of-fold predictions of train utterances: values, or class probabilities.
            None where no teachers were loaded.
        tokens: sub-words, where the text encoder is fine-tuned.
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
        """Return the batch with modalities removed where `absent_EMB` is true."""
        present_EMB = ~absent_EMB
        present = present_EMB.unsqueeze(2).unbind(1)  # per modality, [E, 1, B]
        return replace(
            self,
            features=[x * p[..., None, None] for x, p in zip(self.features, present, strict=True)],
            masks=[mask & p[..., None] for mask, p in zip(self.masks, present, strict=True)],
            present_EMB=self.present_EMB & present_EMB,
        )

    def rows(self, index_B: Tensor) -> EnsembleBatch:
        """Return the batch restricted to the utterances `index_B`."""
        return self._map(lambda tensor, axis: tensor.index_select(axis, index_B))

    def members(self, index: slice) -> EnsembleBatch:
        """Return the batch restricted to a range of members."""
        return self._map(lambda tensor, axis: tensor[index])

    def _map(self, change: Callable[[Tensor, int], Tensor]) -> EnsembleBatch:
        """Apply a function of a tensor and its utterance axis to all tensors."""
        if self.tokens is not None:
            raise ValueError("a batch with tokens cannot be restricted")
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
            "features": {m: x[:, 0] for m, x in zip(self.modalities, self.features, strict=True)},
            "masks": {m: x[:, 0] for m, x in zip(self.modalities, self.masks, strict=True)},
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
        """Return one member's batch, without the member axis."""
        return Batch(**self.tensors_of(member), epoch=self.epoch, phase=self.phase)
