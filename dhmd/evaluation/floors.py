"""Floors: what a model must beat to have learned anything (ours).

The median label of the train split (the most frequent class for classification), and a ridge
regression on features averaged over time, its penalty chosen on the validation split; one for each
modality and one for all together.

N utterances, d features, C targets (1 for regression, one a class for classification).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dhmd.cache import Corpus, Ragged
from dhmd.evaluation.metrics import PRIMARY, Floats, Ints, loss_sign, score


def floors(corpus: Corpus, alphas: Sequence[float]) -> dict[str, Any]:
    """`floors.json`: {floor: {"inputs", "alpha", "test": {metric: value}, "undefined"}}.

    `corpus` was read with its test labels.
    """
    labels = corpus.labels_N.astype(np.float64)
    split = {name: corpus.index(name) for name in ("train", "valid", "test")}
    constant = np.full(len(labels), train_constant(corpus))
    result = {"median": _entry(corpus.task, constant, labels, split)}
    pooled = {
        modality: pooled_features(
            corpus.features[modality], corpus.present_NM[:, index], split["train"]
        )
        for index, modality in enumerate(corpus.modalities)
    }
    groups = {"ridge": tuple(corpus.modalities)}
    if len(corpus.modalities) > 1:
        groups |= {f"ridge_{modality}": (modality,) for modality in corpus.modalities}
    for name, inputs in groups.items():
        x = np.concatenate([pooled[modality] for modality in inputs], axis=1)
        alpha, predicted = ridge(corpus.task, x, labels, split, alphas)
        entry = _entry(corpus.task, predicted, labels, split)
        result[name] = {"inputs": list(inputs), "alpha": alpha, **entry}
    return result


def pooled_features(features: Ragged, present: np.ndarray[Any, Any], train: Ints) -> Floats:
    """Features averaged over steps [N, d], standardised over the train split.

    Where the modality is absent, the mean: zeros.
    """
    lengths = features.lengths
    full = lengths > 0
    mean = np.zeros((len(lengths), features.values.shape[1]))
    if full.any():
        # An empty segment has no first row: `reduceat` would take the next segment's.
        starts = features.offsets[:-1][full]
        sums = np.add.reduceat(features.values, starts, axis=0, dtype=np.float64)
        mean[full] = sums / lengths[full][:, None]
    kept = present & full
    rows = train[kept[train]]
    if len(rows) == 0:
        return np.zeros_like(mean)
    centre, spread = mean[rows].mean(0), mean[rows].std(0)
    standard: Floats = (mean - centre) / np.where(spread > 0, spread, 1.0)
    standard[~kept] = 0.0
    return standard


def ridge(
    task: str, x: Floats, labels: Floats, split: Mapping[str, Ints], alphas: Sequence[float]
) -> tuple[float, Floats]:
    """The best penalty on validation, by the primary metric, and its predictions [N].

    Classes are regressed as one target each; the largest is predicted. Equal scores go to the
    larger penalty.
    """
    train, valid = split["train"], split["valid"]
    targets = labels[:, None]
    if task == "classification":
        targets = (targets == np.unique(labels[train])).astype(np.float64)
    centre, offset = x[train].mean(0), targets[train].mean(0)
    a = x[train] - centre
    # One decomposition serves every penalty; of the smaller of the two products.
    wide = a.shape[1] > a.shape[0]
    values, vectors = np.linalg.eigh(a @ a.T if wide else a.T @ a)
    right = targets[train] - offset
    projected = vectors.T @ (right if wide else a.T @ right)
    best: tuple[float, float, Floats] | None = None
    for alpha in sorted(alphas, reverse=True):
        solution = vectors @ (projected / (np.maximum(values, 0.0) + alpha)[:, None])
        weights = a.T @ solution if wide else solution
        out = (x - centre) @ weights + offset
        if task == "classification":
            predicted = np.unique(labels[train])[out.argmax(1)]
        else:
            predicted = out[:, 0]
        metric = PRIMARY[task]
        loss = loss_sign(metric) * score(task, predicted[valid], labels[valid]).values[metric]
        if best is None or loss < best[0]:
            best = (loss, alpha, predicted)
    assert best is not None
    return best[1], best[2]


def train_constant(corpus: Corpus) -> float:
    """What to answer without any input: the train split's median, or its most frequent class."""
    train = corpus.labels_N[corpus.index("train")].astype(np.float64)
    if corpus.task == "classification":
        classes, counts = np.unique(train, return_counts=True)
        return float(classes[counts.argmax()])
    return float(np.median(train))


def _entry(
    task: str, predicted: Floats, labels: Floats, split: Mapping[str, Ints]
) -> dict[str, Any]:
    test = split["test"]
    scores = score(task, predicted[test], labels[test])
    return {"test": scores.values, "undefined": list(scores.undefined)}
