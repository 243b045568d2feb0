"""Corpora of random numbers in any size, to time and test the alignment.

They have the irregularities of real files: pauses, zero-length words, words in two segments or in
none, gaps in the visual rows, segments in no order, ids that are prefixes of others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dhmd.data.csd import write_sequence
from dhmd.recipes import Recipe, parse_recipe

Array = np.ndarray[Any, Any]

VOCABULARY = np.array(["sp", "oh", "well", "this", "café", "good", "bad", "movie"], dtype=object)


@dataclass(frozen=True, kw_only=True)
class Size:
    """Size of a generated corpus; the defaults are CMU-MOSEI's rates and widths."""

    num_videos: int
    seconds: float = 63.0  # per video; 3,228 videos have COVAREP's 12 GB
    words_per_second: float = 2.5
    text_width: int = 300
    audio_width: int = 74
    audio_rate: float = 100.0
    vision_width: int = 35
    vision_rate: float = 30.0
    segment_seconds: float = 8.0


@dataclass(frozen=True)
class GeneratedCorpus:
    """The files of a generated corpus."""

    recipe: Recipe
    paths: dict[str, Path]
    folds: Path


def write_corpus(folder: Path, size: Size, *, seed: int = 0) -> GeneratedCorpus:
    """Write all files of a corpus; the memory that this takes does not depend on the size."""
    folder.mkdir(parents=True, exist_ok=True)
    # 1, 10, 100, …: every id is a prefix of others.
    videos = [f"video{i}" for i in range(size.num_videos)]
    block = np.random.default_rng([seed, 1]).normal(size=1 << 20)

    def noise(rng: np.random.Generator, rows: int, width: int) -> Array:
        # Slices of one block of random numbers, since drawing 12 GB of them would be slow.
        flat = np.resize(np.roll(block, int(rng.integers(len(block)))), rows * width)
        return flat.reshape(rows, width)

    def entries(name: str) -> Iterator[tuple[str, Array, Array]]:
        for i, video in enumerate(videos):
            words = _words(np.random.default_rng([seed, 2, i]), size)
            rng = np.random.default_rng([seed, 3, i])
            if name == "words":
                yield video, VOCABULARY[rng.integers(len(VOCABULARY), size=(len(words), 1))], words
            elif name == "vectors":
                yield video, noise(rng, len(words), size.text_width).astype(np.float32), words
            elif name == "labels":
                segments = _segments(rng, size)
                yield video, rng.uniform(-3, 3, (len(segments), 1)).astype(np.float32), segments
            else:
                rate, width = (
                    (size.audio_rate, size.audio_width)
                    if name == "acoustic"
                    else (size.vision_rate, size.vision_width)
                )
                rows = np.arange(max(1, int(size.seconds * rate)))
                if name == "visual":  # the face is out of the picture for a while
                    gone = rng.uniform(0, size.seconds)
                    rows = rows[(rows / rate < gone) | (rows / rate > gone + size.seconds / 8)]
                intervals = np.stack([rows / rate, (rows + 1) / rate], axis=1)
                yield video, noise(rng, len(rows), width), intervals

    paths = {}
    for name in ("words", "vectors", "acoustic", "visual", "labels"):
        paths[name] = folder / f"{name}.csd"
        write_sequence(paths[name], root_name=name, entries=entries(name), metadata=None)
    third = max(1, size.num_videos // 3)
    folds = folder / "folds.json"
    splits = {"train": videos[: -2 * third], "valid": videos[-2 * third : -third]}
    folds.write_text(json.dumps({**splits, "test": videos[-third:]}), encoding="utf-8")
    return GeneratedCorpus(recipe=generated_recipe(), paths=paths, folds=folds)


def generated_recipe(**changes: object) -> Recipe:
    """Return the dataset config of these files; `changes` replace whole keys."""
    mapping: dict[str, object] = {
        "title": "random numbers",
        "format": "csd",
        "sequences": {
            name: {"path": f"{name}.csd"}
            for name in ("words", "vectors", "acoustic", "visual", "labels")
        },
        "modalities": {"text": "vectors", "audio": "acoustic", "vision": "visual"},
        "reference": "words",
        "labels": {"sequence": "labels", "low": -3.0, "high": 3.0, "tolerance": 0.1},
        "folds": {"file": "folds.json"},
    }
    return parse_recipe("random", {**mapping, **changes})


def _words(rng: np.random.Generator, size: Size) -> Array:
    """Draw intervals of consecutive words over the whole video, one in twenty of no length."""
    count = max(1, int(size.seconds * size.words_per_second))
    length = rng.gamma(2.0, 1.0, count) * (rng.uniform(size=count) > 0.05)
    edge = np.concatenate([np.zeros(1), np.cumsum(length)])
    edge *= size.seconds / max(edge[-1], 1e-9)
    return np.stack([edge[:-1], edge[1:]], axis=1)


def _segments(rng: np.random.Generator, size: Size) -> Array:
    """Draw intervals of segments, with pauses and overlaps, in no order, as CMU's files have."""
    count = max(1, int(size.seconds / size.segment_seconds))
    edge = np.linspace(0, size.seconds, count + 1)
    start = edge[:-1] + rng.uniform(-0.1, 0.1, count) * size.segment_seconds
    end = edge[1:] + rng.uniform(-0.1, 0.1, count) * size.segment_seconds
    return rng.permutation(np.stack([np.maximum(start, 0), end], axis=1).astype(np.float32))
