"""The whole evaluation on a small corpus, and what it must refuse."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.aligned import read_corpus
from dhmd.evaluation.config import EvaluateConfig
from dhmd.evaluation.files import SPLITS, parse_predictions, parse_seeds
from dhmd.evaluation.job import evaluate_job
from dhmd.evaluation.metrics import METRICS, score
from dhmd.evaluation.summary import metrics_summary
from tests.evaluation.fakes import write_corpus, write_outputs

FILES = {
    "metrics.json",
    "seeds.csv",
    "predictions.csv",
    "identity.json",
    "intervals.json",
    "unimodal.csv",
    "floors.json",
    "ablations.json",
    "ablations.csv",
    "missing_modalities.json",
    "missing_modalities.csv",
    "edges.json",
    "dictionary.json",
    "truth.csv",
}
SETTINGS = EvaluateConfig(resamples=100)


def _folders(root: Path, **corpus: object) -> dict[str, Path]:
    cache = root / "cache.h5"
    write_corpus(cache, **corpus)  # type: ignore[arg-type]
    write_outputs(root / "pretrained", cache, unimodal=True)
    write_outputs(root / "model", cache, whole=True)
    write_outputs(root / "ablations/no_dictionary", cache, error=1.1, seed=1)
    write_outputs(root / "ablations/late_fusion", cache, error=1.3, seed=2)
    return {
        "cache": cache,
        "pretrained": root / "pretrained",
        "models": root / "model",
        "ablations": root / "ablations",
        "output": root / "metrics",
    }


def _json(folder: Path, name: str):
    return json.loads((folder / name).read_text(encoding="utf-8"))


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_everything_is_written_and_agrees(tmp_path, task):
    paths = _folders(tmp_path, task=task, generated=task == "regression")
    evaluate_job(SETTINGS, **paths)
    out = paths["output"]
    names = {path.name for path in out.iterdir()}
    assert names == FILES
    corpus = read_corpus(paths["cache"], test_labels=True)
    predictions = parse_predictions((out / "predictions.csv").read_text(), "p")
    assert predictions.ids == tuple(corpus.ids[row] for row in corpus.index("test"))
    assert predictions.labels == pytest.approx(corpus.labels_N[corpus.index("test")])
    seeds = parse_seeds((out / "seeds.csv").read_text(), "s")
    for index, seed in enumerate(predictions.seeds):
        again = score(task, predictions.values[index], predictions.labels)
        assert seeds["test"][seed] == again.values
    metrics = _json(out, "metrics.json")
    assert metrics["n_seeds"] == 3
    assert metrics["undefined"] == []
    for split in SPLITS:
        for metric in METRICS[task]:
            column = [seeds[split][seed][metric] for seed in predictions.seeds]
            assert metrics[split][metric]["mean"] == pytest.approx(np.mean(column))
            assert metrics[split][metric]["std"] == pytest.approx(np.std(column, ddof=1))
    assert _json(out, "identity.json") == {
        "dataset": "toy",
        "task": task,
        "corpus": corpus.identity,
        "fold": "0",
        "protocol": "1",
    }


def test_generated_corpora_have_truth_and_ceiling(tmp_path):
    paths = _folders(tmp_path)
    evaluate_job(SETTINGS, **paths)
    metrics = _json(paths["output"], "metrics.json")
    corpus = read_corpus(paths["cache"], test_labels=True)
    test = corpus.index("test")
    truth, labels = corpus.planted["truth"][test], corpus.labels_N[test]
    assert metrics["ceiling"]["mae"] == pytest.approx(np.abs(truth - labels).mean(), rel=1e-6)
    table = pd.read_csv(paths["output"] / "predictions.csv")
    errors = [np.abs(table[f"seed_{s}"].to_numpy() - truth).mean() for s in (1, 2, 3)]
    assert metrics["truth"]["mae"]["mean"] == pytest.approx(np.mean(errors))
    edges = _json(paths["output"], "edges.json")
    assert edges["homogeneous"]["rank_correlation"][0][1] > 0.5
    overlap = _json(paths["output"], "dictionary.json")["homogeneous"]["overlap_by_latent"]
    assert overlap == {"same_utterance": 1.0, "same_latent": 1.0, "different_latent": 0.0}


def test_real_corpora_have_neither(tmp_path):
    paths = _folders(tmp_path, generated=False)
    evaluate_job(SETTINGS, **paths)
    assert not {"truth", "ceiling"} & set(_json(paths["output"], "metrics.json"))
    assert (paths["output"] / "truth.csv").read_text() == "id,truth\n"
    assert "rank_correlation" not in _json(paths["output"], "edges.json")["homogeneous"]
    assert "overlap_by_latent" not in _json(paths["output"], "dictionary.json")["homogeneous"]


def test_tables_of_variants_encoders_and_withheld_modalities(tmp_path):
    paths = _folders(tmp_path)
    evaluate_job(SETTINGS, **paths)
    out = paths["output"]
    ablations = _json(out, "ablations.json")
    assert list(ablations) == ["late_fusion", "no_dictionary"]
    assert set(ablations["late_fusion"]["mae"]) >= {
        "mean",
        "std",
        "n",
        "difference",
        "ci_low",
        "ci_high",
        "p",
    }
    rows = list(csv.DictReader((out / "ablations.csv").open()))
    assert len(rows) == 2 * 2 * 3
    mean = np.mean(
        [float(r["mae"]) for r in rows if r["variant"] == "late_fusion" and r["split"] == "test"]
    )
    assert ablations["late_fusion"]["mae"]["mean"] == pytest.approx(mean)
    unimodal = list(csv.DictReader((out / "unimodal.csv").open()))
    assert [r["modality"] for r in unimodal[::6]] == ["text", "audio", "vision"]
    assert list(_json(out, "missing_modalities.json")) == ["audio", "text", "vision"]
    assert len(list(csv.DictReader((out / "missing_modalities.csv").open()))) == 9


def test_twice_gives_the_same_bytes_and_replaces_the_folder(tmp_path):
    paths = _folders(tmp_path)
    evaluate_job(SETTINGS, **paths)
    first = {path.name: path.read_bytes() for path in paths["output"].iterdir()}
    (paths["output"] / "left_over.csv").write_text("old")
    evaluate_job(SETTINGS, **paths)
    assert {path.name: path.read_bytes() for path in paths["output"].iterdir()} == first


@pytest.mark.parametrize("empty", [True, False])
def test_without_variants_the_files_are_there_without_rows(tmp_path, empty):
    paths = _folders(tmp_path)
    (tmp_path / "empty").mkdir()
    ablations = tmp_path / "empty" if empty else None
    evaluate_job(SETTINGS, **{**paths, "ablations": ablations})
    assert {path.name for path in paths["output"].iterdir()} == FILES
    assert _json(paths["output"], "ablations.json") == {}
    assert len((paths["output"] / "ablations.csv").read_text().splitlines()) == 1


def test_an_absent_modality_is_answered_by_the_median(tmp_path):
    paths = _folders(tmp_path)
    corpus = read_corpus(paths["cache"], test_labels=True)
    prediction = np.repeat(corpus.labels_N[None, :, None], 3, axis=0).repeat(3, axis=2)
    absent = ~corpus.present_NM[:, 1]
    prediction[:, absent, 1] = np.nan
    write_outputs(
        paths["pretrained"], paths["cache"], unimodal=True, change={"prediction": prediction}
    )
    evaluate_job(SETTINGS, **paths)
    rows = list(csv.DictReader((paths["output"] / "unimodal.csv").open()))
    audio = next(r for r in rows if r["modality"] == "audio" and r["split"] == "test")
    median = np.median(corpus.labels_N[corpus.index("train")])
    test = corpus.index("test")
    expected = np.where(absent[test], np.abs(corpus.labels_N[test] - median), 0).mean()
    assert float(audio["mae"]) == pytest.approx(expected, rel=1e-6)
    assert float(rows[0]["mae"]) == 0.0


def test_constant_predictions_are_listed_as_undefined(tmp_path):
    paths = _folders(tmp_path)
    prediction = np.random.default_rng(0).normal(size=(3, 90)).astype(np.float32)
    prediction[1] = 0.1
    write_outputs(paths["models"], paths["cache"], change={"prediction": prediction})
    evaluate_job(SETTINGS, **paths)
    metrics = _json(paths["output"], "metrics.json")
    assert metrics["undefined"] == ["test.corr", "valid.corr", "truth.corr"]
    assert "corr" not in metrics["test"]
    seeds = parse_seeds((paths["output"] / "seeds.csv").read_text(), "s")
    assert "corr" not in seeds["test"][2]
    assert "corr" in seeds["test"][1]


def test_one_seed_has_no_deviation(tmp_path):
    paths = _folders(tmp_path)
    write_outputs(paths["pretrained"], paths["cache"], seeds=(4,), unimodal=True)
    write_outputs(paths["models"], paths["cache"], seeds=(4,), whole=True)
    evaluate_job(SETTINGS, **{**paths, "ablations": None})
    metrics = _json(paths["output"], "metrics.json")
    assert set(metrics["test"]["mae"]) == {"mean"}
    assert metrics["undefined"] == ["std"]


def _diverged(paths: dict[str, Path], name: str) -> None:
    shape = (3, 90, 3) if name == "pretrained" else (3, 90)
    prediction = np.zeros(shape, dtype=np.float32)
    prediction[2, 75] = np.nan
    folder = paths.get(name, paths["ablations"] / name)
    write_outputs(
        folder, paths["cache"], change={"prediction": prediction}, unimodal=len(shape) > 2
    )


@pytest.mark.parametrize("name", ["models", "pretrained", "late_fusion"])
def test_a_diverged_seed_is_refused_by_name(tmp_path, name):
    paths = _folders(tmp_path)
    _diverged(paths, name)
    with pytest.raises(DhmdError, match=r"outputs\.h5, \w+: seed 3 diverged"):
        evaluate_job(SETTINGS, **paths)
    assert not paths["output"].exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"identity": "other"}, "another version of the corpus toy"),
        ({"task": "classification"}, "is of a classification"),
        ({"prediction": np.zeros((2, 90), np.float32)}, "fits neither ids nor seeds"),
        ({"fold": "9"}, "no fold '9'"),
    ],
)
def test_outputs_of_something_else_are_refused(tmp_path, change, sentence):
    paths = _folders(tmp_path)
    if "task" in change:
        change = {**change, "prediction": np.ones((3, 90, 2), np.float32)}
    write_outputs(paths["models"], paths["cache"], change=change)
    with pytest.raises(DhmdError, match=sentence):
        evaluate_job(SETTINGS, **paths)
    assert not paths["output"].exists()


def test_missing_and_broken_files_are_named(tmp_path):
    paths = _folders(tmp_path)
    file = paths["models"] / "outputs.h5"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(DhmdError, match=r"model/outputs\.h5 is damaged: its sha256"):
        evaluate_job(SETTINGS, **paths)
    file.unlink()
    with pytest.raises(DhmdError, match=r"model/outputs\.h5 does not exist"):
        evaluate_job(SETTINGS, **paths)
    assert not paths["output"].exists()


def test_the_summary_needs_every_seed():
    values = {"test": {1: {"mae": 1.0}, 2: {"mae": 2.0, "corr": 0.5}}, "valid": {}}
    found = metrics_summary("regression", values)
    assert found["test"] == {"mae": {"mean": 1.5, "std": pytest.approx(0.5**0.5)}}
    assert "test.corr" in found["undefined"]
    assert "valid.mae" in found["undefined"]
