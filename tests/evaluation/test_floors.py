"""The ridge against its normal equations, and against what the real pieces are known to give."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.aligned import Corpus, Ragged, read_corpus
from dhmd.data.alignment import align_corpus
from dhmd.evaluation.config import EvaluateConfig
from dhmd.evaluation.floors import floors, pooled_features, ridge, step_statistics
from dhmd.settings import load_params
from tests.evaluation.fakes import write_corpus

ROOT = Path(__file__).parents[2]


def _real_corpus(real: Path, folder: Path) -> Corpus:
    settings = load_params(ROOT).for_dataset("mosi_real")
    align_corpus(
        {name: real / "mosi" / part.path for name, part in settings.recipe.sequences.items()},
        settings.recipe,
        settings.align,
        alignment="word",
        sources={},
        folds_path=ROOT / "recipes/folds/mosi.json",
        output=folder / "mosi_real.h5",
    )
    return read_corpus(folder / "mosi_real.h5", test_labels=True)


def _problem(n: int, d: int):
    rng = np.random.default_rng(n + d)
    x = rng.normal(size=(n, d))
    labels = x[:, 0] - 0.5 * x[:, 1] + rng.normal(0, 0.5, n)
    split = {
        "train": np.arange(n // 2),
        "valid": np.arange(n // 2, 3 * n // 4),
        "test": np.arange(3 * n // 4, n),
    }
    return x, labels, split


@pytest.mark.parametrize(("n", "d"), [(80, 5), (40, 60)])
def test_ridge_solves_the_normal_equations(n, d):
    x, labels, split = _problem(n, d)
    fit = ridge("regression", x, labels, split, [7.0])
    assert fit.alpha == 7.0
    train = split["train"]
    a = x[train] - x[train].mean(0)
    w = np.linalg.solve(a.T @ a + 7.0 * np.eye(d), a.T @ (labels[train] - labels[train].mean()))
    assert fit.predicted == pytest.approx((x - x[train].mean(0)) @ w + labels[train].mean())


def test_the_penalty_is_chosen_on_validation():
    x, labels, split = _problem(40, 60)
    alphas = [0.01, 1.0, 10.0, 1000.0]
    fit = ridge("regression", x, labels, split, alphas)
    errors = {}
    for a in alphas:
        predicted = ridge("regression", x, labels, split, [a]).predicted
        errors[a] = np.abs(predicted - labels)[split["valid"]].mean()
    assert fit.alpha == min(errors, key=errors.__getitem__)
    assert fit.loss == pytest.approx(errors[fit.alpha])
    with pytest.raises(DhmdError, match="ridge_alphas is empty"):
        ridge("regression", x, labels, split, [])


def test_ridge_of_classes_predicts_the_larger_target():
    x, labels, split = _problem(80, 5)
    classes = 2.0 * (labels > 0)
    found = ridge("classification", x, classes, split, [1.0]).predicted
    # With two classes the larger target wins where the second one's regression is above a half.
    share = ridge("regression", x, classes / 2, split, [1.0]).predicted
    assert set(found) == {0.0, 2.0}
    assert (found == 2.0 * (share > 0.5)).all()


def test_pooling_is_the_mean_over_steps_and_zero_where_absent():
    rows = [np.array([[1.0, 2.0], [3.0, 4.0]]), np.zeros((0, 2)), np.zeros((3, 2)), np.ones((1, 2))]
    present = np.array([True, False, False, True])
    statistics = step_statistics(Ragged.from_rows(rows))
    found = pooled_features(statistics, present, np.array([0, 1, 2, 3]))
    # Means (2, 3) and (1, 1): standardised over the two that are there, ±1.
    assert found == pytest.approx(np.array([[1, 1], [0, 0], [0, 0], [-1, -1]], dtype=float))


def test_other_poolings_equal_the_plain_version():
    rng = np.random.default_rng(0)
    rows = [rng.normal(3, 2, (t, 2)) for t in (1, 4, 0, 2, 5)]
    there = np.array([len(row) > 0 for row in rows])
    statistics = step_statistics(Ragged.from_rows(rows))
    found = pooled_features(statistics, there, np.arange(5), ("mean", "std", "max"))
    plain = np.array([np.concatenate([r.mean(0), r.std(0), r.max(0)]) for r in rows if len(r)])
    assert found[there] == pytest.approx((plain - plain.mean(0)) / plain.std(0), abs=1e-5)
    assert (found[2] == 0).all()


@pytest.mark.parametrize("block", [1, 7, 24, 1000])
def test_blocks_of_segments_change_no_bit(block):
    rng = np.random.default_rng(1)
    rows = [rng.normal(3, 2, (t, 3)) for t in (0, 1, 4, 0, 2, 50, 0, 0, 3, 0)]
    features = Ragged.from_rows(rows)
    whole, parts = step_statistics(features), step_statistics(features, block)
    for name, plain in {"mean": np.mean, "std": np.std, "max": np.max}.items():
        np.testing.assert_array_equal(parts[name], whole[name])
        expected = [plain(row, axis=0) if len(row) else np.zeros(3) for row in rows]
        assert whole[name] == pytest.approx(np.array(expected), abs=1e-6)


def test_statistics_take_no_multiple_of_the_features_memory():
    features = Ragged(np.ones((400_000, 25), np.float32), np.arange(0, 400_001, 100))
    tracemalloc.start()
    step_statistics(features, 1 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < features.values.nbytes


@pytest.mark.real
def test_floors_of_the_real_pieces_are_near_the_known_ones(real_folder, tmp_path):
    corpus = _real_corpus(real_folder, tmp_path)
    found = floors(corpus, EvaluateConfig().ridge_alphas)
    # Measured elsewhere: median 1.468; ridge on pooled text 1.295 and .340.
    assert found["median"]["test"]["mae"] == pytest.approx(1.468, abs=0.02)
    assert found["ridge_text"]["test"]["mae"] == pytest.approx(1.295, abs=0.02)
    assert found["ridge_text"]["test"]["corr"] == pytest.approx(0.340, abs=0.04)


def test_floors_of_a_corpus(tmp_path):
    write_corpus(tmp_path / "c.h5")
    corpus = read_corpus(tmp_path / "c.h5", test_labels=True)
    found = floors(corpus, (1.0, 100.0))
    assert list(found) == ["median", "ridge", "ridge_text", "ridge_audio", "ridge_vision"]
    labels = {name: corpus.labels_N[corpus.index(name)] for name in ("train", "test")}
    expected = np.abs(labels["test"] - np.median(labels["train"])).mean()
    assert found["median"]["test"]["mae"] == pytest.approx(expected, rel=1e-6)
    assert found["median"]["undefined"] == ["corr"]
    assert found["ridge_text"]["test"]["mae"] < found["median"]["test"]["mae"] - 0.2
    assert found["ridge_text"]["inputs"] == ["text"]
    assert found["ridge_vision"]["test"]["mae"] > found["ridge_text"]["test"]["mae"]


def test_floors_of_classes_and_of_one_modality(tmp_path):
    write_corpus(tmp_path / "c.h5", task="classification", classes=3, modalities=["text"])
    found = floors(read_corpus(tmp_path / "c.h5", test_labels=True), (1.0,))
    assert list(found) == ["median", "ridge"]
    assert found["ridge"]["test"]["f1"] > found["median"]["test"]["f1"]
