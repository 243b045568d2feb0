"""Text whose vectors come from an encoder that reads a segment's words, not from a sequence.

T words, H the encoder's width, K sub-words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from pydantic.dataclasses import dataclass

from dhmd.base.errors import DhmdError
from dhmd.config.schema import CONFIG
from dhmd.data.aligned import CacheWriter, Tokens
from dhmd.recipes import Recipe

Array = np.ndarray[Any, Any]

_BLOCK = 512  # segments that are encoded together


class Subwords(Protocol):
    """One pass of an encoder: ids, segment ids and the word of each, `[K]` (−1: of none)."""

    @property
    def ids(self) -> Array: ...
    @property
    def types(self) -> Array: ...
    @property
    def steps(self) -> Array: ...


class WordEncoder(Protocol):
    """What gives words their vectors (dhmd/data/contextual)."""

    @property
    def source(self) -> EncoderSource: ...
    @property
    def feature_names(self) -> tuple[str, ...]: ...
    def split(self, words: Sequence[str], where: str) -> Sequence[Subwords]: ...
    def given(self, ids: Array, types: Array, steps: Array, where: str) -> Sequence[Subwords]: ...
    def encode(
        self, passes: Sequence[Sequence[Subwords]], lengths: Sequence[int]
    ) -> list[Array]: ...


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class EncoderSource:
    """Which encoder it is: `features.encoder` as written (null: the bundled one), and its sha256.

    `trained` is true where its weights are trained along with the model (features.text: finetune).
    """

    written: str | None
    digest: str
    trained: bool = False


def reading_words(recipe: Recipe) -> Recipe:
    """The recipe with its words in the place of its word vectors, which are then not needed.

    Raises:
        DhmdError: it has no text.
    """
    if "text" not in recipe.modalities:
        raise DhmdError(
            f"features.text asks for an encoder's vectors, but {recipe.source} has no text: set "
            "it to words"
        )
    return replace(recipe, modalities={**recipe.modalities, "text": str(recipe.reference)})


class TextSink:
    """Stands before the cache's writer and puts the encoder's vectors where text belongs.

    Segments are encoded in blocks; text may come later than the others, each keeps its own order.

    The sub-words of an encoder that is trained along are kept: training reads them.
    """

    def __init__(self, writer: CacheWriter, encoder: WordEncoder) -> None:
        self._writer, self._encoder = writer, encoder
        self._keep_tokens = encoder.source.trained
        self._passes: list[Sequence[Subwords]] = []
        self._lengths: list[int] = []
        self._kept: list[Sequence[Subwords]] = []

    def append(self, modality: str, values: Array, lengths: Array) -> None:
        """Pass on another modality's rows; text's own are not wanted."""
        if modality != "text":
            self._writer.append(modality, values, lengths)

    def append_words(self, words: Sequence[str], intervals: Array, lengths: Array) -> None:
        """Pass on the words of segments, and encode them."""
        self._writer.append_words(words, intervals, lengths)
        start = 0
        for length in lengths.tolist():
            passes = self._encoder.split(
                words[start : start + length], f"a segment of {length} words"
            )
            self.append_subwords(passes, length)
            start += length

    def append_subwords(self, passes: Sequence[Subwords], length: int) -> None:
        """Encode one segment of `length` words that are sub-words already."""
        self._passes.append(passes)
        self._lengths.append(length)
        if len(self._lengths) == _BLOCK:
            self._flush()

    def finish(self) -> Tokens | None:
        """Write what is left; the sub-words of all segments where they are kept."""
        self._flush()
        return tokens_of(self._kept) if self._keep_tokens else None

    def _flush(self) -> None:
        rows = self._encoder.encode(self._passes, self._lengths)
        if rows:
            self._writer.append("text", np.concatenate(rows), np.array(self._lengths))
        if self._keep_tokens:
            self._kept += self._passes
        self._passes, self._lengths = [], []


def tokens_of(segments: Sequence[Sequence[Subwords]]) -> Tokens:
    """The sub-words of segments, of one pass each (or none: a segment without words)."""
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
