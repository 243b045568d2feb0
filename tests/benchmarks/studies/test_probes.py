"""Probes and correlations compared with closed forms and SciPy, on known features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from benchmarks.studies.probes import (
    decoupling_probes,
    edge_correlations,
    leading_components,
    linear_probe,
    reference_edges,
)
from dhmd.data.aligned import Corpus, read_corpus
from tests.evaluation.fakes import write_corpus

MODALITIES = ("text", "audio", "vision")


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    """Return a toy corpus with one shared latent, and one exclusive latent per modality."""
    write_corpus(tmp_path / "toy.h5")
    corpus = read_corpus(tmp_path / "toy.h5", test_labels=True)
    rng = np.random.default_rng(1)
    count = len(corpus.ids)
    names = ["shared_0", *(f"exclusive_{name}_0" for name in MODALITIES)]
    latents = {name: rng.normal(size=count) for name in names}
    return replace(corpus, planted={**corpus.planted, **latents})


def test_a_probe_predicts_linear_functions_of_the_features_only() -> None:
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(400, 5)) * [1, 10, 0.1, 1, 1] + 3, rng.normal(size=(300, 5))
    test = test * [1, 10, 0.1, 1, 1] + 3
    mix = rng.normal(size=(5, 2))
    assert linear_probe(train, test, train @ mix, test @ mix) > 0.999
    noise = rng.normal(size=(400, 2)), rng.normal(size=(300, 2))
    assert linear_probe(train, test, *noise) < 0.05


def test_a_probe_equals_ridge_regression_on_standardised_features() -> None:
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(30, 3)), rng.normal(size=(20, 3))
    train_latents, test_latents = rng.normal(size=(30, 1)), rng.normal(size=(20, 1))
    mean, std = train.mean(0), train.std(0)
    x, z = (train - mean) / std, (test - mean) / std
    # The ridge of penalty 1 is least squares with rows of the identity and zeros appended.
    weights, *_ = np.linalg.lstsq(
        np.vstack([x, np.eye(3)]),
        np.vstack([train_latents - train_latents.mean(0), np.zeros((3, 1))]),
        rcond=None,
    )
    error = (z @ weights + train_latents.mean(0) - test_latents).ravel()
    expected = 1 - (error @ error) / ((test_latents - test_latents.mean()) ** 2).sum()
    assert linear_probe(train, test, train_latents, test_latents) == pytest.approx(
        expected, abs=1e-8
    )


def test_leading_components_have_the_largest_variance() -> None:
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    spread = rng.normal(size=(500, 4)) * [10, 5, 0.1, 0.1]
    result = leading_components(spread @ turn.T, spread @ turn.T, 2)
    assert result.shape == (500, 2)
    for component, latent in zip(result.T, spread.T, strict=False):
        assert abs(np.corrcoef(component, latent)[0, 1]) > 0.99


def test_only_the_leading_probe_detects_a_shrunk_latent(corpus: Corpus) -> None:
    rng = np.random.default_rng(2)
    shared = corpus.planted["shared_0"]
    parts = {}
    for part, scale in (("homogeneous", 5.0), ("heterogeneous", 0.05)):
        noise = rng.normal(size=(len(shared), 3, 1))
        loud = np.broadcast_to(shared[:, None, None], noise.shape) * scale
        parts[part] = np.concatenate([loud, noise], axis=-1)
    everything = decoupling_probes(corpus, parts, MODALITIES)
    for part in parts:
        assert everything[f"shared_from_{part}"] > 0.8
    leading = decoupling_probes(corpus, parts, MODALITIES, leading=True)
    assert leading["shared_from_homogeneous"] > 0.8
    assert leading["shared_from_heterogeneous"] < 0.3


def test_each_modality_is_probed_for_its_own_exclusive_latent(corpus: Corpus) -> None:
    own = np.stack([corpus.planted[f"exclusive_{name}_0"] for name in MODALITIES], axis=1)
    parts = {"homogeneous": np.roll(own, 1, axis=1)[..., None], "heterogeneous": own[..., None]}
    result = decoupling_probes(corpus, parts, MODALITIES)
    assert result["exclusive_from_heterogeneous"] > 0.9
    assert result["exclusive_from_homogeneous"] < 0.1


def test_edge_correlations_equal_spearmans_over_complete_test_utterances(corpus: Corpus) -> None:
    rng = np.random.default_rng(0)
    edges = rng.dirichlet(np.ones(3), size=(len(corpus.ids), 3)).transpose(0, 2, 1)
    result = edge_correlations(corpus, edges, MODALITIES)
    rows = [row for row in corpus.index("test") if corpus.present_NM[row].all()]
    assert 0 < len(rows) < len(corpus.index("test"))
    for index, name in enumerate(MODALITIES):
        reliability = corpus.planted[f"reliability_{name}"][rows]
        expected = spearmanr(edges[rows, index].mean(-1), reliability).statistic
        assert result[name] == pytest.approx(expected)


def test_constant_edges_have_no_correlation(corpus: Corpus) -> None:
    edges = np.full((len(corpus.ids), 3, 3), 1 / 3)
    assert edge_correlations(corpus, edges, MODALITIES) == {}


def test_reference_edges_learn_reliability_from_the_vertices(corpus: Corpus) -> None:
    shown = np.stack([corpus.planted[f"reliability_{name}"] for name in MODALITIES], axis=1)
    rng = np.random.default_rng(0)
    vertices = np.stack([shown, 1 - shown, rng.normal(size=shown.shape)], axis=-1)
    edges = reference_edges(corpus, vertices.astype(np.float32), MODALITIES, hidden=8)
    complete = corpus.present_NM.all(1)
    np.testing.assert_allclose(edges[complete].sum(1), 1, atol=1e-5)
    assert min(edge_correlations(corpus, edges, MODALITIES).values()) > 0.5
