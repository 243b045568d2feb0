"""Tiny generated corpora, and models trained on them with the functions of the pipeline."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np

from dhmd.data.alignment import AlignConfig, CorpusJob, align_corpus
from dhmd.data.csd import open_sequence, write_sequence
from dhmd.data.synthetic import GeneratorConfig, generate
from dhmd.models.config import DecoupleConfig, DictionaryConfig, DistillationConfig, ModelConfig
from dhmd.recipes import Recipe, parse_recipe
from dhmd.training.compute import ComputeConfig
from dhmd.training.config import PretrainConfig, TrainConfig
from dhmd.training.configuration import Configuration
from dhmd.training.jobs import pretrain_job, train_job
from dhmd.training.observer import Observer

Array = np.ndarray[Any, Any]

SEEDS = (4, 7)
CLASSES = ("against", "neutral", "for")


@dataclass(frozen=True)
class Pipeline:
    """Raw files, and the model directory that the pipeline trained on them."""

    raw: Path
    model: Path

    def inputs(self, folder: Path, *names: str) -> Path:
        """Create a folder with copies of unlabelled files, by default of all."""
        folder.mkdir(parents=True)
        for name in names or ("words", "vectors", "acoustic", "visual"):
            shutil.copy(self.raw / f"{name}.csd", folder)
        return folder

    def outputs(self, name: str = "prediction") -> dict[str, Array]:
        """Return a dict that maps each segment id to its predictions [S, …] of the train stage."""
        values = self._dataset(name)
        return dict(zip(self._ids(), values.swapaxes(0, 1), strict=True))

    def codes(self, space: str) -> dict[str, Array]:
        """Return a dict that maps each segment id to its first seed's code activations [M, K]."""
        return dict(zip(self._ids(), self._dataset(f"codes/{space}"), strict=True))

    def _ids(self) -> list[str]:
        with h5py.File(self.model / "outputs.h5") as file:
            return [str(name) for name in file["ids"].asstr()[()]]

    def _dataset(self, name: str) -> Array:
        with h5py.File(self.model / "outputs.h5") as file:
            values: Array = file[name][()]
            return values


def recipe(task: str, **changes: object) -> Recipe:
    """Write a recipe of a generated corpus whose files have other names at their source."""
    labels: dict[str, object] = {"sequence": "labels", "low": -3.0, "high": 3.0, "tolerance": 0.1}
    if task == "classification":
        labels = {"sequence": "labels", "task": task, "classes": list(CLASSES)}
    names = ("words", "vectors", "acoustic", "visual", "labels")
    mapping: dict[str, object] = {
        "title": "tiny",
        "format": "csd",
        "sequences": {name: {"path": f"Tiny/features/Tiny_{name}.csd"} for name in names},
        "modalities": {"text": "vectors", "audio": "acoustic", "vision": "visual"},
        "reference": "words",
        "labels": labels,
        "folds": {"file": "folds.json"},
    }
    return parse_recipe("tiny", {**mapping, **changes})


def run_pipeline(
    folder: Path,
    *,
    task: Literal["regression", "classification"] = "regression",
    alignment: Literal["word", "none"] = "word",
    modalities: tuple[str, ...] = ("text", "audio", "vision"),
    epochs: int = 2,
) -> Pipeline:
    """Generate and align a corpus, then pretrain and train a model."""
    raw = folder / "raw"
    generate(GeneratorConfig(seed=3, n_train=40, n_valid=14, n_test=14), raw)
    if task == "classification":
        _as_classes(raw / "labels.csd")
    read = recipe(task)
    job = CorpusJob(
        recipe=read,
        paths={name: raw / f"{name}.csd" for name in read.required_sequences},
        align=AlignConfig(drop_words=("sp",), max_steps=9),
        alignment=alignment,
        folds_path=raw / "folds.json",
    )
    align_corpus(job, folder / "aligned.h5")
    configuration = Configuration(
        modalities=modalities,
        model=ModelConfig(width=8, heads=2, layers=1),
        decouple=DecoupleConfig(),
        kd=DistillationConfig(dictionary=DictionaryConfig(codes=8)),
        pretrain=PretrainConfig(folds=2, epochs=1),
        train=TrainConfig(seeds=SEEDS, epochs=epochs),
        compute=ComputeConfig(threads=1, device="cpu"),
    )
    common: dict[str, Any] = {
        "fold": None,
        "observer": Observer(),
        "store": folder / "trainings",
    }
    pretrain_job(configuration, folder / "aligned.h5", folder / "pretrained", **common)
    train_job(
        configuration, folder / "aligned.h5", folder / "pretrained", folder / "model", **common
    )
    return Pipeline(raw=raw, model=folder / "model")


def _as_classes(path: Path) -> None:
    """Replace labels below -1, from -1 to 1, and above 1 by the classes 0, 1 and 2."""
    entries = []
    with open_sequence(path) as labels:
        for video in labels.ids:
            entry = labels.read(video)
            classes = np.digitize(entry.features[:, :1], [-1.0, 1.0]).astype(np.float32)
            entries.append((video, classes, entry.intervals))
    write_sequence(path, root_name="labels", entries=entries, metadata=None)


def change(
    path: Path,
    alter: Any = lambda _, features, intervals: (features, intervals),
    *,
    names: Any = lambda columns: columns,
    metadata: Any = None,
) -> None:
    """Rewrite a `.csd` file; `alter(id, features, intervals)` returns both, or None to drop it."""
    entries = []
    with open_sequence(path) as sequence:
        columns = names(sequence.dimension_names)
        for video in sequence.ids:
            entry = sequence.read(video)
            altered = alter(video, entry.features, entry.intervals)
            if altered is not None:
                entries.append((video, *altered))
    write_sequence(path, root_name="x", entries=entries, metadata=metadata, dimension_names=columns)
