"""Several at once: experiments, writers of one tracking database, the gate beside a training."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.conftest import Counts, Reference, Tell
from tests.faults.project import STAGES, Project, ended
from tests.faults.test_disk import untracked


@pytest.mark.slow
def test_the_same_training_twice_at_once_in_two_copies(
    reference: Reference, tmp_path: Path, long: bool, counts: Counts
) -> None:
    """As two experiments of a sweep do: copies of the work tree, one place for what is kept."""
    first = untracked(reference, tmp_path / "first", "train")
    second = untracked(reference, tmp_path / "second", "train")
    home = {"DVC_ROOT": str(first.folder)}
    with (
        ended(first.start(*first.stage("train"), **home)) as one,
        ended(second.start(*second.stage("train"), **home)) as two,
    ):
        for process in (one, two):
            said, _ = process.communicate(timeout=900)
            assert process.returncode == 0, said
    for project in (first, second):
        assert project.contents("train") == reference.contents["train"]
        assert project.leftovers() == []
    counts.add("concurrency", "the same training twice at once: both right")


@pytest.mark.slow
def test_two_temporary_experiments_at_once(
    reference: Reference, tmp_path: Path, counts: Counts, tell: Tell
) -> None:
    project = reference.upto(tmp_path / "experiments", STAGES[0])
    values = ("0.2", "0.6")
    commands = [
        ("dvc", "exp", "run", "--temp", "--name", f"share-{value}", "-S", f"kd.lambda={value}")
        for value in values
    ]
    with ThreadPoolExecutor(2) as pool:
        refusals = sum(pool.map(lambda command: _patiently(project, command), commands))
    counts.add("concurrency", "`dvc exp run` refused by DVC's lock, and started again", refusals)
    seen = set()
    for value in values:
        listed = project.run("git", "for-each-ref", "--format=%(refname)", "refs/exps")
        (name,) = [line for line in listed.splitlines() if line.endswith(f"/share-{value}")]
        seen.add(project.run("git", "show", f"{name}:metrics/demo/metrics.json"))
    assert len(seen) == 2
    assert project.leftovers() == []
    project.wait_for_none("dhmd.tracking.uploader")
    statuses = project.run_statuses()
    assert statuses
    assert set(statuses) == {"FINISHED"}
    counts.add("concurrency", "two `dvc exp run --temp` at once, one tracking database", 1)
    tell("concurrency: two experiments at once")


def _patiently(project: Project, command: tuple[str, ...]) -> int:
    """Run a command of DVC, again whenever DVC's own lock refuses it; how often that was.

    DVC waits for it for three seconds alone, and on a busy machine another command that is about to
    begin an experiment may hold it for longer.
    """
    for refusals in range(30):
        with ended(project.start(*command)) as process:
            said, _ = process.communicate(timeout=900)
        if process.returncode == 0:
            return refusals
        assert "Unable to acquire lock" in said, said
    raise AssertionError(said)


@pytest.mark.slow
def test_two_stages_set_up_one_tracking_database(
    reference: Reference, tmp_path: Path, counts: Counts
) -> None:
    project = reference.upto(tmp_path / "tracked", "train")
    for path in project.folder.glob("mlflow.db*"):
        path.unlink()
    with (
        ended(project.start(*project.stage("train"))) as one,
        ended(project.start(*project.stage("ablate"))) as two,
    ):
        for process in (one, two):
            said, _ = process.communicate(timeout=900)
            assert process.returncode == 0, said
            assert "tracking:" not in said, said
    statuses = project.run_statuses()
    assert len(statuses) > 4
    assert set(statuses) == {"FINISHED"}
    counts.add("concurrency", "two processes create one tracking database")


@pytest.mark.slow
def test_the_gate_while_a_training_writes(
    reference: Reference, tmp_path: Path, counts: Counts
) -> None:
    project = untracked(reference, tmp_path / "gate", "report")
    project.run("git", "add", "-A")
    project.run("git", "commit", "-q", "-m", "results")
    asked = 0
    for stage in ("train", "evaluate"):
        project.remove_outputs(stage)
        with ended(project.start(*project.stage(stage))) as process:
            while process.poll() is None:
                began = time.monotonic()
                before = _is_evaluated(project)
                with ended(project.start("dhmd", "gate", "--base", "HEAD")) as gate:
                    said, _ = gate.communicate(timeout=120)
                assert "Traceback" not in said, said
                if before == _is_evaluated(project):  # else it may have seen either
                    assert (gate.returncode == 0) == before, said
                assert time.monotonic() - began < 120
                asked += 1
            said, _ = process.communicate(timeout=60)
            assert process.returncode == 0, said
    assert json.loads((project.folder / "metrics/demo/metrics.json").read_text())
    project.run("dhmd", "gate", "--base", "HEAD")
    counts.add("concurrency", "gate beside a writing stage", asked)


def _is_evaluated(project: Project) -> bool:
    """The gate must pass while the metrics are there, and cannot compare while they are not."""
    return (project.folder / "metrics" / "demo" / "metrics.json").is_file()
