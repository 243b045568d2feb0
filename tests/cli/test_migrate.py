"""Migration of files of dhmd 0.1, from the history of this repository."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from dhmd.cli import main
from dhmd.evaluation.files import read_rows
from dhmd.settings import load_params

ROOT = Path(__file__).parents[2]
LAST_OF_01 = "8289149438ca5c02cefab9ad9dc36b7ed7e2d421"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a project with params.yaml and metrics/ of 0.1 and the recipes of this version."""
    command = ["git", "archive", LAST_OF_01, "params.yaml", "metrics"]
    archive = subprocess.run(command, cwd=ROOT, capture_output=True)
    if archive.returncode:
        pytest.skip("a shallow clone does not have the last commit of dhmd 0.1")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
        tar.extractall(tmp_path, filter="data")
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_migrating_params_keeps_values(project: Path) -> None:
    params = project / "params.yaml"
    text = params.read_text()
    for old, new in (
        ("  device: auto", "  device: cpu"),
        ("  lambda: 0.3", "  lambda: 0.7"),
        ("  vote: true", "  vote: false"),
        ("    demo: null", "    demo: null\n    mine: ../files"),
    ):
        assert old in text
        text = text.replace(old, new)
    params.write_text(text)
    shutil.copy(project / "recipes" / "my_arrays.yaml", project / "recipes" / "mine.yaml")
    assert main(["migrate"]) == 0
    settings = load_params(project).for_dataset("demo")
    assert settings.compute.device == "cpu"
    assert settings.kd.lambda_ == 0.7
    assert settings.model.auxiliary_average is False
    assert settings.data.sources["mine"] == "../files"
    assert "# Share of distillation, 0 to 1" in params.read_text()


def test_migrating_metrics_keeps_their_content(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = project / "metrics" / "demo"
    predictions = (folder / "predictions.csv").read_bytes()
    old = json.loads((folder / "metrics.json").read_text())
    assert main(["migrate"]) == 0
    new = json.loads((folder / "metrics.json").read_text())
    assert new["test"]["mae"] == old["test"]["mae"]["mean"]
    details = folder / "details"
    assert (details / "predictions.csv").read_bytes() == predictions
    assert json.loads((details / "summary.json").read_text())["oracle"] == old["ceiling"]
    assert read_rows(details / "missing_modalities.csv")[0]["missing"] == "audio"
    capsys.readouterr()
    assert main(["table", "demo"]) == 0
    assert "ridge, pooled features" in capsys.readouterr().out
    assert main(["migrate"]) == 0
    assert capsys.readouterr().out == "params.yaml, metrics/ and models/ are up to date\n"


def test_old_models_are_listed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "models" / "demo").mkdir(parents=True)
    (project / "models" / "demo" / "model.json").write_text('{"format": 2}')
    assert main(["migrate"]) == 0
    assert "model.json has format 2, but this version of dhmd reads 3" in capsys.readouterr().out


def test_params_that_cannot_be_migrated_are_not_changed(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = project / "params.yaml"
    text = params.read_text().replace("  lambda: 0.3", "  lambda: 2")
    params.write_text(text)
    assert main(["migrate"]) == 1
    assert "set your values in params.yaml of this version" in capsys.readouterr().err
    assert params.read_text() == text
