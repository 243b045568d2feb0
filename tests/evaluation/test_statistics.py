"""Compare statistics with scipy.stats, hand calculations, and scores of resampled utterances."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dhmd.evaluation.metrics import METRICS, score
from dhmd.evaluation.statistics import (
    Bootstrap,
    compare_with_full,
    holm,
    mean_and_std,
    paired_t_test,
    percentile_interval,
    utterance_intervals,
    video_indices,
)

IDS = [f"v{n // 4}[{n % 4}]" for n in range(60)]


def ids_of(video_N: np.ndarray) -> list[str]:
    return [f"v{video}[{n}]" for n, video in enumerate(video_N)]


def test_std_is_the_sample_deviation():
    assert mean_and_std(np.array([1.0, 2.0, 4.0])) == {
        "mean": pytest.approx(7 / 3),
        "std": pytest.approx(np.sqrt(7 / 3)),
    }
    assert mean_and_std(np.array([2.5])) == {"mean": 2.5}


@pytest.mark.parametrize("n", [2, 5, 10])
def test_paired_t_test_equals_scipy(n):
    values = np.random.default_rng(n).normal(0.3, 1, n)
    result = paired_t_test(values)
    expected = stats.ttest_1samp(values, 0.0)
    assert (result.n, result.mean) == (n, pytest.approx(values.mean()))
    assert (result.sd, result.p) == pytest.approx((values.std(ddof=1), expected.pvalue))
    assert (result.low, result.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    # The ends of a two-sided 90 % interval are the one-sided 95 % bounds.
    assert (result.lower, result.upper) == pytest.approx(tuple(expected.confidence_interval(0.90)))


def test_equal_differences_have_no_spread():
    result = paired_t_test(np.full(3, 0.1))
    assert (result.sd, result.low, result.high, result.lower, result.p) == (0, 0.1, 0.1, 0.1, 0)
    assert paired_t_test(np.zeros(4)).p == 1.0
    with pytest.raises(ValueError, match="two pairs"):
        paired_t_test(np.ones(1))


def test_holm_equals_a_hand_calculation():
    # Sorted .01 .03 .04: times 3, 2, 1 is .03 .06 .04; made monotone .03 .06 .06.
    adjusted = holm({"a": 0.04, "b": 0.01, "c": 0.03})
    assert adjusted == pytest.approx({"a": 0.06, "b": 0.03, "c": 0.06})
    assert list(adjusted) == ["a", "b", "c"]
    assert holm({"a": 0.6, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_videos_are_numbered_in_order_of_appearance():
    ids = ["x[0]", "x[1]", "a[b][12]", "x[7]", "a[b][3]", "plain"]
    assert video_indices(ids).tolist() == [0, 0, 1, 0, 1, 2]


def _predictions(task: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    video_N = np.repeat(np.arange(7), [1, 5, 3, 4, 2, 6, 9])
    n = len(video_N)
    if task == "classification":
        y_N = rng.integers(0, 3, n).astype(float)
        p_EN = np.where(rng.random((4, n)) < 0.6, y_N, rng.integers(0, 4, (4, n)))
        return p_EN.astype(float), y_N, video_N
    if task == "multilabel":  # numbers with a leading 1 and three digits
        y_N = rng.integers(8, 16, n).astype(float)
        p_EN = np.where(rng.random((4, n)) < 0.6, y_N, rng.integers(8, 16, (4, n)))
        return p_EN.astype(float), y_N, video_N
    y_N = np.round(rng.normal(0, 1.5, n), 0)
    return y_N + rng.normal(0, 1, (4, n)), y_N, video_N


@pytest.mark.parametrize("task", ["regression", "classification", "multilabel"])
def test_bootstrap_equals_scoring_the_resampled_utterances(task):
    p_EN, y_N, video_N = _predictions(task)
    bootstrap = Bootstrap(ids_of(video_N), y_N, 100)
    for metric in METRICS[task]:
        means_R = bootstrap.means(metric, p_EN)
        for r in range(0, 100, 7):
            rows = np.repeat(np.arange(len(y_N)), bootstrap.counts_RV[r, video_N].astype(int))
            plain = [score(task, p_N[rows], y_N[rows]).values.get(metric) for p_N in p_EN]
            assert means_R[r] == pytest.approx(np.mean(plain), abs=1e-12), metric


def test_resamples_have_the_number_of_videos_and_are_deterministic():
    ids = ids_of(np.arange(9))
    counts_RV = Bootstrap(ids, np.zeros(9), 200).counts_RV
    assert counts_RV.shape == (200, 9)
    assert (counts_RV.sum(1) == 9).all()
    assert abs(counts_RV.mean(0) - 1).max() < 0.25
    assert (Bootstrap(ids, np.ones(9), 200).counts_RV == counts_RV).all()


def test_undefined_resamples_are_nan_and_left_out():
    # A resample of video 0 alone has one utterance and no correlation.
    p_EN, y_N = np.array([[0.1, 0.7, -1.2, 0.4]]), np.array([0.3, 1.0, -1.0, 0.2])
    bootstrap = Bootstrap(ids_of(np.array([0, 1, 1, 1])), y_N, 3)
    bootstrap.counts_RV = np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    means_R = bootstrap.means("corr", p_EN)
    assert np.isnan(means_R).tolist() == [True, False, False]
    assert percentile_interval(np.array([np.nan, 1.0, 3.0])) == pytest.approx((1.05, 2.95))
    assert percentile_interval(np.array([np.nan, np.nan, 3.0])) is None


def test_intervals_are_wider_by_video_than_by_utterance():
    rng = np.random.default_rng(0)
    video_N = np.repeat(np.arange(30), 10)
    p_EN = (rng.normal(size=30)[video_N] + 0.1 * rng.normal(size=300))[None]
    widths = []
    for groups_N in (video_N, np.arange(300)):
        bootstrap = Bootstrap(ids_of(groups_N), np.zeros(300), 500)
        interval = percentile_interval(bootstrap.means("mae", p_EN))
        assert interval is not None
        widths.append(interval[1] - interval[0])
    assert widths[0] > 2 * widths[1]


@pytest.fixture(scope="module")
def runs():
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


@pytest.fixture(scope="module")
def comparison(runs):
    labels, full, others = runs
    return compare_with_full("regression", full, others, Bootstrap(IDS, labels, 300))


def test_differences_are_paired_by_seed(runs, comparison):
    labels, full, others = runs
    bad, same = (
        np.array([np.abs(run[s] - labels).mean() for s in full]) for run in (others["bad"], full)
    )
    expected = stats.ttest_rel(bad, same)
    entry = comparison["bad"]["mae"]
    assert (entry["n"], entry["mean"]) == (5, pytest.approx(bad.mean()))
    assert entry["difference"] == pytest.approx((bad - same).mean())
    interval = tuple(expected.confidence_interval(0.95))
    assert (entry["ci_low"], entry["ci_high"]) == pytest.approx(interval)
    assert 0 < entry["utterances_low"] < entry["difference"] < entry["utterances_high"]
    # Four variants are compared in MAE: `alone` shares no seed.
    p = {name: metrics["mae"]["p"] for name, metrics in comparison.items() if "p" in metrics["mae"]}
    assert set(p) == {"bad", "same", "short", "flat"}
    assert expected.pvalue <= p["bad"] <= 4 * expected.pvalue


def test_equal_predictions_have_no_difference(comparison):
    entry = comparison["same"]["corr"]
    assert (entry["difference"], entry["ci_low"], entry["ci_high"], entry["p"]) == (0, 0, 0, 1)
    assert (entry["utterances_low"], entry["utterances_high"]) == (0, 0)


def test_only_common_seeds_are_compared(runs, comparison):
    labels, full, others = runs
    entry = comparison["short"]["mae"]
    differences = [
        np.abs(others["short"][s] - labels).mean() - np.abs(full[s] - labels).mean() for s in (2, 5)
    ]
    assert (entry["n"], entry["difference"]) == (2, pytest.approx(np.mean(differences)))
    assert comparison["alone"]["mae"] == {"mean": pytest.approx(1.0), "n": 1}


def test_undefined_metrics_are_omitted(comparison):
    assert set(comparison["flat"]) == set(METRICS["regression"]) - {"corr"}


def test_utterance_intervals_contain_the_value(runs):
    labels, full, _ = runs
    intervals = utterance_intervals("regression", full, Bootstrap(IDS, labels, 300))
    assert set(intervals) == set(METRICS["regression"])
    for metric, interval in intervals.items():
        value = np.mean([score("regression", p, labels).values[metric] for p in full.values()])
        assert interval["low"] < value < interval["high"]
