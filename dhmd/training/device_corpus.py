"""Features on the device, ragged and normalised, gathered by index: no loader between.

Legend: N utterances, E members, B utterances of a batch, T steps, I features, M modalities.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dhmd.data.aligned.corpus import Array, Corpus, Tokens
from dhmd.models.batch import Batch, TokenBatch
from dhmd.training.batches import Bucket, make_buckets

# Normalised values beyond this many standard deviations carry no information but can blow up a
# step: real acoustic features hold such outliers even after −inf and NaN are cleaned [ours].
CLIP = 10.0


@dataclass(frozen=True)
class Normalisation:
    """Per feature: subtract the mean, divide by the deviation, clip to ± 10."""

    mean_I: Array
    std_I: Array

    def __call__(self, values: Array) -> Array:
        scaled = (values - self.mean_I) / self.std_I
        return np.clip(scaled, -CLIP, CLIP).astype(np.float32)


class DeviceTokens:
    """Sub-words on the device, gathered by utterance.

    Legend: K sub-words.
    """

    def __init__(self, tokens: Tokens, device: torch.device) -> None:
        columns = np.stack([tokens.ids, tokens.types, tokens.steps, tokens.mask.astype(np.int64)])
        # The last place is padding's: no token, no step, not attended to.
        padding = np.array([[0], [0], [-1], [0]])
        self._columns_4X = torch.from_numpy(np.concatenate([columns, padding], axis=1)).to(device)
        self._offsets = torch.from_numpy(tokens.offsets[:-1].copy()).to(device)
        self._lengths = torch.from_numpy(tokens.lengths).to(device)

    def batch(self, rows_EB: Tensor) -> TokenBatch:
        """The sub-words of some utterances, padded to the longest of them."""
        lengths_EB = self._lengths[rows_EB]
        places_K = torch.arange(max(1, int(lengths_EB.max())), device=rows_EB.device)
        index = self._offsets[rows_EB].unsqueeze(-1) + places_K
        last = self._columns_4X.shape[1] - 1
        index = torch.where(places_K < lengths_EB.unsqueeze(-1), index, last)
        ids, types, steps, mask = self._columns_4X[:, index]
        return TokenBatch(ids_EBK=ids, types_EBK=types, mask_EBK=mask.bool(), steps_EBK=steps)


class DeviceCorpus:
    """The utterances that training and prediction index into.

    Args:
        lengths: a modality each, `[N]`, 0 where absent.
        values: a modality each, `[ΣT, I]`, normalised.
        labels_N: NaN where unknown.
        together: the modalities' steps are the same ones (words), so they share their lengths.
    """

    def __init__(
        self,
        lengths: list[Array],
        values: list[Array],
        labels_N: Array,
        device: torch.device,
        *,
        together: bool,
    ) -> None:
        self.device, self.together = device, together
        self.lengths_MN = np.stack(lengths)
        self._values, self._offsets, self._lengths = [], [], []
        for length, value in zip(lengths, values, strict=True):
            offsets = np.concatenate([[0], np.cumsum(length)[:-1]])
            padded = np.concatenate([value, np.zeros((1, value.shape[1]), np.float32)])
            self._values.append(torch.from_numpy(padded).to(device))
            self._offsets.append(torch.from_numpy(offsets).to(device))
            self._lengths.append(torch.from_numpy(length.astype(np.int64)).to(device))
        self.present_MN = torch.stack([length > 0 for length in self._lengths])
        labels = np.nan_to_num(labels_N.astype(np.float32))
        self.labels_N = torch.from_numpy(labels).to(device)
        self.teachers_EMNO: Tensor | None = None
        self.tokens: DeviceTokens | None = None

    @staticmethod
    def of(
        corpus: Corpus,
        modalities: tuple[str, ...],
        normalisation: dict[str, Normalisation],
        device: torch.device,
    ) -> DeviceCorpus:
        """The chosen modalities of a corpus."""
        lengths, values = [], []
        for name in modalities:
            ragged = corpus.features[name]
            here = corpus.present_NM[:, corpus.modalities.index(name)]
            kept = np.repeat(here, ragged.lengths)
            lengths.append(np.where(here, ragged.lengths, 0))
            values.append(normalisation[name](ragged.values[kept]))
        together = corpus.alignment == "word"
        return DeviceCorpus(lengths, values, corpus.labels_N, device, together=together)

    def buckets(self, rows: Array, count: int, batch_size: int) -> tuple[Bucket, ...]:
        """Length buckets of the given rows."""
        return make_buckets(rows, self.lengths_MN, count, batch_size, together=self.together)

    def batch(self, rows_EB: Tensor, weight_EB: Tensor, steps: tuple[int, ...]) -> Batch:
        """Gather a batch, modality m trimmed or padded to `steps[m]`."""
        features, masks = [], []
        for values, offsets, lengths, length in zip(
            self._values, self._offsets, self._lengths, steps, strict=True
        ):
            places = torch.arange(length, device=self.device)
            mask = places < lengths[rows_EB].unsqueeze(-1)
            index = torch.where(mask, offsets[rows_EB].unsqueeze(-1) + places, len(values) - 1)
            features.append(values[index].unsqueeze(1))
            masks.append(mask.unsqueeze(1))
        present_EMB = self.present_MN[:, rows_EB].transpose(0, 1)
        teachers = None
        if self.teachers_EMNO is not None:
            member = torch.arange(len(rows_EB), device=self.device).unsqueeze(-1)
            teachers = self.teachers_EMNO.transpose(1, 2)[member, rows_EB].transpose(1, 2)
        return Batch(
            features=features,
            masks=masks,
            present_EMB=present_EMB,
            weight_EB=weight_EB,
            labels_EB=self.labels_N[rows_EB],
            teachers_EMBO=teachers,
            tokens=None if self.tokens is None else self.tokens.batch(rows_EB),
        )
