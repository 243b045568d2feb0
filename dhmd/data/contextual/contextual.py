"""A frozen encoder run over utterances, in batches of one length: padding takes no part.

Legend: B passes of a batch, K sub-words, T words, H the encoder's width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from dhmd.base.errors import DhmdError
from dhmd.data.alignment import EncoderSource
from dhmd.data.alignment.words import Subwords as WordParts
from dhmd.data.text_encoder.loading import Encoder
from dhmd.data.text_encoder.pooling import pool_words
from dhmd.data.text_encoder.subwords import Subwords

Array = np.ndarray[Any, Any]

_BATCH = 64


class Contextual:
    """An encoder that gives every word a vector that depends on its sentence.

    Args:
        trained: its weights will be trained along with the model, so an utterance has to fit into
            one pass.
    """

    def __init__(self, encoder: Encoder, *, trained: bool = False) -> None:
        self.encoder = encoder
        self.source = EncoderSource(
            written=encoder.place.written, digest=encoder.digest, trained=trained
        )

    @property
    def feature_names(self) -> tuple[str, ...]:
        """One name an output, the encoder's own name in it."""
        return self.encoder.feature_names

    def split(self, words: Sequence[str], where: str) -> list[Subwords]:
        """The words of an utterance as sub-words, in as many passes as their number needs.

        Raises:
            DhmdError: more than one, of an encoder that is trained along.
        """
        passes = self.encoder.split(words)
        if self.source.trained and len(passes) > 1:
            raise DhmdError(
                f"{where} is longer than the {self.encoder.longest} sub-words that "
                f"{self.encoder.place.name} reads: lower align.max_steps, or set features.text to "
                "contextual"
            )
        return passes

    def given(self, ids: Array, types: Array, steps: Array, where: str) -> list[Subwords]:
        """Sub-words that a file brings along.

        Raises:
            DhmdError: they are another model's.
        """
        name, known = self.encoder.place.name, self.encoder.vocabulary
        if len(ids) and int(ids.max()) >= known:
            raise DhmdError(
                f"{where} holds the token {int(ids.max())}, but {name} knows {known}: "
                "features.encoder must be the model whose tokenizer made the file, such as "
                "bert-base-uncased"
            )
        if len(ids) > self.encoder.longest:
            raise DhmdError(
                f"{where} has {len(ids)} tokens, but {name} reads {self.encoder.longest}"
            )
        return [Subwords(ids, types, steps)] if len(ids) else []

    def encode(self, passes: Sequence[Sequence[WordParts]], lengths: Sequence[int]) -> list[Array]:
        """`[T, H]` float32 for each utterance, given its sub-words in one or more passes.

        Args:
            lengths: T of each utterance; words without a sub-word get zeros.
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
        self, chosen: Sequence[tuple[int, WordParts]], lengths: Sequence[int]
    ) -> Iterator[tuple[int, WordParts, Array]]:
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


def _of_one_length(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of entries of one length, in batches; shortest first."""
    places = np.argsort(np.array(lengths, dtype=np.int64), kind="stable").tolist()
    batch: list[int] = []
    for place in places:
        if batch and (lengths[place] != lengths[batch[0]] or len(batch) == _BATCH):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
