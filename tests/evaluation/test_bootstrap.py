"""The sums must give what the metrics give on the resampled utterances themselves."""

from __future__ import annotations

import numpy as np
import pytest

from dhmd.evaluation.bootstrap import draw, groups_of, interval, resampled, video_of
from dhmd.evaluation.metrics import METRICS, score


def _problem(task: str):
    rng = np.random.default_rng(3)
    groups = np.repeat(np.arange(7), [1, 5, 3, 4, 2, 6, 9])
    if task == "classification":
        y = rng.integers(0, 3, len(groups)).astype(float)
        p = np.where(rng.random((4, len(groups))) < 0.6, y, rng.integers(0, 4, (4, len(groups))))
        return p.astype(float), y, groups
    y = np.round(rng.normal(0, 1.5, len(groups)), 0)
    return y + rng.normal(0, 1, (4, len(groups))), y, groups


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_every_metric_equals_scoring_the_drawn_utterances(task):
    p, y, groups = _problem(task)
    counts = draw(7, 100)
    for metric in METRICS[task]:
        found = resampled(metric, p, y, groups, counts)
        for row in range(0, 100, 7):
            drawn = np.repeat(np.arange(len(y)), counts[row, groups].astype(int))
            plain = [score(task, seed[drawn], y[drawn]).values.get(metric) for seed in p]
            assert found[row] == pytest.approx(np.mean(plain), abs=1e-12), metric


def test_draws_hold_as_many_videos_as_there_are_and_do_not_change():
    counts = draw(9, 200)
    assert counts.shape == (200, 9)
    assert (counts.sum(1) == 9).all()
    assert abs(counts.mean(0) - 1).max() < 0.25
    assert (draw(9, 200) == counts).all()


def test_a_resample_that_defines_nothing_is_nan_and_left_out():
    # One video holds everything but one utterance: a draw of the other alone has no correlation.
    p, y = np.array([[0.1, 0.7, -1.2, 0.4]]), np.array([0.3, 1.0, -1.0, 0.2])
    groups = np.array([0, 1, 1, 1])
    counts = np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    found = resampled("corr", p, y, groups, counts)
    assert np.isnan(found[0])
    assert np.isfinite(found[1:]).all()
    assert interval(np.array([np.nan, 1.0, 3.0])) == pytest.approx((1.05, 2.95))
    assert interval(np.array([np.nan, np.nan, 3.0])) is None


def test_intervals_are_wider_by_video_than_by_utterance():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 10)
    y = np.zeros(300)
    p = (rng.normal(size=30)[groups] + 0.1 * rng.normal(size=300))[None]
    by_video = interval(resampled("mae", p, y, groups, draw(30, 500)))
    one_by_one = interval(resampled("mae", p, y, np.arange(300), draw(300, 500)))
    assert by_video is not None
    assert one_by_one is not None
    assert by_video[1] - by_video[0] > 2 * (one_by_one[1] - one_by_one[0])


def test_videos_are_read_off_the_ids():
    assert video_of("a[b][12]") == "a[b]"
    assert groups_of(["x[0]", "x[1]", "y[0]", "x[7]"]).tolist() == [0, 0, 1, 0]
