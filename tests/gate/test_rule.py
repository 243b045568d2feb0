"""Test the false alarms and the power of the gate's rule.

For 5 and for 10 seeds: of 400 simulated comparisons without a true difference at most 5 % fail on
any gated metric; of 400 with a true deterioration of 2.5 standard deviations of the paired
difference at least 90 % fail. Margins are one such deviation.
"""

from __future__ import annotations

import numpy as np
import pytest

from dhmd.evaluation.files import Identity, Predictions
from dhmd.evaluation.metrics import Scores, corr
from dhmd.gate.compare import PASS, REGRESSED, Evaluation, compare_metric, judge

TRIALS = 400
IDS = tuple(f"v{n // 5}[{n % 5}]" for n in range(150))
LABELS = np.clip(np.random.default_rng(0).normal(0, 1.5, len(IDS)), -3, 3)
SHARED = np.random.default_rng(1).normal(0, 0.6, len(IDS))
IDENTITY = Identity("demo", "regression", "c", "0")


def _simulate(rng: np.random.Generator, num_seeds: int, shrink: float = 0.0) -> Evaluation:
    """Simulate trainings of one model: a shared error, and noise per seed.

    `shrink` pulls the predictions to zero, which increases the error.
    """
    slopes = rng.normal(0.6 - shrink, 0.03, (num_seeds, 1))
    noise = rng.normal(0, 0.2, (num_seeds, len(IDS)))
    values = slopes * LABELS + SHARED + noise
    scores = {
        seed: Scores({"mae": np.abs(p - LABELS).mean(), "corr": corr(p, LABELS)}, {})
        for seed, p in enumerate(values)
    }
    return Evaluation(IDENTITY, Predictions(IDS, LABELS, tuple(range(num_seeds)), values), scores)


def _values(model: Evaluation, metric: str) -> np.ndarray:
    return np.array([scores.values[metric] for scores in model.scores.values()])


@pytest.fixture(scope="module")
def spread() -> dict[str, float]:
    """Return the standard deviation of the paired difference of two equal models, by metric."""
    rng = np.random.default_rng(2)
    old, new = _simulate(rng, 2000), _simulate(rng, 2000)
    return {m: float(np.std(_values(new, m) - _values(old, m))) for m in ("mae", "corr")}


@pytest.fixture(scope="module")
def shrink(spread: dict[str, float]) -> float:
    """Return the shrinkage that increases the MAE by 2.5 of these standard deviations."""

    def deterioration(value: float) -> float:
        old, new = (_simulate(np.random.default_rng(3), 500, v) for v in (0.0, value))
        return float((_values(new, "mae") - _values(old, "mae")).mean())

    low, high = 0.0, 0.5
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if deterioration(middle) < 2.5 * spread["mae"] else (low, middle)
    return high


def _fraction_failed(num_seeds: int, margins: dict[str, float], shrink: float) -> float:
    rng = np.random.default_rng(100 + num_seeds)
    failed = 0
    for _ in range(TRIALS):
        old, new = _simulate(rng, num_seeds), _simulate(rng, num_seeds, shrink)
        rows = [compare_metric(m, margin, old, new, 100) for m, margin in margins.items()]
        failed += any(row.verdict == REGRESSED for row in rows)
    return failed / TRIALS


@pytest.mark.parametrize("num_seeds", [5, 10])
def test_the_rule_has_few_false_alarms_and_high_power(num_seeds, spread, shrink, capsys):
    false_alarms = _fraction_failed(num_seeds, spread, 0.0)
    power = _fraction_failed(num_seeds, spread, shrink)
    with capsys.disabled():
        print(
            f"\ngate, n = {num_seeds}, MAE and correlation, {TRIALS} trials each: "
            f"{false_alarms:.2%} of unchanged models fail, "
            f"{power:.2%} of those worse by 2.5 sd of the paired difference"
        )
    assert false_alarms <= 0.05
    assert power >= 0.90


def test_the_rule_has_its_designed_error_rates_on_one_metric():
    # The design figures: 0.9 % false alarms and 97 % power, five seeds, one sd of margin.
    draws = np.random.default_rng(0).normal(size=(2000, 5))
    assert np.mean([judge(d, 1.0) == REGRESSED for d in draws]) < 0.015
    assert np.mean([judge(d + 2.0, 1.0) == REGRESSED for d in draws]) > 0.95


def test_both_conditions_are_needed():
    assert judge(np.array([0.1, 0.11, 0.12]), 0.05) == REGRESSED
    assert judge(np.array([0.1, 0.11, 0.12]), 0.2) == PASS
    assert judge(np.array([0.5, -0.3, 0.4]), 0.05) == PASS
    assert judge(np.array([-0.1, -0.11, -0.12]), 0.05) == PASS
    assert judge(np.full(5, 0.1), 0.1) == PASS
    assert judge(np.full(5, 0.1), 0.09) == REGRESSED
