"""The ground truth and the videos of the synthetic corpus."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr

from dhmd.base.errors import DhmdError
from dhmd.data.synthetic import GeneratorConfig, oracle_mae
from dhmd.data.synthetic.latents import (
    MODALITIES,
    SHARED,
    TRUTH_SD,
    draw_ground_truth,
    plan_videos,
    to_label,
)

LARGE = GeneratorConfig(n_train=20000, n_valid=1, n_test=1)


def test_labels_have_noise_except_in_the_regime_clean() -> None:
    clean = draw_ground_truth(GeneratorConfig(regime="clean", n_train=20000))
    np.testing.assert_array_equal(clean.label_N, clean.truth_N)
    noisy = draw_ground_truth(GeneratorConfig(n_train=20000))
    np.testing.assert_array_equal(noisy.truth_N, clean.truth_N)
    # Clipping is rare near 0.
    middle = np.abs(noisy.truth_N) < 0.3
    inner = np.abs(noisy.label_N) < 1.3
    # P(|noise| < 1 standard deviation) = 0.6827.
    assert np.mean(inner[middle]) == pytest.approx(0.683, abs=0.025)
    assert np.mean(noisy.label_N[middle]) == pytest.approx(0.0, abs=0.05)


def test_the_noise_is_equal_in_all_splits() -> None:
    config = GeneratorConfig(n_train=4000, n_valid=4000, n_test=4000)
    planted = draw_ground_truth(config)
    error = np.abs(planted.label_N - planted.truth_N).reshape(3, 4000).mean(axis=1)
    assert np.ptp(error) < 0.06


def test_labels_are_multiples_of_a_fifth_within_the_range() -> None:
    np.testing.assert_allclose(to_label(np.array([3.4, -3.3, 0.29, 1.11])), [3.0, -3.0, 0.2, 1.2])
    label = draw_ground_truth(GeneratorConfig()).label_N
    assert np.abs(label).max() <= 3.0
    np.testing.assert_allclose(label / 0.2, np.round(label / 0.2), atol=1e-9)


def test_the_truth_is_the_documented_sum() -> None:
    shares = {"text": 0.2, "audio": 0.1, "vision": 0.3}
    planted = draw_ground_truth(GeneratorConfig(topic=0.0, exclusive=shares))
    exclusive_NM = planted.exclusive_NME[:, :, 0]
    raw = TRUTH_SD * (
        np.sqrt(0.4) * planted.shared_NS[:, 0]
        + np.sqrt(0.2) * exclusive_NM[:, 0]
        + np.sqrt(0.1) * exclusive_NM[:, 1]
        + np.sqrt(0.3) * exclusive_NM[:, 2]
    )
    np.testing.assert_allclose(planted.truth_N, to_label(raw), atol=1e-9)


def test_each_topic_has_a_centre_and_an_offset() -> None:
    planted = draw_ground_truth(
        GeneratorConfig(
            n_train=20000, topic=1.0, exclusive={"text": 0.0, "audio": 0.0, "vision": 0.0}
        )
    )
    for topic in range(6):
        rows = planted.topic_N == topic
        assert np.ptp(planted.truth_N[rows]) == 0.0
        centre = planted.shared_NS[rows, 1:].mean(axis=0)
        assert np.abs(centre).max() == pytest.approx(1.6, abs=0.05)
        assert np.sort(np.abs(centre))[1] < 0.05


def test_a_modality_misleads_as_often_as_configured() -> None:
    planted = draw_ground_truth(LARGE)
    for index, share in enumerate((0.08, 0.3, 0.3)):
        r = planted.reliability_NM[:, index]
        assert r.min() > 0
        assert r.max() < 1
        # 98 % of Beta(2, 6) are below 0.6, and almost all of Beta(30, 1.5) above.
        assert np.mean(r < 0.6) == pytest.approx(share, abs=0.02)


def test_the_reliability_scales_the_sentiment_but_not_its_magnitude() -> None:
    planted = draw_ground_truth(LARGE)
    for index in range(len(MODALITIES)):
        r = planted.reliability_NM[:, index]
        truth = planted.shared_NS[:, 0]
        exclusive_N = planted.exclusive_NME[:, index, 0]
        for latent, shown in (
            (truth, planted.shown_NMF[:, index, 0]),
            (exclusive_N, planted.shown_NMF[:, index, SHARED]),
        ):
            assert np.corrcoef(latent[r > 0.9], shown[r > 0.9])[0, 1] > 0.7
            assert np.corrcoef(latent[r < 0.2], shown[r < 0.2])[0, 1] < -0.3
            assert abs(spearmanr(r, np.abs(shown)).statistic) < 0.03
            assert shown.std() == pytest.approx(1.0, abs=0.03)
        content = planted.shown_NMF[:, index, 1]
        assert np.corrcoef(planted.shared_NS[r < 0.4, 1], content[r < 0.4])[0, 1] > 0.85


def test_no_cue_reveals_another_utterances_reliability() -> None:
    cued, hidden = draw_ground_truth(LARGE), draw_ground_truth(replace(LARGE, regime="no_cue"))
    np.testing.assert_array_equal(cued.cue_NM, cued.reliability_NM)
    np.testing.assert_array_equal(hidden.reliability_NM, cued.reliability_NM)
    np.testing.assert_array_equal(hidden.label_N, cued.label_N)
    np.testing.assert_array_equal(hidden.shown_NMF, cued.shown_NMF)
    np.testing.assert_array_equal(np.sort(hidden.cue_NM, axis=0), np.sort(cued.cue_NM, axis=0))
    for index in range(3):
        r, cue = hidden.reliability_NM[:, index], hidden.cue_NM[:, index]
        assert abs(spearmanr(r, cue).statistic) < 0.03


def test_the_interaction_reverses_the_sentiment_of_the_text() -> None:
    plain, mixed = draw_ground_truth(LARGE), draw_ground_truth(replace(LARGE, interaction=0.5))
    reversed_N = mixed.reversed_N
    assert not plain.reversed_N.any()
    assert np.mean(reversed_N) == pytest.approx(0.5, abs=0.02)
    np.testing.assert_array_equal(mixed.label_N, plain.label_N)
    np.testing.assert_array_equal(mixed.shown_NMF[:, 1:], plain.shown_NMF[:, 1:])
    np.testing.assert_array_equal(mixed.shown_NMF[~reversed_N], plain.shown_NMF[~reversed_N])
    for latent in (0, SHARED):
        text = mixed.shown_NMF[:, 0, latent]
        other = np.corrcoef(text[~reversed_N], mixed.truth_N[~reversed_N])[0, 1]
        reverse = np.corrcoef(text[reversed_N], mixed.truth_N[reversed_N])[0, 1]
        assert other > 0.25
        assert reverse == pytest.approx(-other, abs=0.04)
        assert abs(np.corrcoef(text, mixed.truth_N)[0, 1]) < 0.03


def test_the_interaction_is_not_additive_over_modalities() -> None:
    mixed = draw_ground_truth(replace(LARGE, interaction=0.5))
    sign_N1 = 1.0 - 2.0 * mixed.reversed_N[:, None]
    sentiment_NMS = mixed.shown_NMF[:, :, [0, SHARED]]

    def explained(*columns: NDArray[Any]) -> float:
        """Fit the first half by least squares, and return R² on the second."""
        x, y = np.column_stack([*columns, np.ones(len(mixed.truth_N))]), mixed.truth_N
        half = len(y) // 2
        weights = np.linalg.lstsq(x[:half], y[:half], rcond=None)[0]
        return float(1 - np.var(y[half:] - x[half:] @ weights) / np.var(y[half:]))

    def curves(values_NS: NDArray[Any]) -> NDArray[Any]:
        """Return hinge functions of each column, so that the fit is additive but not linear."""
        knots = np.linspace(-2, 2, 9)
        return np.maximum(values_NS[:, :, None] - knots, 0).reshape(len(values_NS), -1)

    text, others = sentiment_NMS[:, 0], sentiment_NMS[:, 1:].reshape(len(sign_N1), -1)
    without = explained(curves(others), others)
    additive = explained(curves(text), text, sign_N1, curves(others), others)
    assert additive == pytest.approx(without, abs=0.01)
    assert explained(text * sign_N1, others) > additive + 0.2


@pytest.mark.parametrize(
    ("n_train", "n_valid", "n_test"), [(600, 200, 320), (1, 2, 4), (10, 11, 12), (100, 9, 10)]
)
def test_each_split_has_the_configured_number_of_utterances(
    n_train: int, n_valid: int, n_test: int
) -> None:
    videos = plan_videos(GeneratorConfig(n_train=n_train, n_valid=n_valid, n_test=n_test))
    for split, total in (("train", n_train), ("valid", n_valid), ("test", n_test)):
        counts = [video.num_segments for video in videos if video.split == split]
        assert sum(counts) == total
        assert max(counts) <= 9
        assert total < 3 or min(counts) >= 3
    assert all(b.first == a.first + a.num_segments for a, b in pairwise(videos))


def test_ids_are_unique_and_one_is_a_prefix_of_another() -> None:
    videos = plan_videos(GeneratorConfig())
    splits = {video.id: video.split for video in videos}
    assert len(splits) == len(videos)
    assert (splits["25522"], splits["255224"]) == ("train", "test")


def test_a_shifted_or_scaled_truth_is_worse_than_the_oracle() -> None:
    planted = draw_ground_truth(GeneratorConfig(n_train=20000))
    best = oracle_mae(planted.truth_N, planted.label_N)
    for other in (planted.truth_N + 0.2, planted.truth_N - 0.2, 0.9 * planted.truth_N):
        assert best < oracle_mae(other, planted.label_N)


def test_arrays_of_different_shapes_are_errors() -> None:
    with pytest.raises(DhmdError, match=r"\(2,\) for \(3,\)"):
        oracle_mae(np.zeros(2), np.zeros(3))
    with pytest.raises(DhmdError):
        oracle_mae(np.zeros(0), np.zeros(0))
