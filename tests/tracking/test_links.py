from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dhmd.base.errors import DhmdError
from dhmd.tracking.links import Reference, link, locked_outputs, references
from dhmd.tracking.replay import Replay
from dhmd.tracking.store import MlflowStore
from tests.tracking.fakes import training

LOCK = """schema: '2.0'
stages:
  train@demo:
    cmd: python -m stages.train demo
    outs:
    - path: models/demo
      hash: md5
      md5: {md5}
      size: 1
  evaluate@demo:
    cmd: python -m stages.evaluate demo
"""


def git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=e", *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_head_and_every_experiment_are_found(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "dvc.lock").write_text(LOCK.format(md5="one.dir"))
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "a")
    head = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "dvc.lock").write_text(LOCK.format(md5="two.dir"))
    git(tmp_path, "commit", "-qam", "b")
    experiment = git(tmp_path, "rev-parse", "HEAD")
    git(tmp_path, "update-ref", f"refs/exps/{head[:2]}/{head[2:]}/lobar-hull", experiment)
    git(tmp_path, "update-ref", "refs/exps/exec/EXEC_HEAD", experiment)
    git(tmp_path, "reset", "-q", "--hard", head)
    assert references(tmp_path) == [
        Reference("commits", head[:10], frozenset({"one.dir"})),
        Reference("experiments", "lobar-hull", frozenset({"two.dir"})),
    ]


def test_without_git_or_lock_there_is_nothing_to_link(tmp_path: Path) -> None:
    assert references(tmp_path) == []
    git(tmp_path, "init", "-q")
    assert references(tmp_path) == []


@pytest.mark.parametrize("text", ["a: [", "- 1", "stages: [1]", "stages: {x: {outs: 3}}"])
def test_a_damaged_lock_is_named(text: str) -> None:
    with pytest.raises(DhmdError, match=r"HEAD:dvc\.lock is damaged"):
        locked_outputs(text, "HEAD:dvc.lock")


def test_an_empty_lock_names_no_output() -> None:
    assert locked_outputs("", "x") == frozenset()


def test_references_are_listed_in_the_tags_of_the_run_they_use(store: MlflowStore) -> None:
    for key in ("k1", "k2"):
        replay = Replay(store, print)
        for event in training(key):
            replay.feed(event)
    outputs = frozenset({"md5-k1.dir"})
    found = [
        Reference("commits", "abc", outputs),
        Reference("experiments", "lobar-hull", outputs),
        Reference("experiments", "sappy-milt", outputs | {"other"}),
    ]
    told = link(store, found)
    assert len(told) == 3
    assert told[0].startswith("abc uses the outputs of train demo")
    tags = {run.tags["dhmd.key"]: run.tags for run in store.trained()}
    assert tags["k1"]["commits"] == "abc"
    assert tags["k1"]["experiments"] == "lobar-hull, sappy-milt"
    assert "commits" not in tags["k2"]
    assert link(store, found) == []
