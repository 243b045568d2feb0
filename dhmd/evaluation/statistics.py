"""Means, paired intervals and corrections: what the tables and the gate say of differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from dhmd.evaluation.bootstrap import CONFIDENCE
from dhmd.evaluation.metrics import Floats, corr


def summary(values: Floats) -> dict[str, float]:
    """{"mean", "std"}; the sample's standard deviation (n - 1), left out for one value."""
    result = {"mean": float(np.mean(values))}
    if len(values) > 1:
        result["std"] = float(np.std(values, ddof=1))
    return result


@dataclass(frozen=True)
class Paired:
    """What n paired differences say of their mean.

    low, high: two-sided 95 % t interval; lower, upper: the one-sided 95 % bounds; p: two-sided.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float
    lower: float
    upper: float
    p: float


def paired(differences: Floats) -> Paired:
    """Student's t on n ≥ 2 paired differences.

    Equal differences have no spread: the intervals shrink to the mean, and p is 1 for no difference
    at all, else 0.
    """
    n = len(differences)
    if n < 2:
        raise ValueError("a paired comparison needs at least two pairs")
    if np.all(differences == differences[0]):
        # Said outright: the computed deviation of equal values may be a little above zero.
        value = float(differences[0])
        return Paired(n, value, 0.0, value, value, value, value, float(value == 0))
    mean = float(np.mean(differences))
    sd = float(np.std(differences, ddof=1))
    error = sd / float(np.sqrt(n))
    two = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * error
    one = float(stdtrit(n - 1, CONFIDENCE)) * error
    p = 2 * float(stdtr(n - 1, -abs(mean) / error))
    return Paired(n, mean, sd, mean - two, mean + two, mean - one, mean + one, p)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjustment of a family of p values, same keys."""
    adjusted: dict[str, float] = {}
    running = 0.0
    # The name breaks ties, so that the order of keys changes nothing.
    for rank, name in enumerate(sorted(p, key=lambda name: (p[name], name))):
        running = max(running, min(1.0, (len(p) - rank) * p[name]))
        adjusted[name] = running
    return {name: adjusted[name] for name in p}


def ranks(values: Floats) -> Floats:
    """Ranks from 1, ties sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean_rank: NDArray[np.float64] = last - (counts - 1) / 2
    return mean_rank[inverse]


def spearman(a: Floats, b: Floats) -> float:
    """Spearman's rank correlation.

    Raises:
        UndefinedMetricError: a side is constant, or fewer than two samples.
    """
    return corr(ranks(a), ranks(b))
