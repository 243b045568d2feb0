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

A metric that is undefined for the samples, such as the correlation of constant predictions, is
reported as undefined and never becomes NaN.

Every metric is a function of sums over utterances (`metric_terms`, `metric_from_sums`), so that the
bootstrap can weight the utterances. Only the correlation of all samples is computed directly
(`corr`), which is more precise.

All predictions `p` and labels `y` have shape [N]. Classification uses class indices; a multi-label
task uses sets of classes, encoded as numbers (dhmd/base/label_sets.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dhmd.base.errors import DhmdError
from dhmd.base.label_sets import class_membership, decode_sets

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


# For each score of a class as a binary problem, the metric that is its mean over classes.
CLASS_METRICS: Mapping[str, str] = {
    "f1": "f1_macro",
    "f1_weighted": "f1_weighted",
    "weighted_accuracy": "weighted_accuracy",
}
METRICS: Mapping[str, tuple[str, ...]] = {
    "regression": (
        "mae",
        "corr",
        "acc7",
        "acc5",
        "acc3",
        "acc2_has0",
        "acc2_non0",
        "f1_has0",
        "f1_non0",
    ),
    "classification": ("accuracy", "unweighted_accuracy", "precision", "recall", "f1"),
    "multilabel": ("f1_weighted", "f1_macro", "weighted_accuracy", "hamming_accuracy"),
}
# The metric by which models are selected and compared, per task.
PRIMARY_METRIC: Mapping[str, str] = {
    "regression": "mae",
    "classification": "f1",
    "multilabel": "f1_weighted",
}
# The metrics in tables, with their names in the literature, per task.
METRIC_TITLES: Mapping[str, Mapping[str, str]] = {
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
# Labels and predictions are clipped to ± this value and rounded to classes.
_ROUNDING_LIMIT = {"acc7": 3, "acc5": 2, "acc3": 1}
# Metrics that are computed from a confusion matrix [predicted, true].
_FROM_CONFUSION = frozenset(
    {"precision", "recall", "f1", "f1_has0", "f1_non0", "unweighted_accuracy"}
)
# Why a metric other than the correlation may be undefined.
_UNDEFINED = {
    "acc2_non0": "no label differs from 0",
    "f1_non0": "no label differs from 0",
    "weighted_accuracy": "every class is present in all utterances or in none",
}


class UndefinedMetricError(DhmdError):
    """Raised if a metric is undefined for the samples; the message is the reason."""


@dataclass(frozen=True)
class Scores:
    """The metrics of one set of predictions.

    Attributes:
        values: the defined metrics.
        undefined: the reason why each of the other metrics is undefined.
    """

    values: dict[str, float]
    undefined: dict[str, str]


def corr(p: Floats, y: Floats) -> float:
    """Return the Pearson correlation.

    Raises:
        UndefinedMetricError: fewer than two samples, or one side is constant.
    """
    if len(p) < 2:
        raise UndefinedMetricError(f"{len(p)} samples, but at least 2 are needed")
    for name, values in (("predictions", p), ("labels", y)):
        # The computed variance of equal values may be slightly above zero.
        if np.all(values == values[0]):
            raise UndefinedMetricError(f"the {name} are constant")
    a, b = p - p.mean(), y - y.mean()
    # Scale first: the squares of tiny or huge values would vanish or overflow.
    a, b = a / np.abs(a).max(), b / np.abs(b).max()
    ratio = float(a @ b) / float(np.sqrt((a @ a) * (b @ b)))
    return min(1.0, max(-1.0, ratio))


def binary_terms(p: NDArray[np.bool_], y: NDArray[np.bool_]) -> Floats:
    """Return the terms `[…, C, 4]` of each utterance and class; `binary_scores` takes their sums.

    `p` and `y` `[…, C]` mark the predicted and the present classes.
    """
    terms: Floats = np.stack([p & y, p, y, np.ones_like(y)], axis=-1).astype(np.float64)
    return terms


def binary_scores(metric: str, sums: Floats) -> Floats:
    """Compute a multi-label metric of each class; NaN where it is undefined.

    Args:
        sums: numbers of true positives, predicted positives, positives and utterances, `[…, C, 4]`.

    Returns:
        The metric, `[…, C]`.
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
    """Return the scores of each class as a binary problem, by class and metric.

    `f1` is the F1 of presence. Undefined values are omitted.
    """
    sums = binary_terms(
        *(class_membership(task, values, len(class_names)) for values in (p, y))
    ).sum(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = {name: binary_scores(metric, sums) for name, metric in CLASS_METRICS.items()}
    return {
        label: {name: float(v[c]) for name, v in scores.items() if np.isfinite(v[c])}
        for c, label in enumerate(class_names)
    }


def metric_terms(metric: str, p: Floats, y: Floats) -> Floats:
    """Return the terms of each utterance, `[…, N, Q]`; `metric_from_sums` takes their sums."""
    ones = np.ones(p.shape)
    if metric == "mae":
        return np.stack([np.abs(p - y), ones], axis=-1)
    if metric == "corr":
        # Centre and scale first: raw sums of squares lose digits to the mean.
        a, b = _standardised(p), _standardised(y)
        return np.stack([ones, a, b, a * a, b * b, a * b], axis=-1)
    if metric in METRICS["multilabel"]:
        terms = binary_terms(decode_sets(p), decode_sets(y))
        return terms.reshape(*p.shape, -1)
    included = ones
    if metric in _ROUNDING_LIMIT:  # rounded half to even
        limit = _ROUNDING_LIMIT[metric]
        p, y = (np.round(np.clip(v, -limit, limit)).astype(np.float64) for v in (p, y))
    elif metric.endswith("_has0"):
        p, y = (p >= 0).astype(np.float64), (y >= 0).astype(np.float64)
    elif metric.endswith("_non0"):
        included = (y != 0).astype(np.float64)
        p, y = (p > 0).astype(np.float64), (y > 0).astype(np.float64)
    if metric not in _FROM_CONFUSION:
        return np.stack([(p == y) * included, included], axis=-1)
    classes = np.unique(np.concatenate([p.ravel(), y.ravel()]))
    cells = (p[..., None, None] == classes[:, None]) & (y[..., None, None] == classes)
    confusion: Floats = cells.reshape(*p.shape, -1) * included[..., None]
    return confusion


def _standardised(values: Floats) -> Floats:
    centred = values - values.mean(-1, keepdims=True)
    scale = np.abs(centred).max(-1, keepdims=True)
    result: Floats = centred / np.where(scale > 0, scale, 1.0)
    return result


def metric_from_sums(metric: str, sums: Floats) -> Floats:
    """Compute a metric `[…]` from sums `[…, Q]`; NaN where it is undefined."""
    if metric == "corr":
        n, a, b, aa, bb, ab = np.moveaxis(sums, -1, 0)
        covariance = ab - a * b / n
        variances = np.stack([aa - a * a / n, bb - b * b / n])
        # The terms are at most 1: a smaller variance is a rounding error of constant values.
        variances[variances < 1e-12 * n] = np.nan
        correlation: Floats = covariance / np.sqrt(variances.prod(0))
        return np.clip(correlation, -1.0, 1.0)
    if metric in METRICS["multilabel"]:
        values = binary_scores(metric, sums.reshape(*sums.shape[:-1], -1, 4))
        defined = np.isfinite(values)
        scores: Floats = np.where(defined, values, 0).sum(-1) / defined.sum(-1)
        return scores
    if metric not in _FROM_CONFUSION:
        ratio: Floats = sums[..., 0] / sums[..., 1]
        return ratio
    classes = round(sums.shape[-1] ** 0.5)
    confusion = sums.reshape(*sums.shape[:-1], classes, classes)
    correct = np.diagonal(confusion, axis1=-2, axis2=-1)
    predicted, support = confusion.sum(-1), confusion.sum(-2)
    weight = support / support.sum(-1, keepdims=True)
    if metric == "precision":
        per_class = correct / np.maximum(predicted, 1)
    elif metric == "recall":
        per_class = correct / np.maximum(support, 1)
    elif metric == "unweighted_accuracy":
        per_class = correct / np.maximum(support, 1)
        weight = (support > 0) / (support > 0).sum(-1, keepdims=True)
    else:
        per_class = 2 * correct / np.maximum(predicted + support, 1)
    total: Floats = (weight * per_class).sum(-1)
    return total


def deterioration_sign(metric: str) -> float:
    """Return +1 if a larger value of the metric is worse, else -1."""
    return 1.0 if metric == "mae" else -1.0


def score(task: str, p: Floats, y: Floats) -> Scores:
    """Compute all metrics of the task.

    Raises:
        DhmdError: a value is not finite, or `p` and `y` have different shapes.
    """
    if p.shape != y.shape or p.ndim != 1:
        raise DhmdError(
            f"predictions of shape {p.shape} cannot be scored against labels of shape {y.shape}"
        )
    for name, values in (("predictions", p), ("labels", y)):
        if not np.isfinite(values).all():
            invalid = np.count_nonzero(~np.isfinite(values))
            raise DhmdError(f"{invalid} of {len(values)} {name} are not finite")
    scores = Scores({}, {})
    for name in METRICS[task]:
        try:
            scores.values[name] = corr(p, y) if name == "corr" else _value(name, p, y)
        except UndefinedMetricError as error:
            scores.undefined[name] = str(error)
    return scores


def _value(metric: str, p: Floats, y: Floats) -> float:
    if not len(p):
        raise UndefinedMetricError("0 samples, but at least 1 is needed")
    # Contiguous rows are summed with the smallest rounding error.
    sums = np.ascontiguousarray(metric_terms(metric, p, y).T).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(metric_from_sums(metric, sums))
    if not np.isfinite(value):
        raise UndefinedMetricError(_UNDEFINED[metric])
    return value
