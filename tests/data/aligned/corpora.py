"""A small corpus in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from dhmd.data.aligned import Tokens
from tests.aligned_files import CorpusData, ragged

SPLITS_OF_VIDEOS = ("train", "train", "train", "valid", "test", "test")


def tokens(count: int, offsets: Sequence[int]) -> Tokens:
    """Return `count` tokens; every third is masked."""
    ids = np.arange(count)
    return Tokens(
        ids=ids,
        mask=ids % 3 > 0,
        offsets=np.array(offsets),
        types=ids % 2,
        steps=ids % 5 - 1,
    )


def small_corpus(**changes: Any) -> CorpusData:
    """Return six videos of two segments, with aligned text and audio; the first has no audio."""
    rng = np.random.default_rng(7)
    videos = tuple(f"v{i // 2}" for i in range(12))
    lengths = [3, 0, 1, 4, 2, 2, 5, 1, 1, 3, 2, 1]
    present = np.ones((12, 2), dtype=bool)
    present[0, 1] = False
    present[1] = False
    data = CorpusData(
        name="small",
        task="regression",
        low=-3.0,
        high=3.0,
        alignment="word",
        ids=tuple(f"{video}[{i % 2}]" for i, video in enumerate(videos)),
        videos=videos,
        modalities=("text", "audio"),
        feature_names={"text": ("a", "b", "c"), "audio": ("f0", "energy")},
        features={
            "text": ragged([rng.normal(5, 2, (n, 3)) for n in lengths]),
            "audio": ragged([rng.normal(size=(n, 2)) for n in lengths]),
        },
        present_NM=present,
        labels_N=rng.uniform(-3, 3, 12).astype(np.float32),
        folds={"standard": np.repeat(SPLITS_OF_VIDEOS, 2)},
        words=tuple(tuple(f"wörd{t}" for t in range(n)) for n in lengths),
        word_intervals=ragged(
            [np.stack([np.arange(n), np.arange(n) + 0.5], axis=1) for n in lengths], np.float64
        ),
        planted={"reliability/audio": np.linspace(0, 1, 12), "truth": rng.normal(size=12)},
        tokens=tokens(24, range(0, 25, 2)),
        recipe={"modalities": {"text": "glove"}},
        sources={"words.csd": "ab" * 32},
        report={"dropped": ["v0[2]"], "epsilon": 1e-5},
    )
    return dataclasses.replace(data, **changes)
