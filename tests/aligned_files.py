"""Write an aligned features file from arrays in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dhmd.data.aligned import Ragged, SegmentTable, aligned_writer

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class CorpusData(SegmentTable):
    """A corpus in memory with all folds; `features` and `words` are as in `Corpus`."""

    features: Mapping[str, Ragged]
    words: tuple[tuple[str, ...], ...] | None = None
    word_intervals: Ragged | None = None


def ragged(rows: Sequence[Array], dtype: Any = np.float32) -> Ragged:
    """Join arrays of shape [T, d], one per segment."""
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return Ragged(np.concatenate([np.asarray(row, dtype=dtype) for row in rows]), offsets)


def write_aligned(path: Path, data: CorpusData) -> None:
    """Write the corpus with `aligned_writer`; unknown times of words are NaN."""
    with aligned_writer(path, data.feature_names, words=data.words is not None) as writer:
        for modality in data.modalities:
            rows = data.features[modality]
            writer.append(modality, rows.values, rows.lengths)
        if data.words is not None:
            flat = [word for segment in data.words for word in segment]
            times = data.word_intervals
            writer.append_words(
                flat,
                np.full((len(flat), 2), np.nan) if times is None else times.values,
                np.array([len(segment) for segment in data.words], dtype=np.int64),
            )
        writer.finish(data)
