"""Scores of trivial baselines: `python -m tests.data.synthetic.trivial_baselines --seed 0`.

Median label, ridge regression on pooled features, and the oracle. They show whether a corpus is
worth training on, without any model of this project: the generator was tuned on them alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dhmd.data.csd import open_sequence
from dhmd.data.synthetic import GeneratorConfig, generate, oracle_mae
from dhmd.data.synthetic.corpus import FOLDS
from dhmd.data.synthetic.latents import HIGH, LOW, SPLITS

Floats = NDArray[np.float64]

FEATURES = {"text": "vectors", "audio": "acoustic", "vision": "visual"}
_PENALTIES = tuple(float(10**power) for power in np.arange(-1, 5.5, 0.5))


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """One row per utterance: mean features per modality (zeros where missing), label, truth."""

    features: dict[str, Floats]
    labels_N: Floats
    planted: dict[str, Floats]
    split_N: NDArray[np.str_]


def pool(folder: Path) -> Pooled:
    """Read a synthetic corpus and average every modality over each label segment.

    Pauses and values that are not finite are left out. A row counts if its middle is in the
    segment.
    """
    folds = json.loads((folder / FOLDS).read_text(encoding="utf-8"))
    labels, planted, splits = [], [], []
    features: dict[str, list[Floats]] = {name: [] for name in FEATURES}
    with (
        open_sequence(folder / "labels.csd") as label_file,
        open_sequence(folder / "planted.csd") as planted_file,
    ):
        names = planted_file.dimension_names
        for split in SPLITS:
            for video in folds[split]:
                entry = label_file.read(video)
                labels.append(entry.features[:, 0])
                planted.append(planted_file.read(video).features)
                splits += [split] * len(entry.features)
        for name, sequence in FEATURES.items():
            with open_sequence(folder / f"{sequence}.csd") as file:
                for split in SPLITS:
                    for video in folds[split]:
                        rows = file.read(video)
                        segments = label_file.read(video).intervals
                        features[name] += _means(rows.features, rows.intervals, segments)
    assert names is not None
    columns = np.concatenate(planted).astype(np.float64)
    return Pooled(
        features={name: np.stack(rows) for name, rows in features.items()},
        labels_N=np.concatenate(labels).astype(np.float64),
        planted={name: columns[:, index] for index, name in enumerate(names)},
        split_N=np.array(splits),
    )


def _means(features: NDArray[np.floating], intervals: Floats, segments: Floats) -> list[Floats]:
    values = features.astype(np.float64)
    finite = np.isfinite(values)
    # A pause has a zero vector, a frame never has.
    spoken = (values != 0).any(axis=1)
    middle = intervals.mean(axis=1)
    means = []
    for start, end in segments:
        inside = (middle >= start) & (middle < end) & spoken
        total = np.where(finite, values, 0.0)[inside].sum(axis=0)
        means.append(total / np.maximum(finite[inside].sum(axis=0), 1))
    return means


def ridge(x_ND: Floats, y_N: Floats, split_N: NDArray[np.str_]) -> Floats:
    """Predict [N] by a ridge regression fitted on train, its penalty chosen by MAE on valid."""
    train, valid = split_N == "train", split_N == "valid"
    mean, std = x_ND[train].mean(axis=0), x_ND[train].std(axis=0)
    x_ND = (x_ND - mean) / np.where(std > 0, std, 1.0)
    base = y_N[train].mean()
    gram, moment = x_ND[train].T @ x_ND[train], x_ND[train].T @ (y_N[train] - base)
    tried: list[tuple[float, float, Floats]] = []
    for penalty in _PENALTIES:
        weights = np.linalg.solve(gram + penalty * np.eye(len(gram)), moment)
        prediction = x_ND @ weights + base
        tried.append((float(np.abs(prediction - y_N)[valid].mean()), penalty, prediction))
    return min(tried, key=lambda item: item[:2])[2]


def scores_of(pooled: Pooled) -> dict[str, dict[str, float]]:
    """Return MAE to label and truth, and correlation with the label, on the test split.

    The median is constant and has no correlation.
    """
    labels, truth = pooled.labels_N, pooled.planted["truth"]
    test = pooled.split_N == "test"
    inputs: dict[str, tuple[str, ...]] = {name: (name,) for name in FEATURES}
    inputs["all"] = tuple(FEATURES)
    median = float(np.median(labels[pooled.split_N == "train"]))
    predictions = {"median": np.full_like(labels, median)}
    for name, parts in inputs.items():
        x = np.concatenate([pooled.features[part] for part in parts], axis=1)
        predictions[f"ridge {name}"] = np.clip(ridge(x, labels, pooled.split_N), LOW, HIGH)
    scores: dict[str, dict[str, float]] = {}
    for name, prediction in predictions.items():
        scores[name] = {
            "mae": float(np.abs(prediction - labels)[test].mean()),
            "mae_truth": float(np.abs(prediction - truth)[test].mean()),
        }
        if np.ptp(prediction[test]) > 0:
            scores[name]["corr"] = float(np.corrcoef(prediction[test], labels[test])[0, 1])
    scores["oracle"] = {
        "mae": oracle_mae(truth[test], labels[test]),
        "mae_truth": 0.0,
        "corr": float(np.corrcoef(truth[test], labels[test])[0, 1]),
    }
    return scores


def main(arguments: Sequence[str] | None = None) -> int:
    """Generate corpora in a temporary directory and print the table of their mean scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--regime", choices=["noisy", "clean", "no_cue"], default="noisy")
    parser.add_argument("--seed", type=int, nargs="+", default=[0], help="corpora to average")
    options = parser.parse_args(arguments)
    corpora = []
    for seed in options.seed:
        with tempfile.TemporaryDirectory() as folder:
            generate(GeneratorConfig(regime=options.regime, seed=seed), Path(folder))
            corpora.append(scores_of(pool(Path(folder))))
    print(f"generated data, regime {options.regime}, test split, {len(corpora)} corpora")
    print(f"{'predictor':<14}{'MAE':>8}{'MAE to truth':>15}{'corr':>8}")
    for name in corpora[0]:
        cells = []
        for metric, width in (("mae", 8), ("mae_truth", 15), ("corr", 8)):
            values = [scores[name][metric] for scores in corpora if metric in scores[name]]
            cells.append(f"{np.mean(values):>{width}.3f}" if values else f"{'–':>{width}}")
        print(f"{name:<14}{''.join(cells)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
