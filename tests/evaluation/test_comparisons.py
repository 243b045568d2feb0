"""Paired comparisons against scipy on the same scores."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dhmd.evaluation.bootstrap import groups_of
from dhmd.evaluation.comparisons import compare, utterance_intervals
from dhmd.evaluation.metrics import METRICS, score

IDS = [f"v{n // 4}[{n % 4}]" for n in range(60)]


def _runs():
    rng = np.random.default_rng(1)
    labels = np.round(rng.normal(0, 1.5, 60), 1)
    full = {s: labels + rng.normal(0, 0.7, 60) for s in (1, 2, 3, 4, 5)}
    others = {
        "bad": {s: full[s] + rng.normal(0, 0.8, 60) for s in full},
        "same": dict(full),
        "short": {s: labels + rng.normal(0, 1.0, 60) for s in (5, 2, 9)},
        "flat": {s: np.zeros(60) for s in full},
        "alone": {7: labels + 1.0},
    }
    return labels, full, others


def _compared():
    labels, full, others = _runs()
    scored = {
        name: {s: score("regression", p, labels).values for s, p in runs.items()}
        for name, runs in {"full": full, **others}.items()
    }
    full_scores = scored.pop("full")
    found = compare("regression", full, others, scored, full_scores, labels, groups_of(IDS), 300)
    return labels, full, others, found


def test_differences_are_paired_by_seed():
    labels, full, others, found = _compared()
    entry = found["bad"]["mae"]
    errors = {
        name: np.array([np.abs(runs[s] - labels).mean() for s in full])
        for name, runs in (("full", full), ("bad", others["bad"]))
    }
    oracle = stats.ttest_rel(errors["bad"], errors["full"])
    assert entry["n"] == 5
    assert entry["mean"] == pytest.approx(errors["bad"].mean())
    assert entry["difference"] == pytest.approx((errors["bad"] - errors["full"]).mean())
    interval = oracle.confidence_interval(0.95)
    assert (entry["ci_low"], entry["ci_high"]) == pytest.approx((interval.low, interval.high))
    # Four variants are compared in MAE (`alone` shares no seed); two more have smaller p values.
    assert oracle.pvalue <= entry["p"] <= 4 * oracle.pvalue
    assert 0 < entry["utterances_low"] < entry["difference"] < entry["utterances_high"]


def test_the_same_predictions_differ_in_nothing():
    entry = _compared()[3]["same"]["corr"]
    assert (entry["difference"], entry["ci_low"], entry["ci_high"], entry["p"]) == (0, 0, 0, 1)
    assert (entry["utterances_low"], entry["utterances_high"]) == (0, 0)


def test_only_common_seeds_count():
    labels, full, others, found = _compared()
    entry = found["short"]["mae"]
    differences = [
        np.abs(others["short"][s] - labels).mean() - np.abs(full[s] - labels).mean() for s in (2, 5)
    ]
    assert entry["n"] == 2
    assert entry["difference"] == pytest.approx(np.mean(differences))
    assert set(found["alone"]["mae"]) == {"mean", "n"}
    assert found["alone"]["mae"]["mean"] == pytest.approx(1.0)


def test_undefined_metrics_are_left_out():
    found = _compared()[3]
    assert "corr" not in found["flat"]
    assert set(found["flat"]) == set(METRICS["regression"]) - {"corr"}


def test_holm_is_over_the_variants_of_each_metric():
    found = _compared()[3]
    p = {name: entry["mae"]["p"] for name, entry in found.items() if "p" in entry["mae"]}
    assert set(p) == {"bad", "same", "short", "flat"}
    assert p["same"] == 1.0


def test_intervals_hold_the_value():
    labels, full, _ = _runs()
    found = utterance_intervals("regression", full, labels, groups_of(IDS), 300)
    for metric, ends in found.items():
        value = np.mean([score("regression", p, labels).values[metric] for p in full.values()])
        assert ends["low"] < value < ends["high"]
    assert set(found) == set(METRICS["regression"])
