"""Test `dhmd config check`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dhmd.cli import main
from tests.shipped import SHIPPED

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new), "utf-8")


def test_the_shipped_settings_are_valid(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check", *SHIPPED]) == 0, capsys.readouterr().err
    assert main(["config", "check"]) == 0
    assert "the recipes of demo are valid" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "params.yaml",
            "\n- demo",
            "\n- demoo",
            "no recipe recipes/demoo.yaml for dataset demoo; did you mean demo?",
        ),
        (
            "params.yaml",
            "  lambda: 0.3",
            "  lambda: 1.3",
            "params.yaml: kd.lambda is 1.3, but must be a number between 0 and 1",
        ),
        (
            "params.yaml",
            "  variants:",
            "  variants:\n    - no_distilation",
            "ablate.variants: 'no_distilation' is not a variant; choose from no_distillation",
        ),
        (
            "recipes/demo.yaml",
            "options: null",
            "",
            "recipes/demo.yaml lacks options: every key must be present, null for no value",
        ),
        (
            "recipes/demo.yaml",
            "  regime: noisy",
            "  regime: loud",
            "recipes/demo.yaml: generator.regime is 'loud', but must be one of noisy, clean",
        ),
        (
            "recipes/demo.yaml",
            "folds: null",
            "folds: {file: folds/demo.json}",
            "recipes/demo.yaml: folds.file is folds/demo.json, but there is no such file",
        ),
    ],
)
def test_the_error_for_an_invalid_setting_is_one_line(
    project: Path,
    file: str,
    old: str,
    new: str,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    edit(project / file, old, new)
    assert main(["config", "check"]) == 1
    line = capsys.readouterr().err.strip()
    assert line.startswith("dhmd config: ")
    assert message in line
    assert "\n" not in line


def test_every_recipe_is_checked(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(project / "recipes" / "mosei.yaml", "  heads: 6", "  heads: 7")
    edit(project / "recipes" / "mosi.yaml", "  heads: 10", "  heads: 11")
    assert main(["config", "check", "demo", "mosi", "mosei"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_linked_data_folder_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (project / "disk").mkdir()
    (project / "data").symlink_to("disk")
    assert main(["config", "check"]) == 1
    line = capsys.readouterr().err
    assert line.startswith("dhmd config: data/ is a symbolic link to disk, which DVC refuses")
    assert "dvc cache dir --local" in line
    assert line.count("\n") == 1
