"""Git and DVC on a small real project: dvc.lock, the cache, the remote, experiments, revisions.

The gate's tests cover revisions and experiments further.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dhmd.base.errors import DhmdError
from dhmd.cli import main
from dhmd.vcs import Workspace, code_version, commit
from dhmd.vcs.lock import cached_files, check_lock, lock_entries, locked_outputs, outputs_md5
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
    """Create a clone with code, dvc.lock and metrics/, but without data."""
    git(tmp_path, "clone", "-q", str(project), "clone")
    return tmp_path / "clone"


def test_a_current_lock_is_up_to_date_with_and_without_data(project, clone):
    for root in (project, clone):
        state = check_lock(root)
        assert state.stale == {}
        assert state.downstream == ()
    assert not (clone / "data").exists()


def test_changed_code_params_and_commands_are_reported(clone):
    (clone / "code/a.py").write_text("2\n")
    (clone / "params.yaml").write_text("datasets:\n  - demo\nsize: 4\n")
    state = check_lock(clone)
    assert state.stale == {
        "make@demo": ("changed command", "params.yaml: size modified"),
        "train@demo": ("code modified",),
    }
    assert state.downstream == ("evaluate@demo",)


def test_edited_or_missing_metrics_are_reported(clone):
    (clone / "metrics/demo.json").write_text("9")
    assert check_lock(clone).stale == {"evaluate@demo": ("metrics/demo.json modified",)}
    (clone / "metrics/demo.json").unlink()
    # Data may be absent in a clone, what Git holds may not.
    assert check_lock(clone).stale == {"evaluate@demo": ("metrics/demo.json deleted",)}


def test_a_stage_that_never_ran_is_stale(clone):
    (clone / "params.yaml").write_text("datasets:\n  - demo\n  - other\nsize: 3\n")
    stale = check_lock(clone).stale
    assert stale == dict.fromkeys(("make@other", "train@other", "evaluate@other"), ("never run",))
    (clone / "dvc.lock").unlink()
    assert "evaluate@demo" in check_lock(clone).stale


def test_a_stage_with_outdated_inputs_is_stale(clone):
    # As after a merge that took one stage's entry from either side.
    text = (clone / "dvc.lock").read_text()
    first = text.index("md5: ", text.index("path: models/demo", text.index("evaluate@demo")))
    (clone / "dvc.lock").write_text(text[: first + 5] + "a" * 32 + text[first + 37 :])
    state = check_lock(clone)
    assert state.stale == {"evaluate@demo": ("models/demo is not the last output of train@demo",)}


def test_lock_check_prints_stale_stages(clone, monkeypatch, capsys):
    monkeypatch.chdir(clone)
    assert main(["lock-check"]) == 0
    assert capsys.readouterr().out == "dvc.lock is up to date with code and params.yaml\n"
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
    sentence = "dhmd lock-check: dvc status failed, so that dvc.lock cannot be checked:"
    assert message.startswith(sentence)
    assert message.count("\n") == 1


def test_a_folder_without_dvc_is_an_error(tmp_path):
    with pytest.raises(DhmdError, match="dvc status failed"):
        check_lock(tmp_path)


def test_locked_outputs_match_the_files(project):
    assert locked_outputs(commit(project, "HEAD"))["train@demo"] == {
        "models/demo": outputs_md5(project / "models/demo")
    }


@pytest.mark.parametrize(
    "text",
    [
        "a: [",
        "- 1",
        "stages: [1]",
        "stages: {x: 3}",
        "stages: {x: {outs: 3}}",
        "<<<<<<< HEAD\na: 1",
    ],
)
def test_a_damaged_lock_is_refused(tmp_path, text):
    (tmp_path / "dvc.lock").write_text(text)
    with pytest.raises(DhmdError, match=r"dvc\.lock of the workspace is damaged"):
        lock_entries(Workspace(tmp_path))


def test_an_absent_or_empty_lock_has_no_entries(tmp_path):
    assert lock_entries(Workspace(tmp_path)) == {}
    (tmp_path / "dvc.lock").write_text("")
    assert lock_entries(Workspace(tmp_path)) == {}


def test_the_md5_is_that_of_dvc(tmp_path):
    # The literals are what DVC 3.67.1 wrote into dvc.lock for these files.
    folder = tmp_path / "x"
    (folder / "sub").mkdir(parents=True)
    (folder / "b").write_text("hi\n")
    (folder / "é").write_text("hé\n", encoding="utf-8")
    (folder / "sub" / "a").write_text("1\n")
    (folder / "p.yaml").write_text("a: 1\n")
    assert outputs_md5(folder) == "9f646e9d086ff6f85cb5040fe2209676.dir"
    assert outputs_md5(folder / "p.yaml") == "e0ccdaf42c593022e15b18cc0e96d201"
    assert outputs_md5(tmp_path / "absent") is None


def test_code_version_has_commit_and_changes(clone, tmp_path):
    assert code_version(clone) == (git(clone, "rev-parse", "HEAD"), False)
    (clone / "step.py").write_text("# changed")
    assert code_version(clone)[1] is True
    assert code_version(tmp_path) == (None, None)


def test_the_files_of_a_removed_output_are_found_in_the_cache(project, tmp_path):
    (project / "folder.py").write_text(
        "import pathlib; p = pathlib.Path('raw'); p.mkdir(); (p / 'a.csd').write_text('a')"
    )
    copy = shutil.copytree(project, tmp_path / "copy")
    (copy / "dvc.yaml").write_text("stages: {raw: {cmd: python folder.py, outs: [raw]}}\n")
    _dvc(copy, "repro", "-q")
    shutil.rmtree(copy / "raw")
    (file,) = cached_files(copy, Path("raw")).items()
    assert (file[0], file[1].read_text()) == ("a.csd", "a")
    assert cached_files(copy, Path("other")) == {}
    # A listing of another form, or one that leads out of the cache, is no file.
    for listing in ('{"a": 1}', "[1]", "null", '[{"relpath": "x", "md5": "../../../etc/passwd"}]'):
        md5 = locked_outputs(Workspace(copy))["raw"]["raw"]
        path = copy / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
        path.chmod(0o644)
        path.write_text(listing)
        assert cached_files(copy, Path("raw")) == {}


def test_an_experiment_that_is_older_than_the_remote_can_be_pushed(
    project, tmp_path, monkeypatch, capsys
):
    root = shutil.copytree(project, tmp_path / "root")
    git(tmp_path, "init", "-q", "--bare", "git")
    git(root, "remote", "add", "origin", str(tmp_path / "git"))
    git(root, "push", "-q", "origin", "main")
    _dvc(root, "exp", "run", "-q", "-n", "old", "-S", "size=9")
    sha = commit(root, "old").sha
    assert git(root, "rev-parse", f"{sha}~1") == git(root, "rev-parse", "HEAD")
    monkeypatch.chdir(root)
    assert main(["lock-check", "--remote", "old"]) == 1
    assert "no remote" in capsys.readouterr().err

    _dvc(root, "remote", "add", "-d", "store", str(tmp_path / "store"))
    git(root, "commit", "-q", "-am", "a remote")
    _dvc(root, "exp", "push", "origin", "old")  # succeeds, and uploads no file
    assert main(["lock-check", "--remote", "old"]) == 1
    missing = capsys.readouterr().out.splitlines()
    assert "not in the DVC remote: data/demo" in missing
    assert "dvc remote add --local -d" in missing[-1]

    _dvc(root, "remote", "add", "--local", "-d", "store", str(tmp_path / "store"))
    _dvc(root, "exp", "push", "origin", "old")
    assert main(["lock-check", "--remote", "old"]) == 0
    assert capsys.readouterr().out == "every output of old is in the DVC remote\n"
    _dvc(root, "push", "-q")
    assert main(["lock-check", "--remote"]) == 0
