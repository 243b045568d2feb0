"""Against scipy.stats, and Holm's procedure by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from dhmd.evaluation.metrics import UndefinedMetricError
from dhmd.evaluation.statistics import holm, paired, ranks, spearman, summary


def test_summary_is_the_sample_deviation():
    assert summary(np.array([1.0, 2.0, 4.0])) == {
        "mean": pytest.approx(7 / 3),
        "std": pytest.approx(np.sqrt(7 / 3)),
    }
    assert summary(np.array([2.5])) == {"mean": 2.5}


@pytest.mark.parametrize("n", [2, 5, 10])
def test_paired_equals_scipy(n):
    values = np.random.default_rng(n).normal(0.3, 1, n)
    found = paired(values)
    oracle = stats.ttest_1samp(values, 0.0)
    assert found.n == n
    assert found.mean == pytest.approx(values.mean())
    assert found.sd == pytest.approx(values.std(ddof=1))
    assert found.p == pytest.approx(oracle.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(oracle.confidence_interval(0.95)))
    # A two-sided 90 % interval has the one-sided 95 % bounds for its ends.
    assert (found.lower, found.upper) == pytest.approx(tuple(oracle.confidence_interval(0.90)))


def test_equal_differences_have_no_spread():
    found = paired(np.full(3, 0.1))
    assert (found.sd, found.low, found.high, found.lower, found.p) == (0, 0.1, 0.1, 0.1, 0)
    assert paired(np.zeros(4)).p == 1.0
    with pytest.raises(ValueError, match="two pairs"):
        paired(np.ones(1))


def test_holm_by_hand():
    # Sorted .01 .03 .04: times 3, 2, 1 is .03 .06 .04; made monotone .03 .06 .06.
    adjusted = holm({"a": 0.04, "b": 0.01, "c": 0.03})
    assert adjusted == pytest.approx({"a": 0.06, "b": 0.03, "c": 0.06})
    assert list(adjusted) == ["a", "b", "c"]
    assert holm({"a": 0.6, "b": 0.9}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def test_ranks_and_spearman_equal_scipy_with_ties():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, 50).astype(float), rng.normal(size=50)
    assert ranks(a) == pytest.approx(stats.rankdata(a))
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    with pytest.raises(UndefinedMetricError):
        spearman(np.ones(5), b[:5])
