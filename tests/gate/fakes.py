"""Scratch repositories with `metrics/<dataset>/` as `evaluate` writes it, without any model."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dhmd.evaluation.files import (
    Identity,
    Predictions,
    build_summary,
    decimal_round_trip,
    headline_values,
    json_text,
)
from dhmd.evaluation.metrics import score
from dhmd.gate.gate import GateResult, run_gate
from dhmd.gate.render import to_json

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
    """Return predictions by seed, the same for the same seed and error."""
    labels = labels_of(task)
    predictions = {}
    for seed in seeds:
        noise = np.random.default_rng(seed).normal(0, 1, len(IDS))
        if task == "classification":
            predictions[seed] = np.where(np.abs(noise) < error, 1 - labels, labels)
        else:
            predictions[seed] = decimal_round_trip((labels + error * noise).astype(np.float32))
    return predictions


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
    old_layout: bool = False,
) -> None:
    """Write the files of metrics/<dataset>/ that the gate reads.

    With `old_layout`, there is no `details/`, and metrics.json is the whole summary.
    """
    labels = labels_of(task) if labels is None else labels
    scores = {seed: score(task, p, labels).values for seed, p in predictions.items()}
    values = np.array(list(predictions.values()))
    summary = build_summary(
        task,
        {"test": scores, "valid": scores},
        Predictions(tuple(ids), labels, tuple(predictions), values),
        None,
    )
    identity = Identity(dataset, task, corpus, fold, protocol)
    rows = [
        {"seed": seed, "split": split, **values_of_seed}
        for split in ("test", "valid")
        for seed, values_of_seed in scores.items()
    ]
    columns = {"id": ids, "label": labels} | {f"seed_{s}": p for s, p in predictions.items()}
    files = {
        "metrics.json": json_text(headline_values(task, summary)),
        "details/summary.json": json_text(summary),
        "details/identity.json": json_text(asdict(identity)),
        "details/predictions.csv": pd.DataFrame(columns).to_csv(index=False),
        "details/seeds.csv": pd.DataFrame(rows).to_csv(index=False),
    }
    if old_layout:
        files["metrics.json"] = files.pop("details/summary.json")
        files = {name.removeprefix("details/"): text for name, text in files.items()}
    folder = root / "metrics" / dataset
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")


SEEDS = (1, 2, 3, 4, 5)
SAME, WORSE = predictions_of(SEEDS), predictions_of(SEEDS, 0.9)


def gate(root: Path, **arguments: str) -> GateResult:
    """Commit everything, and compare HEAD with the commit before."""
    commit_all(root)
    result = run_gate(root, **({"base": "HEAD~1", "head": "HEAD"} | arguments))
    json.dumps(to_json(result), allow_nan=False)
    return result


def gate_predictions(
    root: Path, predictions: Mapping[int, np.ndarray], **arguments: Any
) -> GateResult:
    """Write metrics, commit them, and compare HEAD with the commit before."""
    write_metrics(root, predictions, **arguments)
    return gate(root)
