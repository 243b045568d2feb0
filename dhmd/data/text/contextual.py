"""Contextual vectors: a frozen encoder applied to utterances, in batches of equal length.

The encoder runs once over the words of every segment, when the corpus is aligned; the vectors of
the words go into the aligned features file, and later stages read them like any others. Batches of
equal length need no padding.

Legend: B passes of a batch, K sub-words, T words, H the encoder's width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dhmd.base.device import Device, torch_device
from dhmd.base.errors import DhmdError
from dhmd.data.text.config import FeaturesConfig
from dhmd.data.text.encoder import Encoder, load_encoder, pool_words
from dhmd.data.text.subwords import Subwords
from dhmd.data.text.writer import EncoderSource

Array = np.ndarray[Any, Any]

_BATCH = 64
# One thread: the result is the same to the bit on any number of cores, a batch is small, and
# several threads are much slower on a shared machine.
_THREADS = 1


class Contextual:
    """Compute for every word a vector that depends on its sentence.

    Args:
        encoder: the encoder.
        trained: whether its weights are trained with the model, so that an utterance must fit
            into one pass.
    """

    def __init__(self, encoder: Encoder, *, trained: bool = False) -> None:
        self.encoder = encoder
        self.source = EncoderSource(
            written=encoder.files.written, digest=encoder.digest, trained=trained
        )

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One name per output, which begins with the encoder's own name."""
        return self.encoder.feature_names

    def split(self, words: Sequence[str], where: str) -> list[Subwords]:
        """Split the words of an utterance into sub-words, in as many passes as needed."""
        passes = self.encoder.split(words)
        if self.source.trained and len(passes) > 1:
            raise DhmdError(
                f"{where} is longer than the {self.encoder.longest} sub-words that "
                f"{self.encoder.files.name} reads: lower align.max_steps, or set features.text to "
                "contextual"
            )
        return passes

    def given(self, ids: Array, types: Array, steps: Array, where: str) -> list[Subwords]:
        """Return the sub-words that a file contains."""
        name, known = self.encoder.files.name, int(self.encoder.model.config.vocab_size)
        if len(ids) and int(ids.max()) >= known:
            raise DhmdError(
                f"{where} has the token {int(ids.max())}, but {name} has only {known}: "
                "features.encoder must be the model whose tokenizer made the file, such as "
                "bert-base-uncased"
            )
        if len(ids) > self.encoder.longest:
            raise DhmdError(
                f"{where} has {len(ids)} tokens, but {name} reads {self.encoder.longest}"
            )
        return [Subwords(ids, types, steps)] if len(ids) else []

    def encode(self, passes: Sequence[Sequence[Subwords]], lengths: Sequence[int]) -> list[Array]:
        """Compute `[T, H]` float32 for each utterance; words without a sub-word get zeros.

        Args:
            passes: each utterance's sub-words in one or more passes.
            lengths: T of each utterance.
        """
        found = [np.zeros((steps, self.encoder.width), dtype=np.float32) for steps in lengths]
        flat = [(n, one) for n, several in enumerate(passes) for one in several]
        for chosen in _of_one_length([len(one.ids) for _, one in flat]):
            for n, one, vectors_TH in self._run([flat[i] for i in chosen], lengths):
                words = np.unique(one.steps[one.steps >= 0])
                found[n][words] = vectors_TH[words]
        return found

    @torch.no_grad()
    def _run(
        self, chosen: Sequence[tuple[int, Subwords]], lengths: Sequence[int]
    ) -> Iterator[tuple[int, Subwords, Array]]:
        device = next(self.encoder.model.parameters()).device
        ids_BK, types_BK, step_BK = (
            torch.from_numpy(np.stack([getattr(one, name) for _, one in chosen])).to(device)
            for name in ("ids", "types", "steps")
        )
        hidden_BKH = self.encoder.hidden(ids_BK, torch.ones_like(ids_BK).bool(), types_BK)
        steps = max(lengths[n] for n, _ in chosen)
        pooled_BTH = pool_words(hidden_BKH, step_BK, steps).cpu().numpy()
        for (n, one), vectors_TH in zip(chosen, pooled_BTH, strict=True):
            yield n, one, vectors_TH


class Untrained(Contextual):
    """Split words for an encoder whose weights a model folder has; compute no vectors."""

    def encode(self, passes: Sequence[Sequence[Subwords]], lengths: Sequence[int]) -> list[Array]:
        """Return zeros, which the model replaces by the vectors of its own weights."""
        return [np.zeros((steps, self.encoder.width), dtype=np.float32) for steps in lengths]


def _of_one_length(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield batches of indices of entries of one length, shortest first."""
    batch: list[int] = []
    for index in np.argsort(np.array(lengths, dtype=np.int64), kind="stable").tolist():
        if batch and (lengths[index] != lengths[batch[0]] or len(batch) == _BATCH):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def open_contextual(
    features: FeaturesConfig, root: Path, *, device: Device = "auto", threads: int | None = None
) -> Contextual:
    """Load the encoder that section `features` names.

    Args:
        features: section `features`.
        root: where relative directories count from.
        device, threads: as in section `train`; null threads: one.

    Raises:
        DhmdError: the extra is not installed, or the encoder is absent or not usable.
    """
    torch.set_num_threads(threads or _THREADS)
    encoder = load_encoder(features.encoder, root, device=torch_device(device))
    return Contextual(encoder, trained=features.text == "finetune")


def reopen_contextual(source: EncoderSource, root: Path, *, device: Device) -> Contextual:
    """Load the encoder that a corpus was aligned with.

    Raises:
        DhmdError: it is absent, or another one is in its directory.
    """
    contextual = Contextual(load_encoder(source.written, root, device=torch_device(device)))
    if contextual.source.digest != source.digest:
        raise DhmdError(
            f"{contextual.encoder.files.folder} is another encoder than the one that the model was "
            f"trained with: the sha256 over its files is {contextual.source.digest[:16]}…, and was "
            f"{source.digest[:16]}…"
        )
    return contextual
