"""`dhmd repair` on a real DVC project whose files were cut; DVC itself says what it refuses."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dhmd.base.errors import DhmdError
from dhmd.cli import main
from dhmd.gate.repair import RWLOCK, repair
from tests.gate.fakes import commit_all, git, new_repository

DVC = """\
stages:
  make:
    cmd: cp x y
    deps:
      - folder
      - x
    params:
      - size
    outs:
      - y
"""


def dvc(root: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        cwd=root,
        env={k: v for k, v in os.environ.items() if not k.startswith("DVC_")},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made") / "project"
    new_repository(root)
    assert dvc(root, "init", "-q")[0] == 0
    (root / "dvc.yaml").write_text(DVC)
    (root / "params.yaml").write_text("size: null\n")
    (root / "x").write_text("1")
    (root / "folder").mkdir()
    (root / "folder" / "z").write_text("1")
    assert dvc(root, "repro", "-q")[0] == 0
    commit_all(root)
    return root


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "project")


def test_a_project_that_is_whole_is_left_alone(project):
    before = {path: path.stat().st_mtime_ns for path in project.rglob("*")}
    assert repair(project) == []
    (project / RWLOCK).unlink()
    assert repair(project) == []
    after = {path: path.stat().st_mtime_ns for path in project.rglob("*") if path.is_file()}
    assert after == {path: before[path] for path in after}


@pytest.mark.parametrize(
    "left", ["", "{", '{"write": {}, "read', "[]", "null", '{"read": 3}', "\ufffe"]
)
def test_a_lock_of_dvcs_that_was_not_written_to_its_end(project, left):
    (project / RWLOCK).write_text(left, encoding="utf-16" if left == "\ufffe" else "utf-8")
    assert not dvc_takes_its_lock(project)
    assert repair(project) == [f"removed {RWLOCK}, which DVC had not finished writing"]
    assert dvc_takes_its_lock(project)


def dvc_takes_its_lock(project: Path) -> bool:
    """What `dvc repro` does around every stage."""
    from dvc.fs import localfs
    from dvc.rwlock import rwlock

    try:
        with rwlock(str(project / ".dvc/tmp"), localfs, "x", [], [], hardlink=False):
            return True
    except Exception:
        return False


def test_dvc_runs_after_a_repair(project):
    (project / RWLOCK).write_text('{"write": {}, "read')
    (project / "x").write_text("2")
    status, said = dvc(project, "repro")
    assert status != 0
    assert "JSON structure is corrupted" in said
    assert repair(project)
    assert dvc(project, "repro", "-q")[0] == 0
    assert (project / "y").read_text() == "2"


def test_dvc_lock_cut_anywhere(project):
    """What is left alone is what DVC reads, and what it would refuse is restored."""
    from dvc.schema import COMPILED_LOCKFILE_SCHEMA
    from dvc.utils.serialize import parse_yaml

    def dvc_reads(text: str) -> bool:
        try:
            COMPILED_LOCKFILE_SCHEMA(parse_yaml(text, "dvc.lock"))
        except Exception:
            return False
        return True

    path = project / "dvc.lock"
    whole = path.read_text()
    left = 0
    for end in range(len(whole)):
        path.write_text(whole[:end])
        said = repair(project)
        if said:
            assert (len(said), path.read_text()) == (1, whole), end
        else:
            left += 1
            assert path.read_text() == whole[:end]
            assert dvc_reads(whole[:end]), end
    assert 0 < left < len(whole) / 2


def test_a_stage_that_no_commit_knows_comes_back_from_the_run_cache(project):
    path = project / "dvc.lock"
    committed = path.read_text()
    (project / "x").write_text("2")
    assert dvc(project, "repro", "-q")[0] == 0
    newer = path.read_text()
    path.write_text(newer[: newer.index("md5")])
    assert dvc(project, "status")[0] != 0
    assert repair(project) == [
        "restored dvc.lock from the last commit; DVC had not finished writing it"
    ]
    assert path.read_text() == committed
    (project / "y").unlink()
    status, said = dvc(project, "repro")
    assert status == 0, said
    assert "is cached - skipping run" in said
    assert path.read_text() == newer


def test_dvc_lock_that_was_never_committed(project):
    git(project, "rm", "-q", "--cached", "dvc.lock")
    git(project, "commit", "-q", "-m", "no lock")
    (project / "dvc.lock").write_text("schema: '2.0'\nstages:\n  make:\n")
    (said,) = repair(project)
    assert said.startswith("removed dvc.lock")
    assert not (project / "dvc.lock").exists()


def test_git_that_fails_proves_no_absence(project, monkeypatch):
    """As in a folder of another user: the last commit holds dvc.lock, and git does not tell."""
    (project / "dvc.lock").write_text("schema")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(DhmdError, match=r"git cannot show the last commit's: .*dubious ownership"):
        repair(project)
    assert (project / "dvc.lock").read_text() == "schema"


def test_a_project_without_a_commit(project):
    shutil.rmtree(project / ".git")
    new_repository(project)
    (project / "dvc.lock").write_text("schema")
    assert repair(project) == [
        "removed dvc.lock, which DVC had not finished writing; no commit holds it"
    ]


def test_dvc_lock_that_is_broken_where_it_is_committed(project):
    (project / "dvc.lock").write_text("schema: '2.0'\nstages:\n")
    commit_all(project)
    (project / "dvc.lock").write_text("sch")
    with pytest.raises(DhmdError, match=r"dvc\.lock cannot be read, nor as it is committed"):
        repair(project)
    assert (project / "dvc.lock").read_text() == "sch"


def test_what_cannot_be_read_is_said(project):
    (project / RWLOCK).unlink()
    (project / RWLOCK).mkdir()
    with pytest.raises(DhmdError, match=r"cannot put DVC's files right: .*rwlock"):
        repair(project)


def test_an_unresolved_merge_is_not_ours_to_decide(project):
    path = project / "dvc.lock"
    conflict = f"<<<<<<< HEAD\n{path.read_text()}=======\n>>>>>>> other\n"
    path.write_text(conflict)
    with pytest.raises(DhmdError, match=r"dvc\.lock holds the marks of a merge"):
        repair(project)
    assert path.read_text() == conflict


@pytest.mark.parametrize("guard", [".dvc/tmp/lock", ".dvc/tmp/rwlock.lock"])
def test_nothing_is_touched_while_dvc_writes(project, guard, monkeypatch, capsys):
    (project / RWLOCK).write_text("{")
    with open(project / guard, "r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # as zc.lockfile does, which DVC locks with
        with pytest.raises(DhmdError, match="DVC is at work here"):
            repair(project, patience=0.1)
    assert (project / RWLOCK).read_text() == "{"
    monkeypatch.chdir(project)
    assert main(["repair"]) == 0
    assert capsys.readouterr().out == (
        f"dhmd repair: removed {RWLOCK}, which DVC had not finished writing\n"
    )
    assert main(["repair"]) == 0
    assert capsys.readouterr().out == ""
