from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from dhmd.tracking.facts import (
    Process,
    flatten,
    outputs_md5,
    run_tags,
    surely_dead,
    this_process,
)


@dataclass(frozen=True)
class Section:
    lr: float
    seeds: tuple[int, ...]


def test_flatten_gives_dotted_names_and_text() -> None:
    nested = {
        "train": Section(lr=1e-4, seeds=(1, 2)),
        "kd": {"lambda": 0.5, "edges": None},
        "on": True,
        "name": "demo",
    }
    assert flatten(nested) == {
        "train.lr": "0.0001",
        "train.seeds": "1, 2",
        "kd.lambda": "0.5",
        "kd.edges": "null",
        "on": "true",
        "name": "demo",
    }


def test_the_md5_is_dvcs(tmp_path: Path) -> None:
    # The literals are what DVC 3.67.1 wrote into dvc.lock for these very files.
    folder = tmp_path / "x"
    (folder / "sub").mkdir(parents=True)
    (folder / "b").write_text("hi\n")
    (folder / "é").write_text("hé\n", encoding="utf-8")
    (folder / "sub" / "a").write_text("1\n")
    (folder / "p.yaml").write_text("a: 1\n")
    assert outputs_md5(folder) == "9f646e9d086ff6f85cb5040fe2209676.dir"
    assert outputs_md5(folder / "p.yaml") == "e0ccdaf42c593022e15b18cc0e96d201"
    assert outputs_md5(tmp_path / "absent") is None


def test_tags_name_commit_experiment_machine_and_versions(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "f").write_text("1")
    subprocess.run([*git, "add", "f"], check=True)
    subprocess.run([*git, "commit", "-qm", "c"], check=True)
    environ = {"DVC_EXP_NAME": "lobar-hull", "DVC_STAGE": "train@demo"}
    tags = run_tags(tmp_path, environ)
    assert len(tags["mlflow.source.git.commit"]) == 40
    assert tags["uncommitted_changes"] == "no"
    assert tags["DVC_EXP_NAME"] == "lobar-hull"
    assert tags["DVC_STAGE"] == "train@demo"
    assert "DVC_EXP_BASELINE_REV" not in tags
    assert tags["mlflow.user"]
    assert tags["version.numpy"][0].isdigit()
    assert tags["machine"]
    (tmp_path / "f").write_text("2")
    assert run_tags(tmp_path, {})["uncommitted_changes"] == "yes"


def test_without_git_there_is_no_commit(tmp_path: Path) -> None:
    tags = run_tags(tmp_path, {})
    assert "mlflow.source.git.commit" not in tags
    assert "uncommitted_changes" not in tags


@pytest.mark.skipif(sys.platform != "linux", reason="processes are told apart by /proc")
class TestSurelyDead:
    def test_this_process_lives(self) -> None:
        assert not surely_dead(str(this_process()))

    def test_a_process_that_ended_is_dead(self) -> None:
        child = subprocess.Popen(["sleep", "60"])
        stat = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        tag = str(replace(this_process(), pid=child.pid, start=stat[19]))
        assert not surely_dead(tag)
        child.kill()
        child.wait()
        assert surely_dead(tag)

    def test_a_pid_that_was_used_again_is_another_process(self) -> None:
        assert surely_dead(str(replace(this_process(), start="1")))

    def test_after_a_reboot_all_are_dead(self) -> None:
        assert surely_dead(str(replace(this_process(), boot="another")))

    @pytest.mark.parametrize("field", ["host", "namespace"])
    def test_elsewhere_cannot_be_judged(self, field: str) -> None:
        there = replace(this_process(), pid=os.getpid(), start="1", **{field: "another"})
        assert not surely_dead(str(there))

    @pytest.mark.parametrize("tag", ["", "nonsense", "a|b|c|d|e", str(Process("", "", "", 1, ""))])
    def test_a_tag_that_says_nothing_proves_nothing(self, tag: str) -> None:
        assert not surely_dead(tag)
