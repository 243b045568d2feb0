"""Floors: what a model must beat to have learned anything (ours).

The median label of the train split (the most frequent class for classification), and a ridge
regression on features pooled over time, its penalty and its pooling (mean, or mean, deviation and
maximum) chosen on the validation split; one for each modality and one for all together.

N utterances, d features, C targets (1 for regression, one a class for classification).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.data.aligned import Corpus, Ragged
from dhmd.evaluation.metrics import PRIMARY, Floats, Ints, loss_sign, score

POOLINGS: tuple[tuple[str, ...], ...] = (("mean",), ("mean", "std", "max"))
BLOCK = 1 << 23  # numbers: 64 MiB of float64


def floors(corpus: Corpus, alphas: Sequence[float]) -> dict[str, Any]:
    """`floors.json`: {floor: {"inputs", "pooling", "alpha", "test": {metric: value}, "undefined"}}.

    `corpus` was read with its test labels.
    """
    labels = corpus.labels_N.astype(np.float64)
    split = {name: corpus.index(name) for name in ("train", "valid", "test")}
    constant = np.full(len(labels), train_constant(corpus))
    result = {"median": _entry(corpus.task, constant, labels, split)}
    pooled: dict[tuple[str, tuple[str, ...]], Floats] = {}
    for index, modality in enumerate(corpus.modalities):
        features = corpus.features[modality]
        statistics = step_statistics(features)
        kept = corpus.present_NM[:, index] & (features.lengths > 0)
        for pooling in POOLINGS:
            pooled[modality, pooling] = pooled_features(statistics, kept, split["train"], pooling)
    groups = {"ridge": tuple(corpus.modalities)}
    if len(corpus.modalities) > 1:
        groups |= {f"ridge_{modality}": (modality,) for modality in corpus.modalities}
    for name, inputs in groups.items():
        fits = {
            pooling: ridge(
                corpus.task,
                np.concatenate([pooled[modality, pooling] for modality in inputs], axis=1),
                labels,
                split,
                alphas,
            )
            for pooling in POOLINGS
        }
        # Equal losses go to the first, plainer pooling.
        pooling = min(POOLINGS, key=lambda p: fits[p].loss)
        fit = fits[pooling]
        result[name] = {
            "inputs": list(inputs),
            "pooling": list(pooling),
            "alpha": fit.alpha,
            **_entry(corpus.task, fit.predicted, labels, split),
        }
    return result


def pooled_features(
    statistics: Mapping[str, Floats],
    kept: np.ndarray[Any, Any],
    train: Ints,
    pooling: Sequence[str] = ("mean",),
) -> Floats:
    """Statistics over steps [N, d · len(pooling)], standardised over the train split.

    Args:
        statistics: of `step_statistics`.
        kept: [N] bool, where the modality is there; elsewhere the train split's mean: zeros.
    """
    values = np.concatenate([statistics[name] for name in pooling], axis=1)
    rows = train[kept[train]]
    if len(rows) == 0:
        return np.zeros_like(values)
    centre, spread = values[rows].mean(0), values[rows].std(0)
    standard: Floats = (values - centre) / np.where(spread > 0, spread, 1.0)
    standard[~kept] = 0.0
    return standard


def step_statistics(features: Ragged, block: int = BLOCK) -> dict[str, Floats]:
    """Mean, deviation and maximum over the steps of each segment, [N, d]; of none: zeros.

    Some segments at a time, at most `block` numbers of them where a single one has no more: their
    squared deviations take twice the memory of the features themselves.
    """
    width = features.values.shape[1]
    found = {name: np.zeros((len(features), width)) for name in ("mean", "std", "max")}
    # An empty segment has no first row: `reduceat` would take the next segment's.
    full = np.flatnonzero(features.lengths > 0)
    total = np.cumsum(features.lengths[full] * width)
    begin = 0
    while begin < len(full):
        done = total[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(total, done + block, side="right")))
        segments = full[begin:end]
        first, last = features.offsets[segments[0]], features.offsets[segments[-1] + 1]
        values, starts = features.values[first:last], features.offsets[segments] - first
        counts = features.lengths[segments][:, None]
        mean = np.add.reduceat(values, starts, axis=0, dtype=np.float64) / counts
        centred = values - np.repeat(mean, counts[:, 0], axis=0)
        centred *= centred
        found["mean"][segments] = mean
        found["std"][segments] = np.sqrt(np.add.reduceat(centred, starts, axis=0) / counts)
        found["max"][segments] = np.maximum.reduceat(values, starts, axis=0)
        begin = end
    return found


@dataclass(frozen=True)
class Ridge:
    """A fitted ridge: its penalty, its loss on validation, its predictions [N]."""

    alpha: float
    loss: float
    predicted: Floats


def ridge(
    task: str, x: Floats, labels: Floats, split: Mapping[str, Ints], alphas: Sequence[float]
) -> Ridge:
    """The ridge with the best penalty on validation, by the primary metric.

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
    best: Ridge | None = None
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
        if best is None or loss < best.loss:
            best = Ridge(alpha, loss, predicted)
    if best is None:
        raise DhmdError("evaluate.ridge_alphas is empty, but the ridge floor needs a penalty")
    return best


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
