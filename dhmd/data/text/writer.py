"""Write the text features that an encoder computes. This module does not import torch.

Axes: ΣT words, ΣK sub-words of all segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from pydantic.dataclasses import dataclass

from dhmd.config.schema import CONFIG
from dhmd.data.aligned import Tokens
from dhmd.data.aligned.corpus import Array
from dhmd.data.text.subwords import Subwords

_BLOCK = 512  # number of segments that are encoded together


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class EncoderSource:
    """The identity of a text encoder.

    Attributes:
        digest: the sha256 of its files.
        written: the value of `features.encoder`; None for the bundled encoder.
        trained: whether its weights are trained with the model (features.text: finetune).
    """

    digest: str
    written: str | None = None
    trained: bool = False


class WordEncoder(Protocol):
    """The interface of `ContextualEncoder` (contextual.py), without importing torch."""

    @property
    def source(self) -> EncoderSource: ...
    @property
    def feature_names(self) -> tuple[str, ...]: ...
    def split(self, words: Sequence[str], where: str) -> Sequence[Subwords]: ...
    def from_tokens(
        self, ids: Array, types: Array, steps: Array, where: str
    ) -> Sequence[Subwords]: ...
    def encode(
        self, passes: Sequence[Sequence[Subwords]], lengths: Sequence[int]
    ) -> list[Array]: ...


class SegmentSink(Protocol):
    """A receiver of the rows of segments, such as `AlignedWriter` (aligned/writer.py)."""

    def append(self, modality: str, values: Array, lengths: Array) -> None: ...
    def append_words(self, words: Sequence[str], intervals: Array, lengths: Array) -> None: ...


class TextWriter:
    """A sink that replaces the features of text by the vectors of an encoder.

    It forwards everything else to another sink. Segments are encoded in blocks, so their text is
    appended later than their other modalities, but in the same order.
    """

    def __init__(self, writer: SegmentSink, encoder: WordEncoder) -> None:
        self._writer, self._encoder = writer, encoder
        self._keep_tokens = encoder.source.trained
        self._passes: list[Sequence[Subwords]] = []
        self._lengths: list[int] = []
        self._all_passes: list[Sequence[Subwords]] = []

    def append(self, modality: str, values: Array, lengths: Array) -> None:
        """Append the rows of a modality; those of text are ignored."""
        if modality != "text":
            self._writer.append(modality, values, lengths)

    def append_words(self, words: Sequence[str], intervals: Array, lengths: Array) -> None:
        """Append the words of segments, and their vectors."""
        self._writer.append_words(words, intervals, lengths)
        start = 0
        for length in lengths.tolist():
            passes = self._encoder.split(
                words[start : start + length], f"a segment of {length} words"
            )
            self.append_subwords(passes, length)
            start += length

    def append_subwords(self, passes: Sequence[Subwords], length: int) -> None:
        """Append the vectors of one segment of `length` words, from its sub-words."""
        self._passes.append(passes)
        self._lengths.append(length)
        if len(self._lengths) == _BLOCK:
            self._flush()

    def finish(self) -> Tokens | None:
        """Write the last block; return the sub-words of all segments if the encoder is trained."""
        self._flush()
        return join_tokens(self._all_passes) if self._keep_tokens else None

    def _flush(self) -> None:
        rows = self._encoder.encode(self._passes, self._lengths)
        if rows:
            self._writer.append("text", np.concatenate(rows), np.array(self._lengths))
        if self._keep_tokens:
            self._all_passes += self._passes
        self._passes, self._lengths = [], []


def join_tokens(segments: Sequence[Sequence[Subwords]]) -> Tokens:
    """Concatenate the sub-words of segments, each of one pass, or none if it has no words."""
    empty = np.zeros(0, dtype=np.int64)
    columns = {
        name: [getattr(passes[0], name) if passes else empty for passes in segments]
        for name in ("ids", "types", "steps")
    }
    ids = np.concatenate(columns["ids"])
    return Tokens(
        ids=ids,
        mask=np.ones(len(ids), dtype=bool),
        offsets=np.cumsum([0, *(len(row) for row in columns["ids"])]).astype(np.int64),
        types=np.concatenate(columns["types"]),
        steps=np.concatenate(columns["steps"]),
    )
