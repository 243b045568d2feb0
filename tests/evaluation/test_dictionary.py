from __future__ import annotations

import numpy as np
import pytest

from dhmd.evaluation.dictionary import dictionary_summary, latent_overlap


def test_overlap_equals_the_plain_sum_over_pairs():
    rng = np.random.default_rng(0)
    codes = rng.dirichlet(np.ones(5), size=(8, 3))
    present = rng.random((8, 3)) < 0.7
    latent = rng.integers(0, 2, 8)
    kinds: dict[str, list[float]] = {
        "same_utterance": [],
        "same_latent": [],
        "different_latent": [],
    }
    for a in range(8):
        for b in range(8):
            for m in range(3):
                for n in range(m + 1, 3):
                    if not (present[a, m] and present[b, n]):
                        continue
                    kind = "same_latent" if latent[a] == latent[b] else "different_latent"
                    kind = "same_utterance" if a == b else kind
                    kinds[kind].append(np.minimum(codes[a, m], codes[b, n]).sum())
    found = latent_overlap(codes, present, latent)
    assert found == pytest.approx({kind: np.mean(values) for kind, values in kinds.items()})


def test_shared_codes_show():
    codes = np.zeros((6, 2, 3))
    latent = np.array([0, 1, 2, 0, 1, 2])
    codes[np.arange(6)[:, None], [0, 1], latent[:, None]] = 1.0
    found = latent_overlap(codes, np.ones((6, 2), dtype=bool), latent)
    assert found == {"same_utterance": 1.0, "same_latent": 1.0, "different_latent": 0.0}
    alone = latent_overlap(codes[:, :1], np.ones((6, 1), dtype=bool), latent)
    assert alone == {"same_utterance": None, "same_latent": None, "different_latent": None}


def test_counts_are_averaged_over_seeds_and_unknown_ones_left_out():
    rows = [{"active": 2.0, "dead": 4, "x": None}, {"active": 3.0, "dead": 4, "x": 1.0}]
    found = dictionary_summary({"homogeneous": rows}, {}, np.ones((1, 1), dtype=bool), None)
    assert found == {
        "homogeneous": {
            "active": {"mean": 2.5, "std": pytest.approx(0.5**0.5)},
            "dead": {"mean": 4.0, "std": 0.0},
        }
    }
