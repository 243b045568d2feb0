"""Compare the results of `dhmd compare` for models, revisions and CSV files with scipy.stats."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from dhmd.base.errors import DhmdError
from dhmd.cli import main
from dhmd.comparison import as_table, compare
from dhmd.evaluation.config import EvaluateConfig
from dhmd.evaluation.files import read_predictions
from dhmd.evaluation.job import evaluate_job
from tests.evaluation.fakes import write_corpus, write_outputs
from tests.gate.fakes import commit_all, new_repository

PARAMS = """\
datasets:
  - toy
kd:
  lambda: {}
train:
  lr:
ablate:
  variants: [mult, no_dictionary]
gate:
  metrics: [mae]
  margins: {{mae: 0.02}}
  datasets: {{}}
  accept: []
  resamples: 100
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create two commits, with `kd.lambda` 0.3, and 0.5 with larger errors and two variants."""
    root = tmp_path_factory.mktemp("repository")
    new_repository(root)
    write_corpus(root / "c.h5")
    write_outputs(root / "p", root / "c.h5", unimodal=True)
    for weight, error in ((0.3, 0.8), (0.5, 1.0)):
        write_outputs(root / "m", root / "c.h5", error=error, whole=True)
        for seed, name in enumerate(("mult", "no_dictionary"), start=5):
            folder = root / "ablations/toy" / name
            write_outputs(folder, root / "c.h5", error=1.5, seed=seed)
            configuration = {"kd": {"lambda": 0.1}, "train": {"lr": 0.01}}
            (folder / "model.json").write_text(json.dumps({"configuration": configuration}))
        (root / "params.yaml").write_text(PARAMS.format(weight))
        (root / "recipes").mkdir(exist_ok=True)
        (root / "recipes/toy.yaml").write_text("train:\n  lr: 0.002\n")
        folders = [root / name for name in ("p", "m", "ablations/toy", "metrics/toy")]
        evaluate_job(EvaluateConfig(resamples=100), root / "c.h5", *folders)
        commit_all(root)
    return root


def write_csv(path: Path, root: Path, shift: float, seeds: tuple[int, ...] = (1, 2, 3)) -> Path:
    """Write the predictions of other code: the labels plus a shift and a small error per seed."""
    predictions = read_predictions(root / "metrics/toy")
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["seed", "id", "note", "prediction"])
        for seed in seeds:
            for name, label in reversed(
                list(zip(predictions.ids, predictions.labels, strict=True))
            ):
                writer.writerow([seed, name, "x", label + shift + seed / 100])
    return path


def test_models_are_compared_by_seed(root: Path) -> None:
    comparison = compare(["dhmd", "mult", "no_dictionary"], by=["kd.lambda", "train.lr"], root=root)
    assert list(comparison["name"]) == ["DHMD", "MulT", "no dictionary"]
    assert list(comparison["kd.lambda"]) == [0.5, 0.1, 0.1]
    assert list(comparison["train.lr"]) == [0.002, 0.01, 0.01]  # an empty value is the recipe's
    tables = [
        {(row["variant"], row["seed"]): float(row["mae"]) for row in rows if row["split"] == "test"}
        for rows in [list(csv.DictReader((root / "metrics/toy/details/ablations.csv").open()))]
    ]
    with open(root / "metrics/toy/details/seeds.csv") as stream:
        full = {r["seed"]: float(r["mae"]) for r in csv.DictReader(stream) if r["split"] == "test"}
    p = []
    for row, variant in ((1, "mult"), (2, "no_dictionary")):
        values = [tables[0][variant, seed] for seed in full]
        test = stats.ttest_rel(values, list(full.values()))
        low, high = test.confidence_interval(0.95)
        assert comparison["mae"][row] == pytest.approx(np.mean(values))
        assert comparison["mae_sd"][row] == pytest.approx(np.std(values, ddof=1))
        assert [comparison["low"][row], comparison["high"][row]] == pytest.approx([low, high])
        assert comparison["utterances_low"][row] < comparison["difference"][row]
        p.append(test.pvalue)
    smaller, larger = sorted(p)
    assert sorted(comparison["p"][1:]) == pytest.approx([2 * smaller, max(2 * smaller, larger)])
    assert np.isnan(comparison["difference"][0])


def test_revisions_and_files_are_compared_with_models(root: Path, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "theirs.csv", root, 0.1)
    comparison = compare(["HEAD~1", "dhmd", str(path)], by=["kd.lambda"], root=root)
    assert list(comparison["name"]) == ["HEAD~1", "DHMD", "theirs"]
    assert list(comparison["kd.lambda"])[:2] == [0.3, 0.5]
    assert comparison["mae"][2] == pytest.approx(0.12)
    assert comparison["mae"][0] < comparison["mae"][1]
    assert comparison["valid.mae"][:2].notna().all()
    assert np.isnan(comparison["valid.mae"][2])
    assert comparison["difference"][2] == pytest.approx(0.12 - comparison["mae"][0])
    single_seed = compare(["dhmd", str(write_csv(tmp_path / "one.csv", root, 0, (2,)))], root=root)
    assert np.isnan(single_seed["difference"][1])  # one common seed


def test_rows_are_sorted_by_validation_only(root: Path, tmp_path: Path) -> None:
    comparison = compare(["dhmd", "HEAD~1", "mult"], sort="valid.mae", root=root)
    assert list(comparison["valid.mae"]) == sorted(comparison["valid.mae"])
    assert comparison.attrs["reference"] == "DHMD"
    rising = compare(["dhmd", "HEAD~1", "mult"], metric="corr", sort="valid.corr", root=root)
    assert list(rising["valid.corr"]) == sorted(rising["valid.corr"], reverse=True)
    for sort in ("test.mae", "mae"):
        with pytest.raises(DhmdError, match=r"must not rank models: sort by valid.mae"):
            compare(["dhmd", "mult"], sort=sort, root=root)
    path = str(write_csv(tmp_path / "theirs.csv", root, 0.1))
    with pytest.raises(DhmdError, match="theirs has no validation scores"):
        compare(["dhmd", path], sort="valid.mae", root=root)


@pytest.mark.parametrize(
    ("names", "options", "sentence"),
    [
        (["dhmd"], {}, "at least two names"),
        (["dhmd", "dhmd"], {}, "two of the names refer to DHMD"),
        (["dhmd", "gru"], {}, r"train gru with .* 'ablate.variants=\[mult,no_dictionary,gru\]'"),
        (["dhmd", "nothing"], {}, "nothing is not a model or variant .* revision 'nothing' is not"),
        (["dhmd", "mult"], {"metric": "f1"}, "the metric is 'f1', but must be one of mae"),
        (["dhmd", "mult"], {"by": ["kd.gamma"]}, "has no key kd.gamma"),
        (["dhmd", "mult"], {"dataset": "tea"}, "tea"),
    ],
)
def test_the_error_for_invalid_arguments_is_one_line(root: Path, names, options, sentence) -> None:
    with pytest.raises(DhmdError, match=sentence):
        compare(names, root=root, **options)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("id,seed\nv,1\n", "columns id, seed, prediction, each once"),
        ("id,seed,prediction\nv,1,nan\n", "line 2: prediction is 'nan', but must be"),
        ("id,seed,prediction\nv,one,1.0\n", "line 2: seed is 'one', but must be a whole number"),
        ("id,seed,prediction\nv,1,1.0\nv,1,2.0\n", "line 3: seed 1 has v twice"),
        ("id,seed,prediction\nv,1,1.0\n", r"seed 1: \w+ .*test utterance"),
    ],
)
def test_the_error_for_an_invalid_file_is_one_line(
    root: Path, tmp_path: Path, text: str, sentence: str
) -> None:
    (tmp_path / "theirs.csv").write_text(text)
    with pytest.raises(DhmdError, match=rf"theirs\.csv.*{sentence}"):
        compare(["dhmd", str(tmp_path / "theirs.csv")], root=root)


def test_the_command_has_every_output_format(
    root: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(root)
    names = ["compare", "dhmd", "mult", "HEAD~1"]
    assert main([*names, "--markdown"]) == 0
    comparison = compare(names[1:])
    assert capsys.readouterr().out == as_table(comparison).to_markdown() + "\n"
    assert re.search(
        rf"MulT .* \+{comparison['difference'][1]:.3f}", as_table(comparison).to_text()
    )
    assert main([*names, "--csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert float(rows[1]["difference"]) == comparison["difference"][1]
    assert main([*names, "--latex"]) == 0
    assert r"\textbf{DHMD} & 3 & " in capsys.readouterr().out
    for name in ("a.svg", "b.svg", "c.pdf"):
        assert main([*names, "--figure", str(tmp_path / name)]) == 0
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert b"MulT" in (tmp_path / "a.svg").read_bytes()
    assert (tmp_path / "c.pdf").read_bytes().startswith(b"%PDF")
    assert main([*names, "--figure", "a.gif"]) == 1
    assert "must end with .svg or .pdf" in capsys.readouterr().err


def test_the_gate_compares_a_file_as_base_or_head(root: Path, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.chdir(root)
    better = str(write_csv(tmp_path / "better.csv", root, 0.1))
    assert main(["gate", "--head", better]) == 0
    assert f"gate: {better} against the workspace" in capsys.readouterr().out
    assert main(["gate", "--base", better, "--head", "HEAD~1", "--dataset", "toy"]) == 1
    assert "MAE rose by" in capsys.readouterr().out
    assert main(["gate", "--base", better, "--head", better]) == 2
    assert "to compare two files, use dhmd compare" in capsys.readouterr().err
    (tmp_path / "bad.csv").write_text("id\n")
    assert main(["gate", "--head", str(tmp_path / "bad.csv")]) == 2
    assert "bad.csv: the header is 'id'" in capsys.readouterr().err
