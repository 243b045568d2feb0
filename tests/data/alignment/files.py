"""Small corpora of computational sequences, one of them for calculation by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from dhmd.data.aligned import Corpus, read_corpus
from dhmd.data.alignment import AlignConfig, CorpusJob, align_corpus
from dhmd.data.csd import write_sequence
from dhmd.recipes import Recipe, parse_recipe

Array = np.ndarray[Any, Any]
Entries = dict[str, dict[str, tuple[Any, Any]]]  # sequence: entry id: (features, intervals)

FOLDS = {"train": ["v"], "valid": ["w"], "test": ["x"]}


def hand_entries() -> Entries:
    """Return video v, whose results are calculated by hand, and minimal videos w and x.

    v's words:     oh [0,1]  (a) [1,1]  sp [1,2]  good [2,4]  bad [5,6]
    v's segments:  0: [2,4.5]   1: [0,2]   2: [4.2,4.8]   3: [3,3]   4: [0,6]
    """
    words = ([["oh"], ["a"], ["sp"], ["good"], ["bad"]], [[0, 1], [1, 1], [1, 2], [2, 4], [5, 6]])
    vectors = (np.array([[1.0], [2], [3], [4], [5]]), words[1])
    # Half-second rows 0, 1, 2, …, none between 2 s and 3 s and none from 5 s on.
    start = np.array([0, 0.5, 1, 1.5, 3, 3.5, 4, 4.5])
    acoustic = (np.stack([start * 2, -start], axis=1), np.stack([start, start + 0.5], axis=1))
    visual = ([[7.0]], [[0.25, 2.5]])
    labels = ([[1.0], [-0.5], [0.25], [2.0], [3.0]], [[2, 4.5], [0, 2], [4.2, 4.8], [3, 3], [0, 6]])
    entries: Entries = {
        "words": {"v": words},
        "vectors": {"v": vectors},
        "acoustic": {"v": acoustic},
        "visual": {"v": visual},
        "labels": {"v": labels},
    }
    for video in ("w", "x"):
        for name, width in (("vectors", 1), ("acoustic", 2), ("visual", 1), ("labels", 1)):
            entries[name][video] = (np.ones((1, width)), [[0, 1]])
        entries["words"][video] = ([["one"]], [[0, 1]])
    return entries


def write_files(
    folder: Path, entries: Entries, names: dict[str, tuple[str, ...]] | None = None
) -> dict[str, Path]:
    """Write one `.csd` file per sequence."""
    paths = {}
    for name, videos in entries.items():
        paths[name] = folder / f"{name}.csd"
        write_sequence(
            paths[name],
            root_name=name,
            entries=[
                (video, np.asarray(features), np.asarray(intervals, dtype=np.float64))
                for video, (features, intervals) in videos.items()
            ],
            dimension_names=(names or {}).get(name),
        )
    return paths


def write_folds(folder: Path, folds: object) -> Path:
    """Write folds.json, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "folds.json"
    path.write_text(json.dumps(folds), encoding="utf-8")
    return path


def align(
    folder: Path,
    entries: Entries | None = None,
    *,
    names: dict[str, tuple[str, ...]] | None = None,
    recipe: dict[str, object] | None = None,
    config: AlignConfig | None = None,
    folds: object = None,
    alignment: Any = "word",
    paths: dict[str, Path] | None = None,
    encoder: Any = None,
) -> tuple[Corpus, dict[str, Any]]:
    """Write the files, align them, and return the corpus with test labels, and the report."""
    entries = hand_entries() if entries is None else entries
    folds_path = write_folds(folder, FOLDS if folds is None else folds)
    job = CorpusJob(
        recipe=generated_recipe(**(recipe or {})),
        paths=write_files(folder, entries, names) if paths is None else paths,
        align=config or AlignConfig(),
        alignment=alignment,
        folds_path=folds_path,
        sources={"words.csd": "00"},
        encoder=encoder,
    )
    report = align_corpus(job, folder / "aligned.h5")
    return read_corpus(folder / "aligned.h5", test_labels=True), report


SPLITS = {"train": ["tr0", "tr1", "tr2"], "valid": ["va0"], "test": ["te0", "te1"]}
VIDEOS = [video for videos in SPLITS.values() for video in videos]
WORD, WORDS, SEGMENTS = 0.3, 20, 5  # seconds, words and segments per video
RATES = {"acoustic": (20, 3), "visual": (10, 2)}  # rows per second, width


def frames(rate: int, width: int, seed: int) -> tuple[Any, Any]:
    """Return random frames of one video, and their intervals."""
    start = np.arange(0, WORDS * WORD, 1 / rate)
    rng = np.random.default_rng(seed)
    return rng.normal(size=(len(start), width)), np.stack([start, start + 1 / rate], axis=1)


def corpus_entries(videos: list[str] = VIDEOS) -> Entries:
    """Return videos of twenty words in five segments without gaps, with frames over all."""
    start = np.arange(WORDS) * WORD
    words = np.stack([start, start + WORD], axis=1)
    segments = np.stack([words[::4, 0], words[3::4, 1]], axis=1)
    entries: Entries = {name: {} for name in ("words", "vectors", "acoustic", "visual", "labels")}
    for n, video in enumerate(videos):
        entries["words"][video] = (np.array([[f"w{i}"] for i in range(WORDS)]), words)
        entries["vectors"][video] = (np.full((WORDS, 2), n + 1.0), words)
        for name, (rate, width) in RATES.items():
            entries[name][video] = frames(rate, width, n)
        entries["labels"][video] = (np.linspace(-3, 3, SEGMENTS)[:, None], segments)
    return entries


def generated_recipe(**changes: object) -> Recipe:
    """Return the recipe of these files; `changes` replace top-level keys."""
    names = ("words", "vectors", "acoustic", "visual", "labels")
    mapping: dict[str, object] = {
        "title": "random numbers",
        "format": "csd",
        "sequences": {name: {"path": f"{name}.csd"} for name in names},
        "modalities": {"text": "vectors", "audio": "acoustic", "vision": "visual"},
        "reference": "words",
        "labels": {"sequence": "labels", "low": -3.0, "high": 3.0, "tolerance": 0.1},
        "folds": {"file": "folds.json"},
    }
    return parse_recipe("random", mapping | changes)
