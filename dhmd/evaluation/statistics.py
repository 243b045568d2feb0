"""Statistics of the scores: over seeds (Student's t) and over test utterances (bootstrap).

Utterances of one video are correlated, so the bootstrap resamples whole videos. Every metric is a
function of sums over utterances. The sums are computed once per video and multiplied by the number
of times that a resample contains the video, without a loop over resamples.

The gate imports this module. `scipy.special` imports quickly, `scipy.stats` does not.

E ensemble members (seeds), N test utterances, V videos, R resamples, Q sums per metric.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit

from dhmd.evaluation.metrics import METRICS, Floats, Ints, metric_from_sums, metric_terms, score

CONFIDENCE = 0.95
BOOTSTRAP_SEED = 20260204


def mean_and_std(values_E: Floats) -> dict[str, float]:
    """Return {"mean", "std"}: "std" is the sample standard deviation, omitted for one value."""
    result = {"mean": float(np.mean(values_E))}
    if len(values_E) > 1:
        result["std"] = float(np.std(values_E, ddof=1))
    return result


@dataclass(frozen=True)
class PairedTest:
    """The result of `paired_t_test`.

    Attributes:
        n: number of pairs.
        mean, sd: mean and sample standard deviation of the differences.
        low, high: two-sided 95 % confidence interval of the mean.
        lower, upper: one-sided 95 % bounds of the mean.
        p: p value of the two-sided test that the mean is 0.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float
    lower: float
    upper: float
    p: float


def paired_t_test(differences_E: Floats) -> PairedTest:
    """Apply Student's t-test to at least two paired differences.

    If all differences are equal, every bound is the mean, and p is 1 for a mean of 0 and 0 for any
    other.
    """
    n = len(differences_E)
    if n < 2:
        raise ValueError("a paired comparison needs at least two pairs")
    if np.all(differences_E == differences_E[0]):
        # The computed deviation of equal values may be slightly above zero.
        value = float(differences_E[0])
        return PairedTest(n, value, 0.0, value, value, value, value, float(value == 0))
    mean = float(np.mean(differences_E))
    sd = float(np.std(differences_E, ddof=1))
    error = sd / float(np.sqrt(n))
    half_width = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * error
    distance = float(stdtrit(n - 1, CONFIDENCE)) * error
    p = 2 * float(stdtr(n - 1, -abs(mean) / error))
    return PairedTest(
        n=n,
        mean=mean,
        sd=sd,
        low=mean - half_width,
        high=mean + half_width,
        lower=mean - distance,
        upper=mean + distance,
        p=p,
    )


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Return the p values of a family of tests, by name, adjusted by Holm's step-down procedure."""
    adjusted: dict[str, float] = {}
    running = 0.0
    # The name breaks ties, so that the result does not depend on the order of keys.
    for rank, name in enumerate(sorted(p, key=lambda name: (p[name], name))):
        running = max(running, min(1.0, (len(p) - rank) * p[name]))
        adjusted[name] = running
    return {name: adjusted[name] for name in p}


def video_of(utterance: str) -> str:
    """Return the video of an utterance: `v` for the id `v[3]`, else the whole id."""
    return utterance.rpartition("[")[0] or utterance


def video_indices(ids: Sequence[str]) -> Ints:
    """Return the index of each utterance's video [N], numbered in order of appearance."""
    indices: dict[str, int] = {}
    return np.array(
        [indices.setdefault(video_of(id_), len(indices)) for id_ in ids], dtype=np.int64
    )


class Bootstrap:
    """Bootstrap resamples of whole test videos.

    The random seed is fixed: corpora with the same number of videos have the same resamples.

    Args:
        ids: ids of the N utterances.
        y_N: labels: numbers, class indices, or sets of classes encoded as numbers.
        num_resamples: the number R of resamples.

    Attributes:
        counts_RV: how often each resample contains each video.
    """

    def __init__(self, ids: Sequence[str], y_N: Floats, num_resamples: int) -> None:
        self.y_N, self.video_N = y_N, video_indices(ids)
        videos = int(self.video_N.max()) + 1
        generator = np.random.default_rng(BOOTSTRAP_SEED)
        chosen_RV = generator.integers(0, videos, size=(num_resamples, videos))
        chosen_RV += np.arange(num_resamples)[:, None] * videos
        counts = np.bincount(chosen_RV.ravel(), minlength=num_resamples * videos)
        self.counts_RV: Floats = counts.reshape(num_resamples, videos).astype(np.float64)

    def means(self, metric: str, p_EN: Floats) -> Floats:
        """Compute the metric's mean over seeds in each resample [R]; NaN where undefined."""
        terms_ENQ = metric_terms(metric, p_EN, np.broadcast_to(self.y_N, p_EN.shape))
        sums_VEQ = np.zeros((self.counts_RV.shape[1], len(p_EN), terms_ENQ.shape[2]))
        np.add.at(sums_VEQ, self.video_N, terms_ENQ.transpose(1, 0, 2))
        sums_REQ = np.tensordot(self.counts_RV, sums_VEQ, axes=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            values_R: Floats = metric_from_sums(metric, sums_REQ).mean(1)
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
    """Compute intervals over test utterances of every metric's mean over seeds.

    Args:
        task: regression, classification or multilabel.
        predictions: predictions [N] of each seed.
        bootstrap: resamples of the test utterances.

    Returns:
        {metric: {low, high}}: 95 % intervals; metrics that too few resamples define are omitted.
    """
    p_EN = np.array(list(predictions.values()))
    intervals = {m: percentile_interval(bootstrap.means(m, p_EN)) for m in METRICS[task]}
    return {
        metric: {"low": interval[0], "high": interval[1]}
        for metric, interval in intervals.items()
        if interval
    }


def compare_with_full(
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
        full: predictions [N] of the full model by seed.
        others: predictions [N] of the other models, by name and seed.
        bootstrap: resamples of the test utterances.
        metrics: the metrics to compare; None for all metrics of the task.

    Returns:
        {name: {metric: {mean, std, n, difference, ci_low, ci_high, utterances_low, utterances_high,
        p}}}, over the n seeds that both models have (over all seeds of the other model if they have
        none in common). `difference` is other - full, `ci_*` its two-sided 95 % interval over seeds
        (Student's t), `utterances_*` its 95 % interval over test utterances. `p` is corrected by
        Holm's procedure over all names, separately per metric. With fewer than two common seeds,
        there are only mean, std and n. A metric that is undefined for a seed is omitted.
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
            entry = result[name][metric] = {**mean_and_std(values_E), "n": len(seeds)}
            if len(seeds) < 2 or any(metric not in full_scores.get(seed, {}) for seed in seeds):
                continue
            full_E = np.array([full_scores[seed][metric] for seed in seeds])
            test = paired_t_test(values_E - full_E)
            entry |= {"difference": test.mean, "ci_low": test.low, "ci_high": test.high}
            p_values[name] = test.p
            if seeds not in full_resampled:
                p_EN = np.array([full[seed] for seed in seeds])
                full_resampled[seeds] = bootstrap.means(metric, p_EN)
            p_EN = np.array([run[seed] for seed in seeds])
            resampled = bootstrap.means(metric, p_EN) - full_resampled[seeds]
            if interval := percentile_interval(resampled):
                entry["utterances_low"], entry["utterances_high"] = interval
        for name, p in holm(p_values).items():
            result[name][metric]["p"] = p
    return result
