"""Statistics of the scores: over seeds (Student's t) and over test utterances (bootstrap).

Utterances of one video are correlated, so the bootstrap resamples whole videos. Every metric is a
function of sums over utterances. The sums are computed once per video, and a resample is a row of
counts times these sums, without a loop over resamples.

The gate imports this module: SciPy's special functions are light, `scipy.stats` is not.

E ensemble members (seeds), N test utterances, V videos, R resamples, Q sums per metric.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit

from dhmd.evaluation.metrics import METRICS, Floats, Ints, from_sums, score, sum_terms

CONFIDENCE = 0.95
BOOTSTRAP_SEED = 20260204


def summary(values_E: Floats) -> dict[str, float]:
    """Return {"mean", "std"}; the sample standard deviation (n - 1) needs two values."""
    result = {"mean": float(np.mean(values_E))}
    if len(values_E) > 1:
        result["std"] = float(np.std(values_E, ddof=1))
    return result


@dataclass(frozen=True)
class Paired:
    """The result of `paired`.

    Attributes:
        low, high: two-sided 95 % confidence interval of the mean.
        lower, upper: one-sided 95 % bounds of the mean.
        p: two-sided p value of a mean of 0.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float
    lower: float
    upper: float
    p: float


def paired(differences_E: Floats) -> Paired:
    """Apply Student's t to at least two paired differences.

    Equal differences have no spread: the intervals shrink to the mean, and p is 1 if it is 0, else
    0.
    """
    n = len(differences_E)
    if n < 2:
        raise ValueError("a paired comparison needs at least two pairs")
    if np.all(differences_E == differences_E[0]):
        # The computed deviation of equal values may be slightly above zero.
        value = float(differences_E[0])
        return Paired(n, value, 0.0, value, value, value, value, float(value == 0))
    mean = float(np.mean(differences_E))
    sd = float(np.std(differences_E, ddof=1))
    error = sd / float(np.sqrt(n))
    two = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * error
    one = float(stdtrit(n - 1, CONFIDENCE)) * error
    p = 2 * float(stdtr(n - 1, -abs(mean) / error))
    return Paired(n, mean, sd, mean - two, mean + two, mean - one, mean + one, p)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Adjust a family of p values with Holm's step-down procedure; the keys stay."""
    adjusted: dict[str, float] = {}
    running = 0.0
    # The name breaks ties, so that the result does not depend on the order of keys.
    for rank, name in enumerate(sorted(p, key=lambda name: (p[name], name))):
        running = max(running, min(1.0, (len(p) - rank) * p[name]))
        adjusted[name] = running
    return {name: adjusted[name] for name in p}


def video_indices(ids: Sequence[str]) -> Ints:
    """Return the index of each utterance's video [N]; the utterance `v[3]` belongs to video `v`."""
    indices: dict[str, int] = {}
    videos = [name.rpartition("[")[0] or name for name in ids]
    return np.array([indices.setdefault(name, len(indices)) for name in videos], dtype=np.int64)


class Bootstrap:
    """Resamples of whole test videos; equal numbers of videos give equal draws.

    Args:
        ids: the N utterances.
        y_N: their labels: numbers, class indices, or sets of classes as numbers.
        resamples: the number R of resamples.

    Attributes:
        counts_RV: how often each resample contains each video.
    """

    def __init__(self, ids: Sequence[str], y_N: Floats, resamples: int) -> None:
        self.y_N, self.video_N = y_N, video_indices(ids)
        videos = int(self.video_N.max()) + 1
        generator = np.random.default_rng(BOOTSTRAP_SEED)
        chosen_RV = generator.integers(0, videos, size=(resamples, videos))
        chosen_RV += np.arange(resamples)[:, None] * videos
        counts = np.bincount(chosen_RV.ravel(), minlength=resamples * videos)
        self.counts_RV: Floats = counts.reshape(resamples, videos).astype(np.float64)

    def means(self, metric: str, p_EN: Floats) -> Floats:
        """Compute the metric's mean over seeds in each resample [R]; NaN where undefined."""
        terms_ENQ = sum_terms(metric, p_EN, np.broadcast_to(self.y_N, p_EN.shape))
        sums_VEQ = np.zeros((self.counts_RV.shape[1], len(p_EN), terms_ENQ.shape[2]))
        np.add.at(sums_VEQ, self.video_N, terms_ENQ.transpose(1, 0, 2))
        sums_REQ = np.tensordot(self.counts_RV, sums_VEQ, axes=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            values_R: Floats = from_sums(metric, sums_REQ).mean(1)
        return values_R


def percentile_interval(values_R: Floats) -> tuple[float, float] | None:
    """Return the 95 % percentile interval; None if fewer than half of the values are defined."""
    defined = values_R[np.isfinite(values_R)]
    if 2 * len(defined) < len(values_R) or len(defined) == 0:
        return None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def utterance_intervals(
    task: str, predictions: Mapping[int, Floats], bootstrap: Bootstrap
) -> dict[str, dict[str, float]]:
    """Return {metric: {low, high}}: intervals of the mean over seeds over test utterances.

    `predictions` are by seed, [N].
    """
    p_EN = np.array(list(predictions.values()))
    found = {metric: percentile_interval(bootstrap.means(metric, p_EN)) for metric in METRICS[task]}
    return {metric: {"low": ends[0], "high": ends[1]} for metric, ends in found.items() if ends}


def compare(
    task: str,
    full: Mapping[int, Floats],
    others: Mapping[str, Mapping[int, Floats]],
    bootstrap: Bootstrap,
    *,
    metrics: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Compare test predictions with those of the full model, paired by seed.

    Args:
        task: regression, classification or multilabel.
        full: seed → predictions [N] of the full model.
        others: name → seed → predictions [N].
        bootstrap: of the test utterances.
        metrics: those to compare; None for all of the task.

    Returns:
        {name: {metric: {mean, std, n, difference, ci_low, ci_high, utterances_low, utterances_high,
        p}}}, over the seeds that both have (over the other's own seeds if there is none). The
        difference is other - full with Student's two-sided 95 % interval over seeds;
        `utterances_*` bound it over test utterances. p is corrected by Holm's procedure over all
        names, separately per metric. With fewer than two common seeds only mean, std and n are
        given. A metric that a seed leaves undefined is omitted.
    """
    result: dict[str, Any] = {name: {} for name in others}
    full_scores, *other_scores = (
        {seed: score(task, p_N, bootstrap.y_N).values for seed, p_N in run.items()}
        for run in (full, *others.values())
    )
    scores = dict(zip(others, other_scores, strict=True))
    for metric in metrics or METRICS[task]:
        p_values: dict[str, float] = {}
        full_resampled: dict[tuple[int, ...], Floats] = {}
        for name, run in others.items():
            seeds = tuple(seed for seed in full if seed in run) or tuple(run)
            if any(metric not in scores[name][seed] for seed in seeds):
                continue
            values_E = np.array([scores[name][seed][metric] for seed in seeds])
            entry = result[name][metric] = {**summary(values_E), "n": len(seeds)}
            if len(seeds) < 2 or any(metric not in full_scores.get(seed, {}) for seed in seeds):
                continue
            found = paired(values_E - np.array([full_scores[seed][metric] for seed in seeds]))
            entry |= {"difference": found.mean, "ci_low": found.low, "ci_high": found.high}
            p_values[name] = found.p
            if seeds not in full_resampled:
                p_EN = np.array([full[seed] for seed in seeds])
                full_resampled[seeds] = bootstrap.means(metric, p_EN)
            p_EN = np.array([run[seed] for seed in seeds])
            ends = percentile_interval(bootstrap.means(metric, p_EN) - full_resampled[seeds])
            if ends:
                entry["utterances_low"], entry["utterances_high"] = ends
        for name, p in holm(p_values).items():
            result[name][metric]["p"] = p
    return result
