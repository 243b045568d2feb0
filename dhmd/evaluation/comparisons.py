"""Ablations, baselines and withheld modalities: differences from the full model, seed by seed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dhmd.evaluation.bootstrap import draw, interval, resampled
from dhmd.evaluation.metrics import METRICS, Floats, Ints
from dhmd.evaluation.statistics import Paired, holm, paired, summary
from dhmd.evaluation.summary import SeedValues


def compare(
    task: str,
    full: Mapping[int, Floats],
    others: Mapping[str, Mapping[int, Floats]],
    scores: Mapping[str, SeedValues],
    full_scores: SeedValues,
    labels: Floats,
    groups: Ints,
    resamples: int,
) -> dict[str, Any]:
    """{other: {metric: {mean, std, n, difference, ci_low, ci_high, p, …}}} on the test split.

    All over the seeds that both have (over the other's own where there is no such seed). The
    difference is other − full with Student's two-sided 95 % interval; p is Holm-corrected over the
    others, for each metric apart. `utterances_low` and `utterances_high` bound the same difference
    over test utterances instead of seeds (bootstrap clustered by video). With fewer than two common
    seeds only mean, std and n are given; a metric that a seed leaves undefined is left out.

    Args:
        full, others: test predictions [N] by seed, of the full model and by name.
        scores, full_scores: the same predictions' scores by seed.
        labels, groups: test labels and video numbers [N].
    """
    result: dict[str, Any] = {name: {} for name in others}
    counts = draw(int(groups.max()) + 1, resamples)
    seeds = {name: _seeds(full, others[name]) for name in others}
    for metric in METRICS[task]:
        seen: dict[str, Paired] = {}
        drawn: dict[tuple[int, ...], Floats] = {}
        for name, rows in scores.items():
            chosen = seeds[name]
            if any(metric not in rows[seed] for seed in chosen):
                continue
            values = np.array([rows[seed][metric] for seed in chosen])
            entry = result[name][metric] = {**summary(values), "n": len(values)}
            base = [full_scores.get(seed, {}).get(metric) for seed in chosen]
            if len(chosen) < 2 or any(value is None for value in base):
                continue
            seen[name] = found = paired(values - np.array(base, dtype=np.float64))
            entry |= {"difference": found.mean, "ci_low": found.low, "ci_high": found.high}
            if chosen not in drawn:
                drawn[chosen] = resampled(metric, _stack(full, chosen), labels, groups, counts)
            other = resampled(metric, _stack(others[name], chosen), labels, groups, counts)
            if over_utterances := interval(other - drawn[chosen]):
                entry["utterances_low"], entry["utterances_high"] = over_utterances
        for name, p in holm({name: found.p for name, found in seen.items()}).items():
            result[name][metric]["p"] = p
    return result


def utterance_intervals(
    task: str, full: Mapping[int, Floats], labels: Floats, groups: Ints, resamples: int
) -> dict[str, dict[str, float]]:
    """{metric: {low, high}} of the seeds' mean over test utterances, clustered by video."""
    counts = draw(int(groups.max()) + 1, resamples)
    values = np.array(list(full.values()))
    found = {
        metric: interval(resampled(metric, values, labels, groups, counts))
        for metric in METRICS[task]
    }
    return {metric: {"low": x[0], "high": x[1]} for metric, x in found.items() if x}


def _seeds(full: Mapping[int, Floats], other: Mapping[int, Floats]) -> tuple[int, ...]:
    return tuple(seed for seed in full if seed in other) or tuple(other)


def _stack(by_seed: Mapping[int, Floats], seeds: tuple[int, ...]) -> Floats:
    return np.array([by_seed[seed] for seed in seeds])
