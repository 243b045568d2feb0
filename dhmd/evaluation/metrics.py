"""The field's metrics, in plain numpy.

Regression, labels in [-3, 3] (`p` predictions, `y` labels, both [N]); `acc7`, `acc5`, `acc3` round
half to even, `*_has0` takes all samples as negative / non-negative, `*_non0` the samples with a
label other than 0 as negative / positive. F1, precision and recall are weighted by the true class's
support. Definitions as MMSA's package computes them, so that tables can be compared.

A metric that its samples do not define (the correlation of constant predictions, say) is an error
to report, never a NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dhmd.base.errors import DhmdError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Task = Literal["regression", "classification"]

REGRESSION = (
    "mae",
    "corr",
    "acc7",
    "acc5",
    "acc3",
    "acc2_has0",
    "acc2_non0",
    "f1_has0",
    "f1_non0",
)
CLASSIFICATION = ("accuracy", "precision", "recall", "f1")
METRICS: Mapping[str, tuple[str, ...]] = {
    "regression": REGRESSION,
    "classification": CLASSIFICATION,
}
PRIMARY: Mapping[str, str] = {"regression": "mae", "classification": "f1"}
LOWER_IS_BETTER = frozenset({"mae"})


class UndefinedMetricError(DhmdError):
    """These samples do not define the metric; the sentence says why."""


@dataclass(frozen=True)
class Scores:
    """All metrics of one set of predictions: the defined ones, and why the others are not."""

    values: dict[str, float]
    undefined: dict[str, str]


def loss_sign(metric: str) -> float:
    """+1 where a larger value is worse, -1 where it is better."""
    return 1.0 if metric in LOWER_IS_BETTER else -1.0


def score(task: str, p: Floats, y: Floats) -> Scores:
    """All metrics of the task; for classification `p` and `y` are class indices.

    Raises:
        DhmdError: non-finite values or different lengths.
    """
    _check(p, y)
    functions = _REGRESSION_FUNCTIONS if task == "regression" else _CLASSIFICATION_FUNCTIONS
    values: dict[str, float] = {}
    undefined: dict[str, str] = {}
    for name, function in functions.items():
        try:
            values[name] = function(p, y)
        except UndefinedMetricError as error:
            undefined[name] = str(error)
    return Scores(values, undefined)


def mae(p: Floats, y: Floats) -> float:
    """Mean absolute error."""
    _need(p, 1)
    return float(np.mean(np.abs(p - y)))


def corr(p: Floats, y: Floats) -> float:
    """Pearson correlation; needs two samples and neither side constant."""
    _need(p, 2)
    for name, values in (("predictions", p), ("labels", y)):
        # Compared, not computed: the variance of equal values may come out a little above zero.
        if np.all(values == values[0]):
            raise UndefinedMetricError(f"the {name} are constant")
    a, b = p - p.mean(), y - y.mean()
    # Scaled first: squares of tiny or huge values would vanish or overflow.
    a, b = a / np.abs(a).max(), b / np.abs(b).max()
    ratio = float(a @ b) / float(np.sqrt((a @ a) * (b @ b)))
    return min(1.0, max(-1.0, ratio))


def rounded(values: Floats, limit: int) -> Ints:
    """Classes -limit … limit: clip, then round half to even."""
    return np.round(np.clip(values, -limit, limit)).astype(np.int64)


def rounded_accuracy(p: Floats, y: Floats, limit: int) -> float:
    """Share of samples whose rounded class is right (`acc7`, `acc5`, `acc3`: limit 3, 2, 1)."""
    _need(p, 1)
    return float(np.mean(rounded(p, limit) == rounded(y, limit)))


def binary(p: Floats, y: Floats, *, zero: bool) -> tuple[Ints, Ints]:
    """Two classes: non-negative over all samples (`zero`), or positive where `y` is not 0.

    Raises:
        UndefinedMetricError: every label is 0 and `zero` is false.
    """
    if zero:
        return (p >= 0).astype(np.int64), (y >= 0).astype(np.int64)
    chosen = y != 0
    if not chosen.any():
        raise UndefinedMetricError("no label differs from 0")
    return (p[chosen] > 0).astype(np.int64), (y[chosen] > 0).astype(np.int64)


def accuracy(p: Ints | Floats, y: Ints | Floats) -> float:
    """Share of equal classes."""
    _need(p, 1)
    return float(np.mean(p == y))


def weighted(p: Ints | Floats, y: Ints | Floats) -> tuple[float, float, float]:
    """Precision, recall and F1, each class weighted by its support among the true labels.

    A class never predicted has precision and F1 of 0, as in scikit-learn.
    """
    _need(p, 1)
    classes, support = np.unique(y, return_counts=True)
    predicted = (p[:, None] == classes).sum(0)
    right = ((p[:, None] == classes) & (y[:, None] == classes)).sum(0)
    weight = support / support.sum()
    precision = right / np.maximum(predicted, 1)
    recall = right / support
    f1 = 2 * right / (predicted + support)
    return float(weight @ precision), float(weight @ recall), float(weight @ f1)


def _check(p: Floats, y: Floats) -> None:
    if p.shape != y.shape or p.ndim != 1:
        raise DhmdError(f"{p.shape} predictions for {y.shape} labels cannot be scored")
    for name, values in (("predictions", p), ("labels", y)):
        if not np.isfinite(values).all():
            raise DhmdError(f"{int((~np.isfinite(values)).sum())} {name} are not finite")


def _need(values: Floats | Ints, least: int) -> None:
    if len(values) < least:
        raise UndefinedMetricError(f"{len(values)} samples, at least {least} needed")


def _has0(p: Floats, y: Floats) -> tuple[Ints, Ints]:
    return binary(p, y, zero=True)


def _non0(p: Floats, y: Floats) -> tuple[Ints, Ints]:
    return binary(p, y, zero=False)


_REGRESSION_FUNCTIONS: dict[str, Callable[[Floats, Floats], float]] = {
    "mae": mae,
    "corr": corr,
    "acc7": lambda p, y: rounded_accuracy(p, y, 3),
    "acc5": lambda p, y: rounded_accuracy(p, y, 2),
    "acc3": lambda p, y: rounded_accuracy(p, y, 1),
    "acc2_has0": lambda p, y: accuracy(*_has0(p, y)),
    "acc2_non0": lambda p, y: accuracy(*_non0(p, y)),
    "f1_has0": lambda p, y: weighted(*_has0(p, y))[2],
    "f1_non0": lambda p, y: weighted(*_non0(p, y))[2],
}
_CLASSIFICATION_FUNCTIONS: dict[str, Callable[[Floats, Floats], float]] = {
    "accuracy": accuracy,
    "precision": lambda p, y: weighted(p, y)[0],
    "recall": lambda p, y: weighted(p, y)[1],
    "f1": lambda p, y: weighted(p, y)[2],
}
