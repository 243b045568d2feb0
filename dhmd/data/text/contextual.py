"""Compute contextual word vectors with a frozen encoder.

The align stage applies the encoder once to the words of each segment, and writes the vectors to the
aligned features file like any other features. The utterances of a batch have the same number of
sub-words, so they need no padding.

Axes: B passes of a batch, K sub-words, T words, H the encoder's width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from dhmd.base.device import Device, torch_device
from dhmd.base.errors import DhmdError
from dhmd.data.aligned.corpus import Array
from dhmd.data.text.config import FeaturesConfig
from dhmd.data.text.encoder import TextEncoder, load_encoder, pool_words
from dhmd.data.text.subwords import Subwords
from dhmd.data.text.writer import EncoderSource

_BATCH = 64
# With one thread, the result is bit for bit the same on any number of cores. Batches are small, so
# that more threads are hardly faster, and much slower on a shared machine.
_THREADS = 1


class ContextualEncoder:
    """A `WordEncoder` that computes contextual word vectors.

    Args:
        encoder: the text encoder.
        trained: whether its weights are trained with the model, so that each utterance must fit
            into one pass.
    """

    def __init__(self, encoder: TextEncoder, *, trained: bool = False) -> None:
        self.encoder = encoder
        self.source = EncoderSource(
            written=encoder.files.name_or_path, digest=encoder.digest, trained=trained
        )

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One name per output, `<encoder>_<i>`."""
        return self.encoder.feature_names

    def split(self, words: Sequence[str], where: str) -> list[Subwords]:
        """Split the words of an utterance into sub-words, in as many passes as necessary.

        Raises:
            DhmdError: the encoder is trained, and one pass is not enough; the message begins with
                `where`.
        """
        passes = self.encoder.split(words)
        if self.source.trained and len(passes) > 1:
            raise DhmdError(
                f"{where} is longer than the {self.encoder.max_length} sub-words that "
                f"{self.encoder.files.name} reads: lower align.max_steps, or set features.text to "
                "contextual"
            )
        return passes

    def from_tokens(self, ids: Array, types: Array, steps: Array, where: str) -> list[Subwords]:
        """Return the sub-words for the tokens of a file.

        Raises:
            DhmdError: the encoder does not have a token, or they do not fit into one pass.
        """
        name, size = self.encoder.files.name, int(self.encoder.model.config.vocab_size)
        if len(ids) and int(ids.max()) >= size:
            raise DhmdError(
                f"{where} has the token {int(ids.max())}, but {name} has only {size} tokens: "
                "features.encoder must be the model whose tokenizer made the file, such as "
                "bert-base-uncased"
            )
        if len(ids) > self.encoder.max_length:
            raise DhmdError(
                f"{where} has {len(ids)} tokens, but {name} reads {self.encoder.max_length}: "
                "choose another features.encoder, or set features.text to words"
            )
        return [Subwords(ids, types, steps)] if len(ids) else []

    def encode(self, passes: Sequence[Sequence[Subwords]], lengths: Sequence[int]) -> list[Array]:
        """Compute the word vectors of utterances.

        Args:
            passes: the sub-words of each utterance in one or more passes.
            lengths: T of each utterance.

        Returns:
            For each utterance float32 `[T, H]`, zeros for words without sub-words.
        """
        vectors = [np.zeros((steps, self.encoder.width), dtype=np.float32) for steps in lengths]
        flat = [(n, subwords) for n, utterance in enumerate(passes) for subwords in utterance]
        for batch in _batches_of_equal_length([len(subwords.ids) for _, subwords in flat]):
            for n, subwords, vectors_TH in self._encode_batch([flat[i] for i in batch], lengths):
                words = np.unique(subwords.steps[subwords.steps >= 0])
                vectors[n][words] = vectors_TH[words]
        return vectors

    @torch.no_grad()
    def _encode_batch(
        self, batch: Sequence[tuple[int, Subwords]], lengths: Sequence[int]
    ) -> Iterator[tuple[int, Subwords, Array]]:
        """Yield the utterance, the sub-words and the word vectors `[T, H]` of each pass."""
        device = next(self.encoder.model.parameters()).device
        ids_BK, types_BK, step_BK = (
            torch.from_numpy(np.stack([getattr(subwords, name) for _, subwords in batch])).to(
                device
            )
            for name in ("ids", "types", "steps")
        )
        hidden_BKH = self.encoder.hidden(ids_BK, torch.ones_like(ids_BK).bool(), types_BK)
        steps = max(lengths[n] for n, _ in batch)
        pooled_BTH = pool_words(hidden_BKH, step_BK, steps).cpu().numpy()
        for (n, subwords), vectors_TH in zip(batch, pooled_BTH, strict=True):
            yield n, subwords, vectors_TH


class PlaceholderEncoder(ContextualEncoder):
    """An encoder that only splits words, because a model has its fine-tuned weights."""

    def encode(self, passes: Sequence[Sequence[Subwords]], lengths: Sequence[int]) -> list[Array]:
        """Return zeros, which the model replaces by the vectors of its fine-tuned encoder."""
        return [np.zeros((steps, self.encoder.width), dtype=np.float32) for steps in lengths]


def _batches_of_equal_length(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield batches of indices of equal length, shortest first."""
    batch: list[int] = []
    for index in np.argsort(np.array(lengths, dtype=np.int64), kind="stable").tolist():
        if batch and (lengths[index] != lengths[batch[0]] or len(batch) == _BATCH):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def load_contextual(
    features: FeaturesConfig, root: Path, *, device: Device = "auto", threads: int | None = None
) -> ContextualEncoder:
    """Load the encoder of section `features`.

    Args:
        features: section `features`.
        root: the folder to which a relative path refers.
        device: the device.
        threads: the number of CPU threads; None means one.

    Raises:
        DhmdError: the extra `text` is not installed, or the encoder is absent or not supported.
    """
    torch.set_num_threads(threads or _THREADS)
    encoder = load_encoder(features.encoder, root, device=torch_device(device))
    return ContextualEncoder(encoder, trained=features.text == "finetune")


def reload_contextual(source: EncoderSource, root: Path, *, device: Device) -> ContextualEncoder:
    """Load the encoder that a corpus was aligned with.

    Raises:
        DhmdError: the encoder is absent, or its files have changed.
    """
    contextual = ContextualEncoder(load_encoder(source.written, root, device=torch_device(device)))
    if contextual.source.digest != source.digest:
        raise DhmdError(
            f"{contextual.encoder.files.folder} is not the encoder that the model was trained with:"
            f" the sha256 of its files is {contextual.source.digest[:16]}…, but was "
            f"{source.digest[:16]}…; restore the files"
        )
    return contextual
