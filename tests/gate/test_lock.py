"""`dhmd lock-check` on a small real DVC project, in its own folder and in a clone without data."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dhmd.base.errors import DhmdError
from dhmd.cli import main
from dhmd.gate.lock import check_lock
from tests.gate.fakes import commit_all, git, new_repository

DVC = """\
stages:
  make:
    matrix:
      dataset: ${datasets}
    cmd: python step.py data/${item.dataset} ${size}
    deps:
      - step.py
    params:
      - size
    outs:
      - data/${item.dataset}
  train:
    matrix:
      dataset: ${datasets}
    cmd: python step.py models/${item.dataset} 1
    deps:
      - code
      - data/${item.dataset}
    outs:
      - models/${item.dataset}
  evaluate:
    matrix:
      dataset: ${datasets}
    cmd: python step.py metrics/${item.dataset}.json 2
    deps:
      - models/${item.dataset}
    metrics:
      - metrics/${item.dataset}.json:
          cache: false
"""
STEP = """\
import pathlib, sys
path = pathlib.Path(sys.argv[1])
path.parent.mkdir(exist_ok=True)
path.write_text(sys.argv[2])
"""


def _dvc(root: Path, *arguments: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=root,
        env={**os.environ, "PATH": path},
        capture_output=True,
        check=True,
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    new_repository(root)
    _dvc(root, "init", "-q")
    _dvc(root, "config", "core.analytics", "false")
    (root / "dvc.yaml").write_text(DVC)
    (root / "step.py").write_text(STEP)
    (root / "code").mkdir()
    (root / "code/a.py").write_text("1\n")
    (root / "params.yaml").write_text("datasets:\n  - demo\nsize: 3\n")
    (root / ".gitignore").write_text("/data/\n/models/\n")
    _dvc(root, "repro", "-q")
    commit_all(root)
    return root


@pytest.fixture
def clone(project: Path, tmp_path: Path) -> Path:
    """A fresh clone: code, lock and metrics, no data."""
    git(tmp_path, "clone", "-q", str(project), "clone")
    return tmp_path / "clone"


def test_current_with_data_and_without(project, clone):
    for root in (project, clone):
        state = check_lock(root)
        assert state.stale == {}
        assert state.downstream == ()
    assert not (clone / "data").exists()


def test_code_params_and_commands_are_named(clone):
    (clone / "code/a.py").write_text("2\n")
    (clone / "params.yaml").write_text("datasets:\n  - demo\nsize: 4\n")
    state = check_lock(clone)
    assert state.stale == {
        "make@demo": ("params.yaml: size modified", "changed command"),
        "train@demo": ("code modified",),
    }
    assert state.downstream == ("evaluate@demo",)


def test_committed_metrics_that_are_edited_or_gone(clone):
    (clone / "metrics/demo.json").write_text("9")
    assert check_lock(clone).stale == {"evaluate@demo": ("metrics/demo.json modified",)}
    (clone / "metrics/demo.json").unlink()
    # Data may be absent in a clone, what Git holds may not.
    assert check_lock(clone).stale == {"evaluate@demo": ("metrics/demo.json deleted",)}


def test_a_stage_that_never_ran(clone):
    (clone / "params.yaml").write_text("datasets:\n  - demo\n  - other\nsize: 3\n")
    stale = check_lock(clone).stale
    assert stale == dict.fromkeys(("make@other", "train@other", "evaluate@other"), ("never run",))
    (clone / "dvc.lock").unlink()
    assert "evaluate@demo" in check_lock(clone).stale


def test_a_lock_whose_stages_do_not_fit_each_other(clone):
    # As after a merge that took one stage's entry from either side.
    text = (clone / "dvc.lock").read_text()
    first = text.index("md5: ", text.index("path: models/demo", text.index("evaluate@demo")))
    (clone / "dvc.lock").write_text(text[: first + 5] + "a" * 32 + text[first + 37 :])
    state = check_lock(clone)
    assert state.stale == {"evaluate@demo": ("models/demo is not what train@demo made last",)}


def test_the_command(clone, monkeypatch, capsys):
    monkeypatch.chdir(clone)
    assert main(["lock-check"]) == 0
    assert capsys.readouterr().out == "dvc.lock is current with code and params\n"
    (clone / "code/a.py").write_text("2\n")
    assert main(["lock-check"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "stale: train@demo (code modified)",
        "downstream of these: evaluate@demo",
        "run dvc repro and commit dvc.lock and metrics/",
    ]
    (clone / "dvc.yaml").write_text("stages: {")
    assert main(["lock-check"]) == 1
    message = capsys.readouterr().err
    assert message.startswith("dhmd lock-check: dvc status failed, so dvc.lock cannot be checked:")
    assert message.count("\n") == 1


def test_outside_dvc(tmp_path):
    shutil.copytree(Path(__file__).parent, tmp_path / "x")
    with pytest.raises(DhmdError, match="dvc status failed"):
        check_lock(tmp_path / "x")
