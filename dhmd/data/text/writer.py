"""Write text features that an encoder computes. Imports neither torch nor the model.

Legend: T words, H the encoder's width, K sub-words.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from pydantic.dataclasses import dataclass

from dhmd.config.schema import CONFIG
from dhmd.data.aligned import Tokens
from dhmd.data.text.subwords import Subwords

Array = np.ndarray[Any, Any]

_BLOCK = 512  # segments that are encoded together


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class EncoderSource:
    """An encoder: `features.encoder` as written (null: the bundled one), and its sha256.

    `trained` is true if its weights are trained with the model (features.text: finetune).
    """

    digest: str
    written: str | None = None
    trained: bool = False


class WordEncoder(Protocol):
    """A text encoder; implemented by `ContextualEncoder` in dhmd/data/text/contextual.py."""

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
    """Takes the rows of segments, one modality after the other; an `AlignedWriter` is one."""

    def append(self, modality: str, values: Array, lengths: Array) -> None: ...
    def append_words(self, words: Sequence[str], intervals: Array, lengths: Array) -> None: ...


class TextWriter:
    """Passes segments on to another sink, with the encoder's vectors as text.

    Segments are encoded in blocks; text may come later than the other modalities, each keeps its
    own order. The sub-words are stored if the encoder is trained with the model.
    """

    def __init__(self, writer: SegmentSink, encoder: WordEncoder) -> None:
        self._writer, self._encoder = writer, encoder
        self._keep_tokens = encoder.source.trained
        self._passes: list[Sequence[Subwords]] = []
        self._lengths: list[int] = []
        self._kept: list[Sequence[Subwords]] = []

    def append(self, modality: str, values: Array, lengths: Array) -> None:
        """Append another modality's rows; text's own are ignored."""
        if modality != "text":
            self._writer.append(modality, values, lengths)

    def append_words(self, words: Sequence[str], intervals: Array, lengths: Array) -> None:
        """Append the words of segments, and encode them."""
        self._writer.append_words(words, intervals, lengths)
        start = 0
        for length in lengths.tolist():
            passes = self._encoder.split(
                words[start : start + length], f"a segment of {length} words"
            )
            self.append_subwords(passes, length)
            start += length

    def append_subwords(self, passes: Sequence[Subwords], length: int) -> None:
        """Encode one segment of `length` words that is given as sub-words."""
        self._passes.append(passes)
        self._lengths.append(length)
        if len(self._lengths) == _BLOCK:
            self._flush()

    def finish(self) -> Tokens | None:
        """Write the last block; return the sub-words of all segments where they are kept."""
        self._flush()
        return join_tokens(self._kept) if self._keep_tokens else None

    def _flush(self) -> None:
        rows = self._encoder.encode(self._passes, self._lengths)
        if rows:
            self._writer.append("text", np.concatenate(rows), np.array(self._lengths))
        if self._keep_tokens:
            self._kept += self._passes
        self._passes, self._lengths = [], []


def join_tokens(segments: Sequence[Sequence[Subwords]]) -> Tokens:
    """Join the sub-words of segments of one pass each (or none: a segment without words)."""
    nothing = np.zeros(0, dtype=np.int64)
    columns = {
        name: [getattr(passes[0], name) if passes else nothing for passes in segments]
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
