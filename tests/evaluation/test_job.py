"""The evaluation of a small corpus, and errors of its inputs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.aligned import read_corpus
from dhmd.evaluation.config import EvaluateConfig
from dhmd.evaluation.job import evaluate_job
from dhmd.evaluation.metrics import METRICS, score
from dhmd.evaluation.statistics import paired_t_test
from tests.evaluation.fakes import write_corpus, write_outputs

FILES = {
    "metrics.json",
    "details/summary.json",
    "details/seeds.csv",
    "details/predictions.csv",
    "details/identity.json",
    "details/intervals.json",
    "details/unimodal.csv",
    "details/trivial_baselines.json",
    "details/ablations.json",
    "details/ablations.csv",
    "details/missing_modalities.json",
    "details/missing_modalities.csv",
    "details/missing_by_variant.json",
    "details/missing_by_variant.csv",
    "details/edges.json",
    "details/dictionary.json",
    "details/truth.csv",
}
SETTINGS = EvaluateConfig(resamples=100)


class EvaluatedCorpus:
    """A corpus, its model directories, and the files that `evaluate` writes."""

    def __init__(self, root: Path, **corpus: Any) -> None:
        self.aligned, self.models, self.out = root / "aligned.h5", root / "model", root / "metrics"
        self.pretrained, self.ablations = root / "pretrained", root / "ablations"
        write_corpus(self.aligned, **corpus)
        write_outputs(self.pretrained, self.aligned, unimodal=True)
        write_outputs(self.models, self.aligned, whole=True)
        write_outputs(self.ablations / "no_dictionary", self.aligned, error=1.1, seed=1)
        write_outputs(self.ablations / "late_fusion", self.aligned, error=1.3, seed=2)
        self.corpus = read_corpus(self.aligned, test_labels=True)

    def run(self, ablations: Path | str | None = "default") -> EvaluatedCorpus:
        folder = self.ablations if ablations == "default" else ablations
        evaluate_job(SETTINGS, self.aligned, self.pretrained, self.models, folder, self.out)  # type: ignore[arg-type]
        return self

    def json(self, name: str) -> Any:
        return json.loads((self.out / name).read_text(encoding="utf-8"))

    def rows(self, name: str) -> list[dict[str, str]]:
        with (self.out / name).open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))

    def contents(self) -> dict[str, bytes]:
        paths = [path for path in self.out.rglob("*") if path.is_file()]
        return {path.relative_to(self.out).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize(
    ("task", "modalities"),
    [
        ("regression", ("text", "audio", "vision")),
        ("classification", ("text", "audio", "vision")),
        ("regression", ("text", "audio", "vision", "physio")),
        ("regression", ("speech",)),
    ],
)
def test_all_files_of_an_evaluation_agree(tmp_path, task, modalities):
    evaluated = EvaluatedCorpus(
        tmp_path, task=task, generated=task == "regression", modalities=modalities
    ).run()
    assert set(evaluated.contents()) == FILES
    corpus, test = evaluated.corpus, evaluated.corpus.index("test")
    table = pd.read_csv(evaluated.out / "details/predictions.csv")
    assert table.columns.tolist() == ["id", "label", "seed_1", "seed_2", "seed_3"]
    assert table.id.tolist() == [corpus.ids[row] for row in test]
    assert table.label.to_numpy() == pytest.approx(corpus.labels_N[test])
    if task == "classification":
        assert (table.dtypes[1:] == "int64").all()
    seeds = pd.read_csv(evaluated.out / "details/seeds.csv").set_index(["split", "seed"])
    for seed in (1, 2, 3):
        label, p = table.label.to_numpy(dtype=float), table[f"seed_{seed}"].to_numpy(dtype=float)
        assert seeds.loc["test", seed].to_dict() == score(task, p, label).values
    summary = evaluated.json("details/summary.json")
    assert (summary["n_seeds"], summary["undefined"]) == (3, [])
    for split in ("test", "valid"):
        assert list(summary[split]) == list(METRICS[task])
        for metric in METRICS[task]:
            column = seeds.loc[split][metric]
            assert summary[split][metric] == pytest.approx(
                {"mean": column.mean(), "std": column.std()}
            )
    primary = "mae" if task == "regression" else "f1"
    metrics = evaluated.json("metrics.json")
    assert metrics["test"][primary] == summary["test"][primary]["mean"]
    assert metrics["test"][f"{primary}_std"] == summary["test"][primary]["std"]
    assert metrics["valid"] == {primary: summary["valid"][primary]["mean"]}
    assert len(metrics["test"]) <= 6
    assert evaluated.json("details/identity.json") == {
        "dataset": "toy",
        "task": task,
        "corpus": corpus.identity,
        "fold": "0",
        "protocol": "1",
    }
    assert [row["modality"] for row in evaluated.rows("details/unimodal.csv")[::6]] == list(
        modalities
    )
    missing = [*sorted(modalities), "noise for text"]
    differences = evaluated.json("details/missing_modalities.json")
    assert list(differences) == missing
    # Noise is a family of its own: Holm's correction of a single p value changes nothing.
    noisy = [
        row for row in evaluated.rows("details/missing_modalities.csv") if "noise" in row["missing"]
    ]
    complete = [row for row in evaluated.rows("details/seeds.csv") if row["split"] == "test"]
    pairs = zip(noisy, complete, strict=True)
    change = np.array([float(a[primary]) - float(b[primary]) for a, b in pairs])
    assert differences["noise for text"][primary]["p"] == pytest.approx(paired_t_test(change).p)
    rows = evaluated.rows("details/missing_modalities.csv")
    assert [row["missing"] for row in rows[::3]] == missing
    edges = np.array(evaluated.json("details/edges.json")["homogeneous"]["mean"])
    assert edges.shape == (len(modalities), len(modalities))


def test_generated_corpora_have_ground_truth_and_oracle(tmp_path):
    evaluated = EvaluatedCorpus(tmp_path).run()
    summary, test = evaluated.json("details/summary.json"), evaluated.corpus.index("test")
    truth, labels = evaluated.corpus.planted["truth"][test], evaluated.corpus.labels_N[test]
    assert summary["oracle"]["mae"] == pytest.approx(np.abs(truth - labels).mean(), rel=1e-6)
    table = pd.read_csv(evaluated.out / "details/predictions.csv")
    errors = [np.abs(table[f"seed_{s}"].to_numpy() - truth).mean() for s in (1, 2, 3)]
    assert summary["truth"]["mae"]["mean"] == pytest.approx(np.mean(errors))
    assert pd.read_csv(evaluated.out / "details/truth.csv").truth.tolist() == truth.tolist()
    assert evaluated.json("details/edges.json")["homogeneous"]["rank_correlation"][0][1] > 0.5
    overlap = evaluated.json("details/dictionary.json")["homogeneous"]["overlap_by_latent"]
    assert overlap == {"same_utterance": 1.0, "same_latent": 1.0, "different_latent": 0.0}


def test_real_corpora_have_no_ground_truth_and_no_oracle(tmp_path):
    evaluated = EvaluatedCorpus(tmp_path, generated=False).run()
    assert not {"truth", "oracle"} & set(evaluated.json("details/summary.json"))
    assert (evaluated.out / "details/truth.csv").read_text() == "id,truth\n"
    assert "rank_correlation" not in evaluated.json("details/edges.json")["homogeneous"]
    assert "overlap_by_latent" not in evaluated.json("details/dictionary.json")["homogeneous"]


def test_variants_are_compared_with_the_full_model(tmp_path):
    evaluated = EvaluatedCorpus(tmp_path).run()
    ablations = evaluated.json("details/ablations.json")
    assert list(ablations) == ["late_fusion", "no_dictionary"]
    expected = {"mean", "std", "n", "difference", "ci_low", "ci_high", "p"}
    assert set(ablations["late_fusion"]["mae"]) >= expected
    rows = evaluated.rows("details/ablations.csv")
    assert len(rows) == 2 * 2 * 3
    mean = np.mean(
        [float(r["mae"]) for r in rows if (r["variant"], r["split"]) == ("late_fusion", "test")]
    )
    assert ablations["late_fusion"]["mae"]["mean"] == pytest.approx(mean)


def test_a_second_run_writes_the_same_bytes_and_replaces_the_directory(tmp_path):
    evaluated = EvaluatedCorpus(tmp_path).run()
    first = evaluated.contents()
    (evaluated.out / "details/left_over.csv").write_text("old")
    assert evaluated.run().contents() == first


@pytest.mark.parametrize("empty", [True, False])
def test_without_variants_the_files_have_no_rows(tmp_path, empty):
    (tmp_path / "empty").mkdir()
    evaluated = EvaluatedCorpus(tmp_path).run(tmp_path / "empty" if empty else None)
    assert set(evaluated.contents()) == FILES
    assert evaluated.json("details/ablations.json") == {}
    assert evaluated.rows("details/ablations.csv") == []


def test_the_median_is_the_prediction_where_the_modality_is_absent(tmp_path):
    evaluated = EvaluatedCorpus(tmp_path)
    corpus = evaluated.corpus
    prediction = np.broadcast_to(corpus.labels_N[None, :, None], (3, len(corpus.ids), 3)).copy()
    absent = ~corpus.present_NM[:, 1]
    prediction[:, absent, 1] = np.nan
    change = {"prediction": prediction}
    write_outputs(evaluated.pretrained, evaluated.aligned, unimodal=True, change=change)
    text, audio = (
        next(row for row in evaluated.run().rows("details/unimodal.csv") if row["modality"] == name)
        for name in ("text", "audio")
    )
    median, test = np.median(corpus.labels_N[corpus.index("train")]), corpus.index("test")
    expected = np.where(absent[test], np.abs(corpus.labels_N[test] - median), 0).mean()
    assert float(audio["mae"]) == pytest.approx(expected, rel=1e-6)
    assert float(text["mae"]) == 0.0


def test_constant_predictions_are_listed_as_undefined(tmp_path):
    evaluated = EvaluatedCorpus(tmp_path)
    prediction = np.random.default_rng(0).normal(size=(3, 90)).astype(np.float32)
    prediction[1] = 0.1
    write_outputs(evaluated.models, evaluated.aligned, change={"prediction": prediction})
    summary = evaluated.run().json("details/summary.json")
    assert summary["undefined"] == ["test.corr", "valid.corr", "truth.corr"]
    assert "corr" not in summary["test"]
    assert "corr" not in evaluated.json("metrics.json")["test"]
    test = [row["corr"] for row in evaluated.rows("details/seeds.csv") if row["split"] == "test"]
    assert [bool(cell) for cell in test] == [True, False, True]


def test_one_seed_has_no_standard_deviation(tmp_path):
    evaluated = EvaluatedCorpus(tmp_path)
    write_outputs(evaluated.pretrained, evaluated.aligned, seeds=(4,), unimodal=True)
    write_outputs(evaluated.models, evaluated.aligned, seeds=(4,), whole=True)
    summary = evaluated.run(None).json("details/summary.json")
    assert set(summary["test"]["mae"]) == {"mean"}
    assert summary["undefined"] == ["std"]
    assert "mae_std" not in evaluated.json("metrics.json")["test"]


@pytest.mark.parametrize("name", ["model", "pretrained", "ablations/late_fusion"])
def test_a_diverged_seed_is_named_in_the_error(tmp_path, name):
    evaluated = EvaluatedCorpus(tmp_path)
    unimodal = name == "pretrained"
    prediction = np.zeros((3, 90, 3) if unimodal else (3, 90), dtype=np.float32)
    prediction[2, 75] = np.nan
    change = {"prediction": prediction}
    write_outputs(tmp_path / name, evaluated.aligned, change=change, unimodal=unimodal)
    with pytest.raises(DhmdError, match=r"outputs\.h5, \w+: seeds that diverged: 3"):
        evaluated.run()
    assert not evaluated.out.exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"identity": "other"}, "another version of the corpus toy"),
        (
            {"task": "classification", "prediction": np.ones((3, 90, 2), np.float32)},
            "has the task classification",
        ),
        ({"prediction": np.zeros((2, 90), np.float32)}, "prediction has the shape"),
        ({"fold": "9"}, "no fold '9'"),
    ],
)
def test_outputs_of_another_corpus_or_task_raise_an_error(tmp_path, change, sentence):
    evaluated = EvaluatedCorpus(tmp_path)
    write_outputs(evaluated.models, evaluated.aligned, change=change)
    with pytest.raises(DhmdError, match=sentence):
        evaluated.run()
    assert not evaluated.out.exists()


def test_missing_and_broken_files_are_named(tmp_path):
    evaluated = EvaluatedCorpus(tmp_path)
    file = evaluated.models / "outputs.h5"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(DhmdError, match=r"model/outputs\.h5 is not readable as a model's outputs"):
        evaluated.run()
    file.unlink()
    with pytest.raises(DhmdError, match=r"model/outputs\.h5 does not exist"):
        evaluated.run()
    assert not evaluated.out.exists()
