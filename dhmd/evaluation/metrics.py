"""The metrics of the field, in plain NumPy (definitions as in the MMSA package).

Regression, labels in [-3, 3]: `acc7`, `acc5` and `acc3` round half to even; `*_has0` uses all
samples as negative / non-negative; `*_non0` uses the samples whose label is not 0 as negative /
positive. Precision, recall and F1 are weighted by the support of the true classes.

Classification: `accuracy` is the weighted accuracy (WA) of speech emotion recognition, and
`unweighted_accuracy` (UA) the mean recall of the true classes.

A multi-label task has one binary problem per class, whose scores are averaged over classes:
`f1_weighted` weights the F1 of presence and absence by their support, `f1_macro` is the F1 of
presence, `weighted_accuracy` the mean of the recalls of presence and absence (Zadeh et al., ACL
2018; as MulT's code computes it), `hamming_accuracy` the share of correct classes.

A metric that the samples do not define, such as the correlation of constant predictions, is
reported as undefined and never becomes a NaN.

All predictions `p` and labels `y` have shape [N]; classification uses class indices, a multi-label
task sets of classes as numbers (dhmd/base/label_sets.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dhmd.base.errors import DhmdError
from dhmd.base.label_sets import decode_sets

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


# The scores of each class as a binary problem, and the metric that is their mean over classes.
CLASS_METRICS: Mapping[str, str] = {
    "f1": "f1_macro",
    "f1_weighted": "f1_weighted",
    "weighted_accuracy": "weighted_accuracy",
}


class UndefinedMetricError(DhmdError):
    """A metric is undefined on the given samples; the message has the reason."""


@dataclass(frozen=True)
class Scores:
    """The defined metrics of one set of predictions, and why the others are undefined."""

    values: dict[str, float]
    undefined: dict[str, str]


def mae(p: Floats, y: Floats) -> float:
    """Return the mean absolute error."""
    _require(p, 1)
    return float(np.mean(np.abs(p - y)))


def corr(p: Floats, y: Floats) -> float:
    """Return the Pearson correlation.

    Raises:
        UndefinedMetricError: fewer than two samples, or one side is constant.
    """
    _require(p, 2)
    for name, values in (("predictions", p), ("labels", y)):
        # The computed variance of equal values may be slightly above zero.
        if np.all(values == values[0]):
            raise UndefinedMetricError(f"the {name} are constant")
    a, b = p - p.mean(), y - y.mean()
    # Scale first: the squares of tiny or huge values would vanish or overflow.
    a, b = a / np.abs(a).max(), b / np.abs(b).max()
    ratio = float(a @ b) / float(np.sqrt((a @ a) * (b @ b)))
    return min(1.0, max(-1.0, ratio))


def round_to_class(values: Floats, limit: int) -> Ints:
    """Clip to [-limit, limit] and round half to even."""
    return np.round(np.clip(values, -limit, limit)).astype(np.int64)


def accuracy(p: Ints | Floats, y: Ints | Floats) -> float:
    """Return the share of correct classes."""
    _require(p, 1)
    return float(np.mean(p == y))


def weighted(p: Ints | Floats, y: Ints | Floats) -> tuple[float, float, float]:
    """Return precision, recall and F1, weighted by the support of the true classes.

    A class that is never predicted has precision and F1 of 0, as in scikit-learn.
    """
    _require(p, 1)
    classes, support = np.unique(y, return_counts=True)
    predicted = (p[:, None] == classes).sum(0)
    correct = ((p[:, None] == classes) & (y[:, None] == classes)).sum(0)
    weight = support / support.sum()
    precision = correct / np.maximum(predicted, 1)
    recall = correct / support
    f1 = 2 * correct / (predicted + support)
    return float(weight @ precision), float(weight @ recall), float(weight @ f1)


def unweighted_accuracy(p: Ints | Floats, y: Ints | Floats) -> float:
    """Return the mean recall of the true classes."""
    _require(p, 1)
    return float(np.mean([np.mean(p[y == label] == label) for label in np.unique(y)]))


def binary_terms(p: NDArray[np.bool_], y: NDArray[np.bool_]) -> Floats:
    """Return what each class of each utterance adds to the sums of `binary_scores`, `[…, 4]`."""
    terms: Floats = np.stack([p & y, p, y, np.ones_like(y)], axis=-1).astype(np.float64)
    return terms


def binary_scores(metric: str, sums: Floats) -> Floats:
    """Compute a multi-label metric of each class; NaN where it is undefined.

    `sums` `[…, 4]` are the numbers of true positives, predictions, labels and utterances.
    """
    tp, predicted, positive, n = np.moveaxis(sums, -1, 0)
    tn, negative = n - predicted - positive + tp, n - positive
    if metric == "hamming_accuracy":
        return np.asarray((tp + tn) / n)
    if metric == "weighted_accuracy":
        return np.asarray((tp / positive + tn / negative) / 2)
    present = 2 * tp / np.maximum(predicted + positive, 1)
    if metric == "f1_macro":
        return np.asarray(present)
    absent = 2 * tn / np.maximum(2 * n - predicted - positive, 1)
    return np.asarray((present * positive + absent * negative) / n)


def class_scores(
    task: str, p: Floats, y: Floats, class_names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return the scores of each class as a binary problem: class → metric → value.

    `f1` is that of presence; values that are undefined are left out.
    """
    if task == "multilabel":
        members_p, members_y = decode_sets(p), decode_sets(y)
    else:
        members_p, members_y = (v[:, None] == np.arange(len(class_names)) for v in (p, y))
    sums = binary_terms(members_p, members_y).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {name: binary_scores(metric, sums) for name, metric in CLASS_METRICS.items()}
    return {
        label: {name: float(v[c]) for name, v in found.items() if np.isfinite(v[c])}
        for c, label in enumerate(class_names)
    }


def _multilabel(metric: str) -> Callable[[Floats, Floats], float]:
    def mean(p: Floats, y: Floats) -> float:
        _require(p, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            values = binary_scores(metric, binary_terms(decode_sets(p), decode_sets(y)).sum(0))
        if not np.isfinite(values).any():
            raise UndefinedMetricError("every class is present in all utterances or in none")
        return float(np.nanmean(values))

    return mean


def _has0(p: Floats, y: Floats) -> tuple[Ints, Ints]:
    return (p >= 0).astype(np.int64), (y >= 0).astype(np.int64)


def _non0(p: Floats, y: Floats) -> tuple[Ints, Ints]:
    nonzero = y != 0
    if not nonzero.any():
        raise UndefinedMetricError("no label differs from 0")
    return (p[nonzero] > 0).astype(np.int64), (y[nonzero] > 0).astype(np.int64)


def _require(values: Floats | Ints, least: int) -> None:
    if len(values) < least:
        raise UndefinedMetricError(f"{len(values)} samples, at least {least} needed")


_FUNCTIONS: Mapping[str, Mapping[str, Callable[[Floats, Floats], float]]] = {
    "regression": {
        "mae": mae,
        "corr": corr,
        "acc7": lambda p, y: accuracy(round_to_class(p, 3), round_to_class(y, 3)),
        "acc5": lambda p, y: accuracy(round_to_class(p, 2), round_to_class(y, 2)),
        "acc3": lambda p, y: accuracy(round_to_class(p, 1), round_to_class(y, 1)),
        "acc2_has0": lambda p, y: accuracy(*_has0(p, y)),
        "acc2_non0": lambda p, y: accuracy(*_non0(p, y)),
        "f1_has0": lambda p, y: weighted(*_has0(p, y))[2],
        "f1_non0": lambda p, y: weighted(*_non0(p, y))[2],
    },
    "classification": {
        "accuracy": accuracy,
        "unweighted_accuracy": unweighted_accuracy,
        "precision": lambda p, y: weighted(p, y)[0],
        "recall": lambda p, y: weighted(p, y)[1],
        "f1": lambda p, y: weighted(p, y)[2],
    },
    "multilabel": {
        metric: _multilabel(metric)
        for metric in ("f1_weighted", "f1_macro", "weighted_accuracy", "hamming_accuracy")
    },
}
METRICS: Mapping[str, tuple[str, ...]] = {task: tuple(names) for task, names in _FUNCTIONS.items()}
# The metric by which models are selected and compared.
PRIMARY: Mapping[str, str] = {
    "regression": "mae",
    "classification": "f1",
    "multilabel": "f1_weighted",
}
# The metrics that tables show, with their names in the literature.
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "regression": {
        "mae": "MAE",
        "corr": "Corr",
        "acc7": "ACC7",
        "acc2_non0": "ACC2",
        "f1_non0": "F1",
    },
    "classification": {
        "accuracy": "Accuracy",
        "unweighted_accuracy": "UA",
        "precision": "Precision",
        "recall": "Recall",
        "f1": "F1",
    },
    "multilabel": {
        "f1_weighted": "Weighted F1",
        "f1_macro": "Macro F1",
        "weighted_accuracy": "WAcc",
        "hamming_accuracy": "Class accuracy",
    },
}


def deterioration_sign(metric: str) -> float:
    """Return +1 if a larger value of the metric is worse, else -1."""
    return 1.0 if metric == "mae" else -1.0


def score(task: str, p: Floats, y: Floats) -> Scores:
    """Compute all metrics of the task.

    Raises:
        DhmdError: non-finite values or different lengths.
    """
    if p.shape != y.shape or p.ndim != 1:
        raise DhmdError(f"{p.shape} predictions for {y.shape} labels cannot be scored")
    for name, values in (("predictions", p), ("labels", y)):
        if not np.isfinite(values).all():
            raise DhmdError(f"{int((~np.isfinite(values)).sum())} {name} are not finite")
    scores = Scores({}, {})
    for name, function in _FUNCTIONS[task].items():
        try:
            scores.values[name] = function(p, y)
        except UndefinedMetricError as error:
            scores.undefined[name] = str(error)
    return scores
