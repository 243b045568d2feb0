"""Compare edge and dictionary statistics with scipy and plain loops."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from dhmd.evaluation.interpretability import (
    dictionary_summary,
    edge_summary,
    latent_overlap,
    spearman,
)
from dhmd.evaluation.metrics import UndefinedMetricError

MODALITIES = ("text", "physio")


@pytest.fixture
def weights() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    weights = rng.uniform(size=(3, 20, 2, 2))
    weights /= weights.sum(2, keepdims=True)
    present = np.ones((20, 2), dtype=bool)
    present[4, 1] = False
    return weights, present


def test_absent_modalities_do_not_count(weights):
    weights, present = weights
    weights[:, 4, :, 1] = np.nan
    summary = edge_summary({"homogeneous": weights}, MODALITIES, {}, present)
    complete = np.delete(weights, 4, axis=1)
    entry = summary["homogeneous"]
    assert (summary["n_test"], summary["modalities"]) == (20, list(MODALITIES))
    assert entry["mean"][1][0] == pytest.approx(complete[:, :, 1, 0].mean())
    assert entry["mean"][0][0] == pytest.approx(weights[:, :, 0, 0].mean())
    assert entry["sd_samples"][0][1] == pytest.approx(complete[:, :, 0, 1].std(1).mean())
    assert entry["sd_seeds"][0][1] == pytest.approx(complete[:, :, 0, 1].mean(1).std(ddof=1))
    assert "rank_correlation" not in entry


def test_the_rank_correlation_is_with_the_reliability_of_the_source(weights):
    weights, present = weights
    reliability = {"text": weights[0, :, 0, 1] ** 3, "physio": np.arange(20.0)}
    summary = edge_summary({"homogeneous": weights}, MODALITIES, reliability, present)
    complete = present[:, 1]
    expected = np.mean(
        [
            stats.spearmanr(w[complete, 0, 1], reliability["text"][complete]).statistic
            for w in weights
        ]
    )
    assert summary["homogeneous"]["rank_correlation"][0][1] == pytest.approx(expected)
    one_seed = edge_summary({"x": weights[:1]}, MODALITIES, reliability, present)["x"]
    assert one_seed["rank_correlation"][0][1] == pytest.approx(1.0)
    assert "sd_seeds" not in one_seed


def test_constant_edges_have_no_rank_correlation():
    weights = np.full((2, 20, 2, 2), 0.5)
    reliability = {name: np.arange(20.0) for name in MODALITIES}
    summary = edge_summary({"x": weights}, MODALITIES, reliability, np.ones((20, 2), dtype=bool))
    assert summary["x"]["rank_correlation"] == [[None, None], [None, None]]
    json.dumps(summary, allow_nan=False)


def test_spearman_equals_scipy_with_ties():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, 50).astype(float), rng.normal(size=50)
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    with pytest.raises(UndefinedMetricError):
        spearman(np.ones(5), b[:5])


def test_overlap_equals_a_loop_over_pairs():
    rng = np.random.default_rng(0)
    codes = rng.dirichlet(np.ones(5), size=(8, 3))
    present = rng.random((8, 3)) < 0.7
    latent = rng.integers(0, 2, 8)
    kinds: dict[str, list[float]] = {
        "same_utterance": [],
        "same_latent": [],
        "different_latent": [],
    }
    for a, b, m, n in np.ndindex(8, 8, 3, 3):
        if n > m and present[a, m] and present[b, n]:
            kind = "same_latent" if latent[a] == latent[b] else "different_latent"
            kind = "same_utterance" if a == b else kind
            kinds[kind].append(np.minimum(codes[a, m], codes[b, n]).sum())
    overlap = latent_overlap(codes, present, latent)
    assert overlap == pytest.approx({kind: np.mean(values) for kind, values in kinds.items()})
    one_modality = latent_overlap(codes[:, :1], present[:, :1], latent)
    assert one_modality == dict.fromkeys(kinds)


def test_dictionary_statistics_are_means_over_seeds_without_undefined_ones():
    rows = [{"active": 2.0, "dead": 4, "x": None}, {"active": 3.0, "dead": 4, "x": 1.0}]
    summary = dictionary_summary({"homogeneous": rows}, {}, np.ones((1, 1), dtype=bool), None)
    assert summary == {
        "homogeneous": {
            "active": {"mean": 2.5, "std": pytest.approx(0.5**0.5)},
            "dead": {"mean": 4.0, "std": 0.0},
        }
    }
