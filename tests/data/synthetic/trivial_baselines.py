"""Score trivial baselines: `python -m tests.data.synthetic.trivial_baselines --seed 0`.

These are the median label, ridge regression on pooled features, and the oracle. The settings of
the generator were chosen by their scores, not by those of a model.
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
from dhmd.evaluation.trivial_baselines import ridge as fit_ridge

Floats = NDArray[np.float64]

FEATURES = {"text": "vectors", "audio": "acoustic", "vision": "visual"}
_PENALTIES = tuple(float(10**power) for power in np.arange(-1, 5.5, 0.5))


@dataclass(frozen=True, kw_only=True)
class Pooled:
    """A corpus with one row per utterance.

    Attributes:
        features: the means of each modality over the utterance, zeros if it is missing.
        labels_N: the labels.
        planted: the ground truth and the latent factors by name.
        split_N: train, valid or test.
    """

    features: dict[str, Floats]
    labels_N: Floats
    planted: dict[str, Floats]
    split_N: NDArray[np.str_]


def pool(folder: Path) -> Pooled:
    """Read a synthetic corpus, and average each modality over the rows of each label segment.

    A row belongs to a segment if its middle does. Pauses and values that are not finite are
    omitted.
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
    # Only pauses have zero vectors.
    spoken = (values != 0).any(axis=1)
    middle = intervals.mean(axis=1)
    means = []
    for start, end in segments:
        inside = (middle >= start) & (middle < end) & spoken
        total = np.where(finite, values, 0.0)[inside].sum(axis=0)
        means.append(total / np.maximum(finite[inside].sum(axis=0), 1))
    return means


def ridge(x_ND: Floats, y_N: Floats, split_N: NDArray[np.str_]) -> Floats:
    """Return ridge predictions `[N]`, fitted on train with the best penalty on valid."""
    index = {split: np.flatnonzero(split_N == split) for split in SPLITS}
    mean, std = x_ND[index["train"]].mean(axis=0), x_ND[index["train"]].std(axis=0)
    standardised = (x_ND - mean) / np.where(std > 0, std, 1.0)
    return fit_ridge("regression", standardised, y_N, index, _PENALTIES).p_N


def scores_of(pooled: Pooled) -> dict[str, dict[str, float]]:
    """Return each predictor's test scores: MAE and correlation with the label, MAE to the truth.

    The median is constant, so it has no correlation.
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
    """Generate corpora in a temporary folder, and print a table of the mean scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--regime", choices=["noisy", "clean", "no_cue"], default="noisy")
    parser.add_argument("--seed", type=int, nargs="+", default=[0], help="one corpus per seed")
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
