"""Scratch repositories whose metrics folders are what `evaluate` writes, without any model."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dhmd.evaluation.files import (
    Predictions,
    as_written,
    json_text,
    predictions_text,
    seeds_text,
    truth_text,
)
from dhmd.evaluation.identity import Identity
from dhmd.evaluation.metrics import score
from dhmd.evaluation.summary import against_truth, metrics_summary

IDS = tuple(f"v{n // 5:02d}[{n % 5}]" for n in range(100))
PARAMS = """\
datasets:
{datasets}
gate:
  metrics:
    - mae
    - corr
    - f1
  margins:
    mae: {mae}
    corr: 0.03
    f1: 0.05
  datasets: {{}}
  accept:{accept}
  resamples: 200
"""


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def new_repository(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    git(root, "init", "-q", "-b", "main")
    git(root, "config", "user.email", "test@example.org")
    git(root, "config", "user.name", "Test")
    git(root, "config", "commit.gpgsign", "false")


def commit_all(root: Path, message: str = "x") -> str:
    git(root, "add", "-A")
    git(root, "commit", "-q", "--allow-empty", "-m", message)
    return git(root, "rev-parse", "HEAD")


def write_params(
    root: Path,
    *,
    datasets: Sequence[str] = ("demo",),
    mae: float = 0.03,
    accept: Sequence[Mapping[str, str]] = (),
) -> None:
    entries = "".join(
        f'\n    - dataset: {e["dataset"]}\n      from: "{e["from"]}"\n      to: "{e["to"]}"\n'
        f"      reason: {e.get('reason', 'meant')}"
        for e in accept
    )
    names = "\n".join(f"  - {name}" for name in datasets)
    text = PARAMS.format(datasets=names, mae=mae, accept=entries or " []")
    (root / "params.yaml").write_text(text, encoding="utf-8")


def labels_of(task: str = "regression") -> np.ndarray:
    rng = np.random.default_rng(5)
    values = np.clip(np.round(rng.normal(0, 1.5, len(IDS)), 1), -3, 3)
    return (values > 0).astype(float) if task == "classification" else values


def predictions_of(
    seeds: Sequence[int], error: float = 0.6, task: str = "regression"
) -> dict[int, np.ndarray]:
    """The same predictions for the same seed and error."""
    labels = labels_of(task)
    found = {}
    for seed in seeds:
        noise = np.random.default_rng(seed).normal(0, 1, len(IDS))
        if task == "classification":
            found[seed] = np.where(np.abs(noise) < error, 1 - labels, labels)
        else:
            found[seed] = as_written((labels + error * noise).astype(np.float32))
    return found


def write_metrics(
    root: Path,
    predictions: Mapping[int, np.ndarray],
    *,
    dataset: str = "demo",
    task: str = "regression",
    corpus: str = "c" * 64,
    fold: str = "0",
    protocol: str = "1",
    labels: np.ndarray | None = None,
    ids: Sequence[str] = IDS,
    truth: bool = True,
) -> Path:
    """metrics/<dataset>/ as `evaluate` writes it (the files that the gate reads)."""
    folder = root / "metrics" / dataset
    folder.mkdir(parents=True, exist_ok=True)
    labels = labels_of(task) if labels is None else labels
    scores = {seed: score(task, p, labels) for seed, p in predictions.items()}
    values = {seed: found.values for seed, found in scores.items()}
    planted: tuple[Any, Any] = (None, None)
    text = truth_text((), np.zeros(0))
    if truth and task == "regression":
        true_labels = np.round(labels * 0.9, 3)
        planted = against_truth(task, predictions, labels, true_labels)
        text = truth_text(ids, true_labels)
    seeds = tuple(predictions)
    files = {
        "identity.json": json_text(
            Identity(
                dataset=dataset, task=task, corpus=corpus, fold=fold, protocol=protocol
            ).mapping()
        ),
        "predictions.csv": predictions_text(
            Predictions(tuple(ids), labels, seeds, np.array([predictions[s] for s in seeds])), task
        ),
        "seeds.csv": seeds_text({"test": scores, "valid": scores}, task),
        "metrics.json": json_text(
            metrics_summary(task, {"test": values, "valid": values}, *planted)
        ),
        "truth.csv": text,
    }
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder
