"""Exported models predict the same bits, also from the hub; the card has the model's scores."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

from dhmd.base.errors import DhmdError
from dhmd.config.schema import as_json
from dhmd.evaluation.config import EvaluateConfig
from dhmd.evaluation.job import evaluate_job
from dhmd.publish import export
from tests.prediction.conftest import one_thread, trained, trained_classes
from tests.prediction.corpora import Pipeline, recipe
from tests.publish.hub import Hub, running_hub

__all__ = ["one_thread", "trained", "trained_classes"]


@pytest.fixture
def project(trained: Pipeline, tmp_path: Path) -> Path:
    """Create a repository with the dataset config and the evaluation of the trained model."""
    root = tmp_path / "project"
    (root / "recipes").mkdir(parents=True)
    config = as_json(recipe("regression", provenance="Three friends, who gave their consent."))
    del config["name"]
    (root / "recipes" / "tiny.yaml").write_text(yaml.safe_dump(config))
    (root / "params.yaml").touch()
    folder = trained.model.parent
    evaluate_job(
        EvaluateConfig(),
        folder / "aligned.h5",
        folder / "pretrained",
        trained.model,
        None,
        root / "metrics" / "tiny",
    )
    return root


def _dhmd(hub: Hub, folder: Path, *commands: list[str]) -> list[str]:
    """Run commands in one process of their own: huggingface_hub reads its settings when imported.

    Returns:
        What they print.
    """
    code = "import json, sys; from dhmd.cli import main\nfor c in json.loads(sys.argv[1]): main(c)"
    settings = {"HF_ENDPOINT": hub.address, "HF_HOME": str(folder / "hf"), "HF_TOKEN": "hf_x"}
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)],
        env={**os.environ, **settings},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_a_model_from_the_hub_predicts_the_same_bits(
    trained: Pipeline, project: Path, tmp_path: Path
) -> None:
    model, out, inputs = str(trained.model), str(tmp_path / "out"), tmp_path / "inputs"
    names = [model, out, "me/tiny", "me/tiny@main"]
    commands = [["export", model, "--out", out, "--push", "me/tiny", "--private"]]
    for number, name in enumerate(names):
        words = [str(trained.inputs(inputs / str(number))), "--output", f"{number}.csv"]
        commands.append(["predict", *words, "--model", name, "--device", "cpu"])
    with running_hub() as hub:
        printed = _dhmd(hub, project, *commands)
        assert f"uploaded {hub.address}/me/tiny" in printed
        assert hub.visibility == {"me/tiny": "private"}
    seeds = {"seed-4.safetensors", "seed-7.safetensors"}
    assert set(os.listdir(out)) == {"README.md", "model.json", "history.csv", *seeds}
    assert len({(project / f"{number}.csv").read_bytes() for number in range(len(names))}) == 1


def test_the_error_for_a_model_that_is_not_on_the_hub_is_one_line(tmp_path: Path) -> None:
    with running_hub() as hub:
        hub.files["me/other"] = {"config.json": b"{}"}
        commands = [["predict", "x.srt", "--model", name] for name in ("me/none", "me/other")]
        printed = _dhmd(hub, tmp_path, *commands)
    failed = [line for line in printed if line.startswith("dhmd predict: ")]
    assert len(failed) == 2
    assert "me/none is not a folder" in failed[0]
    assert "Repository Not Found" in failed[0]
    assert "me/other on the Hugging Face hub has no model.json" in failed[1]


def test_the_card_has_the_evaluated_scores_beside_the_trivial_baselines(
    trained: Pipeline, project: Path, tmp_path: Path
) -> None:
    export(trained.model, tmp_path / "out", root=project, license_="cc-by-4.0")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    summary = json.loads((project / "metrics" / "tiny" / "metrics.json").read_text())["test"]
    assert card.data.license == "cc-by-4.0"
    scores = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert scores["MAE"] == summary["mae"]
    assert scores["F1"] == summary["f1_non0"]
    trivial = json.loads(
        (project / "metrics" / "tiny" / "details" / "trivial_baselines.json").read_text()
    )
    rows = [line.split(" | ") for line in card.text.splitlines() if line.startswith("| ")]
    by_title = {row[0].removeprefix("| "): row[1] for row in rows}
    assert by_title["median label"] == f"{trivial['median']['test']['mae']:.3f}"
    assert by_title["**this model**"].startswith(f"{summary['mae']:.3f} ± ")
    intervals = json.loads((project / "metrics/tiny/details/intervals.json").read_text())
    low, high = intervals["mae"]["low"], intervals["mae"]["high"]
    assert by_title["95 % over utterances"] == f"{low:.3f} to {high:.3f}"
    assert "Three friends, who gave their consent." in card.text
    assert "words.csd" in card.text


def test_the_card_of_a_model_without_evaluation_has_no_scores(
    trained_classes: Pipeline, tmp_path: Path
) -> None:
    export(trained_classes.model, tmp_path / "out")
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert "This export has no scores" in card.text
    assert "classification with the classes against, neutral, for." in card.text
    assert card.data.license == "other"


def test_weights_have_ordinary_permissions(trained: Pipeline, tmp_path: Path) -> None:
    umask = os.umask(0o022)
    try:
        export(trained.model, tmp_path / "out")
    finally:
        os.umask(umask)
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()} == {0o644}


def test_a_directory_with_files_is_not_replaced(trained: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(
        DhmdError, match="exists and is not an empty directory: choose another --out"
    ):
        export(trained.model, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
