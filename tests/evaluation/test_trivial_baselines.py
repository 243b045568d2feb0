"""Compare the ridge regression with its normal equations, and with known values of real data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.aligned import Corpus, read_corpus
from dhmd.data.alignment import CorpusJob, align_corpus
from dhmd.evaluation.config import EvaluateConfig
from dhmd.evaluation.trivial_baselines import (
    pooled_features,
    ridge,
    step_statistics,
    trivial_baselines,
)
from dhmd.settings import load_params
from tests.aligned_files import ragged
from tests.evaluation.fakes import write_corpus

ROOT = Path(__file__).parents[2]


def _real_corpus(real: Path, folder: Path) -> Corpus:
    settings = load_params(ROOT).for_dataset("mosi_real")
    files = settings.recipe.sequences
    job = CorpusJob(
        recipe=settings.recipe,
        paths={name: real / "mosi" / part.path for name, part in files.items()},
        align=settings.align,
        alignment="word",
        folds_path=ROOT / "recipes/folds/mosi.json",
    )
    align_corpus(job, folder / "mosi_real.h5")
    return read_corpus(folder / "mosi_real.h5", test_labels=True)


def _problem(n: int, d: int):
    rng = np.random.default_rng(n + d)
    x = rng.normal(size=(n, d))
    y = x[:, 0] - 0.5 * x[:, 1] + rng.normal(0, 0.5, n)
    boundaries = n // 2, 3 * n // 4
    return (
        x,
        y,
        dict(zip(("train", "valid", "test"), np.split(np.arange(n), boundaries), strict=True)),
    )


@pytest.mark.parametrize(("n", "d"), [(80, 5), (40, 60)])
def test_ridge_solves_the_normal_equations(n, d):
    x, y, split = _problem(n, d)
    fit = ridge("regression", x, y, split, [7.0])
    train = split["train"]
    a = x[train] - x[train].mean(0)
    w = np.linalg.solve(a.T @ a + 7.0 * np.eye(d), a.T @ (y[train] - y[train].mean()))
    assert fit.alpha == 7.0
    assert fit.p_N == pytest.approx((x - x[train].mean(0)) @ w + y[train].mean())


def test_the_penalty_is_selected_on_validation():
    x, y, split = _problem(40, 60)
    errors = {}
    for alpha in (0.01, 1.0, 10.0, 1000.0):
        p_N = ridge("regression", x, y, split, [alpha]).p_N
        errors[alpha] = np.abs(p_N - y)[split["valid"]].mean()
    fit = ridge("regression", x, y, split, list(errors))
    assert fit.alpha == min(errors, key=errors.__getitem__)
    assert fit.valid_error == pytest.approx(errors[fit.alpha])
    with pytest.raises(DhmdError, match="ridge_alphas is empty"):
        ridge("regression", x, y, split, [])


def test_ridge_of_classes_predicts_the_largest_target():
    x, y, split = _problem(80, 5)
    classes = 2.0 * (y > 0)
    p_N = ridge("classification", x, classes, split, [1.0]).p_N
    # With two classes the larger target is the second one where its regression exceeds a half.
    share_N = ridge("regression", x, classes / 2, split, [1.0]).p_N
    assert (p_N == 2.0 * (share_N > 0.5)).all()
    assert set(p_N) == {0.0, 2.0}


def test_pooled_features_are_standardised_by_present_utterances_and_zero_elsewhere():
    rows = [np.array([[1.0, 2.0], [3.0, 4.0]]), np.zeros((0, 2)), np.zeros((3, 2)), np.ones((1, 2))]
    statistics = step_statistics(ragged(rows))
    pooled = pooled_features(statistics, np.array([True, False, False, True]), np.arange(4))
    # The means (2, 3) and (1, 1) of the two present segments become ±1.
    assert pooled == pytest.approx(np.array([[1, 1], [0, 0], [0, 0], [-1, -1]], dtype=float))


def test_step_statistics_equal_numpy():
    rng = np.random.default_rng(1)
    rows = [rng.normal(3, 2, (t, 3)).astype(np.float32) for t in (0, 1, 4, 0, 2, 50, 0)]
    statistics = step_statistics(ragged(rows))
    for name, plain in {"mean": np.mean, "std": np.std, "max": np.max}.items():
        expected = [plain(row, axis=0) if len(row) else np.zeros(3) for row in rows]
        assert statistics[name] == pytest.approx(np.array(expected), abs=1e-6)
    present = np.array([len(row) > 0 for row in rows])
    pooled = pooled_features(statistics, present, np.arange(7), ("mean", "std", "max"))
    plain = np.concatenate([statistics[name][present] for name in ("mean", "std", "max")], axis=1)
    assert pooled[present] == pytest.approx((plain - plain.mean(0)) / plain.std(0), abs=1e-5)
    assert (pooled[~present] == 0).all()


@pytest.mark.real
def test_real_data_has_the_known_baselines(real_folder, tmp_path):
    baselines = trivial_baselines(
        _real_corpus(real_folder, tmp_path), EvaluateConfig().ridge_alphas
    )
    # Measured with other code: median 1.468; ridge on pooled text 1.295 and .340.
    assert baselines["median"]["test"]["mae"] == pytest.approx(1.468, abs=0.02)
    assert baselines["ridge_text"]["test"]["mae"] == pytest.approx(1.295, abs=0.02)
    assert baselines["ridge_text"]["test"]["corr"] == pytest.approx(0.340, abs=0.04)


def test_a_regression_has_a_median_and_ridge_baselines(tmp_path):
    write_corpus(tmp_path / "c.h5")
    corpus = read_corpus(tmp_path / "c.h5", test_labels=True)
    baselines = trivial_baselines(corpus, (1.0, 100.0))
    assert list(baselines) == ["median", "ridge", "ridge_text", "ridge_audio", "ridge_vision"]
    labels = {name: corpus.labels_N[corpus.index(name)] for name in ("train", "test")}
    expected = np.abs(labels["test"] - np.median(labels["train"])).mean()
    assert baselines["median"]["test"]["mae"] == pytest.approx(expected, rel=1e-6)
    assert baselines["median"]["undefined"] == ["corr"]
    assert baselines["ridge_text"]["inputs"] == ["text"]
    assert baselines["ridge_text"]["test"]["mae"] < baselines["median"]["test"]["mae"] - 0.2
    assert baselines["ridge_vision"]["test"]["mae"] > baselines["ridge_text"]["test"]["mae"]


def test_a_single_modality_has_one_ridge_baseline(tmp_path):
    write_corpus(tmp_path / "c.h5", task="classification", classes="abc", modalities=["text"])
    baselines = trivial_baselines(read_corpus(tmp_path / "c.h5", test_labels=True), (1.0,))
    assert list(baselines) == ["median", "ridge"]
    assert baselines["ridge"]["test"]["f1"] > baselines["median"]["test"]["f1"]
