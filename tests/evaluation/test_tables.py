"""The tables show the rounded content of the files."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from dhmd.base.errors import DhmdError
from dhmd.cli import main
from dhmd.evaluation.config import EvaluateConfig
from dhmd.evaluation.job import evaluate_job
from dhmd.evaluation.tables import dataset_names, dataset_tables
from tests.evaluation.fakes import write_corpus, write_outputs


@pytest.fixture(scope="module", params=["regression", "classification"])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp(request.param)
    generated = request.param == "regression"
    write_corpus(root / "c.h5", task=request.param, generated=generated)
    write_outputs(root / "p", root / "c.h5", unimodal=True)
    write_outputs(root / "m", root / "c.h5", whole=True)
    write_outputs(root / "a/late_fusion", root / "c.h5", error=1.2, seed=1)
    write_outputs(root / "a/mult", root / "c.h5", error=1.1, seed=3, whole=True)
    write_outputs(root / "a/no_dictionary", root / "c.h5", error=1.0, seed=2)
    evaluate_job(
        EvaluateConfig(resamples=100),
        root / "c.h5",
        root / "p",
        root / "m",
        root / "a",
        root / "metrics/toy",
    )
    (root / "params.yaml").write_text("")
    return root


def test_results_have_baselines_encoders_variants_model_and_oracle(root):
    results, variants, missing, by_variant = dataset_tables(root / "metrics/toy")
    summary = json.loads((root / "metrics/toy/details/summary.json").read_text())
    names = [row[0] for row in results.rows]
    oracle = ["oracle (label before noise)"] if "oracle" in summary else []
    task = json.loads((root / "metrics/toy/details/identity.json").read_text())["task"]
    assert names == [
        {"regression": "median label", "classification": "most frequent class"}[task],
        "ridge, pooled features",
        "ridge, text",
        "ridge, audio",
        "ridge, vision",
        "text alone",
        "audio alone",
        "vision alone",
        "late fusion",
        "MulT",
        "**DHMD**",
        *oracle,
    ]
    assert ("generated data" in results.title) == bool(oracle)
    first = next(iter(summary["test"]))
    row = results.rows[names.index("**DHMD**")]
    value = summary["test"][first]
    assert row[1:3] == ["3", f"{value['mean']:.3f} ± {value['std']:.3f}"]
    assert results.rows[0][1] == "-"
    assert [row[0] for row in variants.rows] == ["late fusion", "MulT", "no dictionary"]
    assert [row[0] for row in missing.rows] == ["audio", "text", "vision", "noise for text"]
    assert by_variant.header == ["", "nothing missing", *(row[0] for row in missing.rows)]
    assert [row[0] for row in by_variant.rows] == ["MulT", "**DHMD**"]
    assert by_variant.rows[1][2:] == [row[2].split(" ")[0] for row in missing.rows]
    entry = json.loads((root / "metrics/toy/details/ablations.json").read_text())["late_fusion"]
    entry = entry["mae" if "mae" in entry else "f1"]
    assert variants.rows[0][3] == f"{entry['difference']:+.3f}"
    assert variants.rows[0][4] == f"[{entry['ci_low']:+.3f}, {entry['ci_high']:+.3f}]"


def test_every_format_has_every_cell(root):
    for table in dataset_tables(root / "metrics/toy"):
        lines = table.to_markdown().splitlines()[2:]
        assert {line.count("|") for line in lines} == {len(table.header) + 1}
        assert len(lines) == len(table.rows) + 2
        text = table.to_text().splitlines()
        assert len(text) == len(table.rows) + 2
        assert "**" not in "".join(text)
        latex = table.to_latex().splitlines()
        assert {line.count(" & ") for line in latex if line.endswith(r"\\")} == {
            len(table.header) - 1
        }
        assert latex[1] == rf"\begin{{tabular}}{{l{'r' * (len(table.header) - 1)}}}"
        assert not re.search(r"(?<!\\)[%_&](?! |$)", "".join(latex[1:]))


def test_the_command_prints_the_tables(root, monkeypatch, capsys):
    monkeypatch.chdir(root)
    # The partial directory of a killed `evaluate` is not a dataset.
    shutil.copytree(root / "metrics/toy", root / "metrics/.partial-0123456789ab-toy")
    assert dataset_names(root / "metrics") == ["toy"]
    assert main(["table"]) == 0
    text = capsys.readouterr().out
    assert main(["table", "toy", "--markdown"]) == 0
    assert capsys.readouterr().out.count("|") > 50
    assert text.startswith("toy: ")
    assert main(["table", "toy", "--latex"]) == 0
    assert capsys.readouterr().out.startswith("% toy: ")
    assert main(["table", "tea"]) == 1
    assert capsys.readouterr().err == "dhmd table: metrics/ has no dataset tea; it has toy\n"


def test_missing_and_broken_files_are_named(root, tmp_path, monkeypatch, capsys):
    (tmp_path / "params.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    assert main(["table"]) == 1
    assert "run dvc repro" in capsys.readouterr().err
    folder = tmp_path / "metrics/toy"
    shutil.copytree(root / "metrics/toy", folder)
    (folder / "details/summary.json").write_text("[]")
    assert main(["table"]) == 1
    assert "summary.json is not a JSON object" in capsys.readouterr().err
    (folder / "details/ablations.json").unlink()
    assert main(["table"]) == 1
    assert "ablations.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("summary.json", "{}"),
        ("unimodal.csv", "modality;split\ntext;test\n"),
        ("trivial_baselines.json", '{"ridge": 1}'),
        ("ablations.json", '{"gru": []}'),
    ],
)
def test_unexpected_content_is_reported(root, tmp_path, name, text):
    folder = shutil.copytree(root / "metrics/toy", tmp_path / "toy")
    (folder / "details" / name).write_text(text)
    with pytest.raises(DhmdError, match=r"toy has a file that this version of dhmd cannot read"):
        dataset_tables(folder)
