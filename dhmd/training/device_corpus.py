"""A corpus on the device: normalised, ragged features from which batches are gathered by index.

Legend: N utterances, E members, B utterances of a batch, T steps, I features, M modalities,
K sub-words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BeforeValidator, Field, PlainSerializer
from pydantic.dataclasses import dataclass
from torch import Tensor

from dhmd.base.errors import DhmdError
from dhmd.config.schema import CONFIG
from dhmd.data.aligned.corpus import Array, Corpus, Tokens
from dhmd.models.batch import EnsembleBatch, TokenBatch
from dhmd.models.task import Task
from dhmd.training.batches import (
    Bucket,
    PlannedBatch,
    evaluation_batches,
    evaluation_videos,
    longest_steps,
    make_buckets,
)

EVALUATION_BATCH = 64

# In standard deviations (ours). Real acoustic features have outliers even after −inf and NaN are
# removed, and a single outlier can ruin an update.
CLIP = 10.0


# An array that JSON stores as a list.
_Numbers = Annotated[
    Any,
    BeforeValidator(lambda values: np.array(values, float)),
    PlainSerializer(lambda values: values.tolist()),
]


@dataclass(frozen=True, config=CONFIG)
class Normalisation:
    """Normalisation of features: zero mean, unit standard deviation, clipped to ± 10."""

    mean_I: Annotated[_Numbers, Field(alias="mean")]
    std_I: Annotated[_Numbers, Field(alias="std")]

    def __call__(self, values: Array) -> Array:
        scaled: Array = (values - self.mean_I) / self.std_I
        return np.clip(scaled, -CLIP, CLIP).astype(np.float32)

    @staticmethod
    def of(corpus: Corpus, modality: str) -> Normalisation:
        """Return the normalisation by the corpus's train split.

        Raises:
            DhmdError: the corpus has no such modality.
        """
        if modality not in corpus.modalities:
            raise DhmdError(
                f"the aligned features file of {corpus.name} has no {modality}: "
                "run the align stage again"
            )
        statistics = corpus.statistics[modality]
        return Normalisation(statistics.mean_d, statistics.std_d)


def task_of(corpus: Corpus) -> Task:
    """Return the task that the corpus's labels define."""
    return Task(
        classes=len(corpus.class_names) or None,
        low=float(corpus.low),
        high=float(corpus.high),
        multilabel=corpus.task == "multilabel",
    )


def max_lengths(corpus: Corpus, modalities: Sequence[str]) -> dict[str, int]:
    """Return the length of the longest sequence of each modality, in steps."""
    return {name: int(corpus.features[name].lengths.max()) for name in modalities}


class DeviceTokens:
    """Sub-words on the device, from which batches are gathered by utterance."""

    def __init__(self, tokens: Tokens, device: torch.device) -> None:
        columns = np.stack([tokens.ids, tokens.types, tokens.steps, tokens.mask.astype(np.int64)])
        # The last column is padding: no token, no step, not attended to.
        padding = np.array([[0], [0], [-1], [0]])
        self._columns_4X = torch.from_numpy(np.concatenate([columns, padding], axis=1)).to(device)
        self._offsets = torch.from_numpy(tokens.offsets[:-1].copy()).to(device)
        self._lengths = torch.from_numpy(tokens.lengths).to(device)

    def batch(self, rows_EB: Tensor) -> TokenBatch:
        """Gather the sub-words of a batch of utterances, padded to the longest of them."""
        lengths_EB = self._lengths[rows_EB]
        index_K = torch.arange(max(1, int(lengths_EB.max())), device=rows_EB.device)
        index = self._offsets[rows_EB].unsqueeze(-1) + index_K
        last = self._columns_4X.shape[1] - 1
        index = torch.where(index_K < lengths_EB.unsqueeze(-1), index, last)
        ids, types, steps, mask = self._columns_4X[:, index]
        return TokenBatch(ids_EBK=ids, types_EBK=types, mask_EBK=mask.bool(), steps_EBK=steps)


class DeviceCorpus:
    """The utterances of training and prediction, on the device.

    Args:
        lengths: number of steps by modality, `[N]`, 0 where the modality is absent.
        values: normalised features by modality, the steps of all utterances, `[ΣT, I]`.
        labels_N: labels, NaN where unknown.
        same_steps: whether the steps of all modalities are the same words.
        videos_N: the number of each utterance's video; None: every utterance is its own video.
        train_rows: indices of the train split; None if unknown.

    Attributes:
        teachers_EMNO: out-of-fold predictions of the teachers; set before training.
        tokens: sub-words of the text; set if the text encoder is fine-tuned.
    """

    def __init__(
        self,
        lengths: Mapping[str, Array],
        values: Mapping[str, Array],
        labels_N: Array,
        device: torch.device,
        *,
        same_steps: bool,
        videos_N: Array | None = None,
        train_rows: Array | None = None,
    ) -> None:
        self.modalities, self.device, self.same_steps = tuple(lengths), device, same_steps
        self.lengths_MN = np.stack(list(lengths.values()))
        count = self.lengths_MN.shape[1]
        self._values, self._offsets, self._lengths = [], [], []
        for name, length in lengths.items():
            value = values[name]
            offsets = np.concatenate([[0], np.cumsum(length)[:-1]])
            padded = np.concatenate([value, np.zeros((1, value.shape[1]), np.float32)])
            self._values.append(torch.from_numpy(padded).to(device))
            self._offsets.append(torch.from_numpy(offsets).to(device))
            self._lengths.append(torch.from_numpy(length.astype(np.int64)).to(device))
        self.present_MN = torch.stack([length > 0 for length in self._lengths])
        labels = np.nan_to_num(labels_N.astype(np.float32))
        self.labels_N = torch.from_numpy(labels).to(device)
        self.videos_N = np.arange(count) if videos_N is None else videos_N
        self._videos_N = torch.from_numpy(self.videos_N.astype(np.int64)).to(device)
        index_N = np.full(count, -1, np.int64)
        if train_rows is not None:
            index_N[train_rows] = np.arange(len(train_rows))
        self._index_N = torch.from_numpy(index_N).to(device)
        self.teachers_EMNO: Tensor | None = None
        self.tokens: DeviceTokens | None = None

    @staticmethod
    def of(corpus: Corpus, modalities: Sequence[str], device: torch.device) -> DeviceCorpus:
        """Load the given modalities of a corpus.

        Raises:
            DhmdError: the corpus lacks one of the modalities.
        """
        lengths, values = {}, {}
        for name in modalities:
            normalise, ragged = Normalisation.of(corpus, name), corpus.features[name]
            present_N = corpus.present_NM[:, corpus.modalities.index(name)]
            present = np.repeat(present_N, ragged.lengths)  # per step
            lengths[name] = np.where(present_N, ragged.lengths, 0)
            values[name] = normalise(ragged.values[present])
        _, videos_N = np.unique(np.array(corpus.videos), return_inverse=True)
        return DeviceCorpus(
            lengths,
            values,
            corpus.labels_N,
            device,
            same_steps=corpus.alignment == "word",
            videos_N=videos_N,
            train_rows=corpus.index("train"),
        )

    def buckets(self, rows: Array, count: int, batch_size: int) -> tuple[Bucket, ...]:
        """Divide the given rows into length buckets."""
        return make_buckets(rows, self.lengths_MN, count, batch_size, same_steps=self.same_steps)

    def steps(self, rows: Array) -> tuple[int, ...]:
        """Return the number of steps per modality that fits all of the given rows."""
        return longest_steps(self.lengths_MN[:, rows], same_steps=self.same_steps)

    def evaluation(self, rows: Array, num_buckets: int, batch_by: str) -> Iterator[PlannedBatch]:
        """Return evaluation batches with every given row once.

        Args:
            batch_by: `video` for batches of whole videos, otherwise batches of similar length.
        """
        if batch_by == "video":
            return evaluation_videos(rows, self.videos_N, self.steps(rows), EVALUATION_BATCH)
        return evaluation_batches(
            self.buckets(rows, num_buckets, EVALUATION_BATCH), EVALUATION_BATCH
        )

    def batch(
        self,
        rows_EB: Tensor,
        weight_EB: Tensor,
        steps: tuple[int, ...],
        *,
        epoch: int = 0,
        phase: str = "",
    ) -> EnsembleBatch:
        """Gather a batch; modality m is trimmed or padded to `steps[m]` steps."""
        features, masks = [], []
        for values, offsets, lengths, length in zip(
            self._values, self._offsets, self._lengths, steps, strict=True
        ):
            index_T = torch.arange(length, device=self.device)
            mask = index_T < lengths[rows_EB].unsqueeze(-1)
            index = torch.where(mask, offsets[rows_EB].unsqueeze(-1) + index_T, len(values) - 1)
            features.append(values[index].unsqueeze(1))
            masks.append(mask.unsqueeze(1))
        present_EMB = self.present_MN[:, rows_EB].transpose(0, 1)
        teachers = None
        if self.teachers_EMNO is not None:
            member_E1 = torch.arange(len(rows_EB), device=self.device).unsqueeze(-1)
            teachers = self.teachers_EMNO.transpose(1, 2)[member_E1, rows_EB].transpose(1, 2)
        return EnsembleBatch(
            modalities=self.modalities,
            features=features,
            masks=masks,
            present_EMB=present_EMB,
            weight_EB=weight_EB,
            labels_EB=self.labels_N[rows_EB],
            index_EB=self._index_N[rows_EB],
            video_EB=self._videos_N[rows_EB],
            teachers_EMBO=teachers,
            tokens=None if self.tokens is None else self.tokens.batch(rows_EB),
            epoch=epoch,
            phase=phase,
        )
