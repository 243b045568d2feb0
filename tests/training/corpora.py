"""Tiny corpora that can be learned, and configurations that train within seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dhmd.data.aligned import Corpus, read_corpus
from dhmd.models.config import (
    DecoupleConfig,
    DictionaryConfig,
    DistillationConfig,
    DropoutConfig,
    GraphConfig,
    ModelConfig,
)
from dhmd.training.compute import ComputeConfig
from dhmd.training.config import PretrainConfig, TrainConfig
from dhmd.training.configuration import Configuration, overlay
from tests.aligned_files import CorpusData, ragged, write_aligned

WIDTHS = {"text": 4, "audio": 3, "vision": 5}
SPLITS = ("train",) * 6 + ("valid",) * 2 + ("test",) * 2
SEGMENTS = 4


def tiny_data(
    task: str = "regression", alignment: str = "word", *, absent: bool = True, **changes: Any
) -> CorpusData:
    """Build ten videos of four segments; the first feature of a modality depends on the label."""
    rng = np.random.default_rng(3)
    videos = tuple(f"v{index // SEGMENTS}" for index in range(len(SPLITS) * SEGMENTS))
    count = len(videos)
    class_names = ("low", "middle", "high") if task == "classification" else ()
    truth = rng.uniform(-2.5, 2.5, count)
    labels = np.digitize(truth, (-0.8, 0.8)) if class_names else truth
    present = np.ones((count, 3), dtype=bool)
    if absent:
        present[rng.random((count, 3)) < 0.15] = False
        present[~present.any(1), 0] = True
    words = rng.integers(1, 8, count)
    features, names = {}, {}
    for index, (name, width) in enumerate(WIDTHS.items()):
        lengths = words if alignment == "word" else rng.integers(1, 6 + 2 * index, count)
        # Word-aligned modalities have a step per word even if absent; unaligned ones have no steps.
        lengths = lengths if alignment == "word" else lengths * present[:, index]
        rows = [rng.normal(1, 2, (n, width)) for n in lengths]
        for row, value, here in zip(rows, truth, present[:, index], strict=True):
            row[:, 0] += (1 + index) * value
            row *= here
        features[name] = ragged(rows)
        names[name] = tuple(f"{name}{k}" for k in range(width))
    data = CorpusData(
        name="tiny",
        task=task,
        low=-3.0 if not class_names else 0.0,
        high=3.0 if not class_names else 2.0,
        alignment=alignment,
        ids=tuple(f"{video}[{index % SEGMENTS}]" for index, video in enumerate(videos)),
        videos=videos,
        modalities=tuple(WIDTHS),
        class_names=class_names,
        feature_names=names,
        features=features,
        present_NM=present,
        labels_N=labels.astype(np.float32),
        folds={"standard": np.repeat(SPLITS, SEGMENTS)},
        recipe={"title": "tiny"},
        sources={},
        report={},
    )
    return replace(data, **changes)


def tiny_aligned(
    path: Path, task: str = "regression", alignment: str = "word", **more: Any
) -> Path:
    """Write the aligned features file of `tiny_data` and return its path."""
    write_aligned(path, tiny_data(task, alignment, **more))
    return path


def tiny_corpus(path: Path, task: str = "regression", alignment: str = "word") -> Corpus:
    return read_corpus(tiny_aligned(path, task, alignment))


TINY = Configuration(
    modalities=tuple(WIDTHS),
    model=ModelConfig(
        width=8,
        heads=2,
        layers=1,
        kernels={"text": 3, "audio": 1, "vision": 3},
        dropout=DropoutConfig(
            attention={"text": 0.1, "audio": 0.2, "vision": 0.0},
            layer=0.1,
            embedding=0.1,
            input={"text": 0.1},
            output=0.2,
        ),
    ),
    decouple=DecoupleConfig(),
    kd=DistillationConfig(
        graph=GraphConfig(hidden=6), dictionary=DictionaryConfig(codes=12, scale=4.0)
    ),
    pretrain=PretrainConfig(folds=3, epochs=2, lr=0.01),
    train=TrainConfig(
        seeds=(1, 2), epochs=3, batch_size=8, lr=0.01, modality_dropout=0.2, average=0.5, buckets=2
    ),
    compute=ComputeConfig(threads=1, device="cpu"),
)


def tiny_configuration(
    changes: Mapping[str, Any] | None = None, **attributes: Any
) -> Configuration:
    """Return TINY with changes of keys of params.yaml and of attributes."""
    return replace(overlay(TINY, changes or {}), **attributes)


def flat(value: dict[str, Any]) -> dict[str, Any]:
    """Flatten nested mappings to dotted keys."""
    flattened: dict[str, Any] = pd.json_normalize(value).to_dict("records")[0]
    return flattened
