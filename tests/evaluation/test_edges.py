from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats

from dhmd.evaluation.edges import edge_summary

MODALITIES = ("text", "audio")


def _weights() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    weights = rng.uniform(size=(3, 20, 2, 2))
    weights /= weights.sum(2, keepdims=True)
    present = np.ones((20, 2), dtype=bool)
    present[4, 1] = False
    return weights, present


def test_means_and_spreads_leave_absent_modalities_out():
    weights, present = _weights()
    weights[:, 4, :, 1] = np.nan
    found = edge_summary({"homogeneous": weights}, MODALITIES, {}, present)
    kept = np.delete(weights, 4, axis=1)
    entry = found["homogeneous"]
    assert found["n_test"] == 20
    assert entry["mean"][1][0] == pytest.approx(kept[:, :, 1, 0].mean())
    assert entry["mean"][0][0] == pytest.approx(weights[:, :, 0, 0].mean())
    assert entry["sd_samples"][0][1] == pytest.approx(kept[:, :, 0, 1].std(1).mean())
    assert entry["sd_seeds"][0][1] == pytest.approx(kept[:, :, 0, 1].mean(1).std(ddof=1))
    assert "rank_correlation" not in entry


def test_rank_correlation_with_the_source_s_reliability():
    weights, present = _weights()
    reliability = {"text": weights[0, :, 0, 1] ** 3, "audio": np.arange(20.0)}
    found = edge_summary({"homogeneous": weights}, MODALITIES, reliability, present)
    table = found["homogeneous"]["rank_correlation"]
    kept = present[:, 1]
    expected = np.mean(
        [
            stats.spearmanr(weights[s, kept, 0, 1], reliability["text"][kept]).statistic
            for s in range(3)
        ]
    )
    assert table[0][1] == pytest.approx(expected)
    alone = edge_summary({"x": weights[:1]}, MODALITIES, reliability, present)["x"]
    assert alone["rank_correlation"][0][1] == pytest.approx(1.0)
    assert "sd_seeds" not in alone


def test_constant_edges_have_no_ranks():
    weights = np.full((2, 20, 2, 2), 0.5)
    reliability = {name: np.arange(20.0) for name in MODALITIES}
    found = edge_summary({"x": weights}, MODALITIES, reliability, np.ones((20, 2), dtype=bool))
    assert found["x"]["rank_correlation"] == [[None, None], [None, None]]
    json.dumps(found, allow_nan=False)
