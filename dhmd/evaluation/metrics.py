"""The metrics of the field, in plain NumPy (definitions as in the MMSA package).

Regression, labels in [-3, 3]: `acc7`, `acc5` and `acc3` round half to even; `*_has0` uses all
samples as negative / non-negative; `*_non0` uses the samples whose label is not 0 as negative /
positive. Precision, recall and F1 are weighted by the support of the true classes.

A metric that the samples do not define, such as the correlation of constant predictions, is
reported as undefined and never becomes a NaN.

All predictions `p` and labels `y` have shape [N]; classification uses class indices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dhmd.base.errors import DhmdError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


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
        "precision": lambda p, y: weighted(p, y)[0],
        "recall": lambda p, y: weighted(p, y)[1],
        "f1": lambda p, y: weighted(p, y)[2],
    },
}
METRICS: Mapping[str, tuple[str, ...]] = {task: tuple(names) for task, names in _FUNCTIONS.items()}
# The metric by which models are selected and compared.
PRIMARY: Mapping[str, str] = {"regression": "mae", "classification": "f1"}
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
        "precision": "Precision",
        "recall": "Recall",
        "f1": "F1",
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
