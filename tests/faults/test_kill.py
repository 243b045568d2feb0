"""Stages and pipelines that are killed at random give the same bytes when they run again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cluster.engines import wait_until
from tests.faults.conftest import Reference
from tests.faults.project import STAGES, Process, Project, killed_at_end

SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)


def kill_at_random(
    process: Process, number: signal.Signals, seconds: float, rng: random.Random
) -> bool:
    """Send a signal at a random moment within `seconds`; return False if the process had ended."""
    try:
        process.wait(rng.uniform(0.02, 1.0) * seconds)
        return False
    except subprocess.TimeoutExpired:
        if number == signal.SIGINT:
            process.press_ctrl_c()
        else:
            process.send_signal(number)
        process.wait(60)
        return True


def kill_stage(
    project: Project, stage: str, kills: int, *, seconds: float, expected: dict[str, str]
) -> None:
    """Kill a stage several times, then run it to its end and compare its output to `expected`."""
    rng = random.Random(stage)
    killed = attempts = 0
    while killed < kills:
        attempts += 1
        assert attempts < 6 * kills, f"{stage} ends before it can be killed"
        number = SIGNALS[killed % len(SIGNALS)]
        project.remove_outputs(stage)
        with killed_at_end(project.start(*project.stage(stage))) as process:
            in_time = kill_at_random(process, number, seconds, rng)
            context = (stage, number.name, process.returncode, printed := process.printed())
        assert process.returncode in ((0, 130, -number) if in_time else (0,)), context
        assert "Traceback" not in printed, context
        assert "Exception ignored" not in printed, context
        if process.returncode == 130:
            assert printed.endswith(f"stage {stage}: interrupted\n"), context
        assert project.contents(stage) in ({}, expected), ("incomplete output", context)
        killed += process.returncode != 0
    project.remove_outputs(stage)
    project(*project.stage(stage))
    assert project.contents(stage) == expected, f"{stage}: different result"
    assert project.leftovers() == []


def test_a_training_killed_once_ends_with_the_same_bytes(
    reference: Reference, tmp_path: Path
) -> None:
    project = reference.copy_before(tmp_path / "train", "train")
    seconds, expected = reference.seconds["train"], reference.contents["train"]
    kill_stage(project, "train", 1, seconds=seconds, expected=expected)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_stage_ends_with_the_same_bytes(
    stage: str, reference: Reference, tmp_path: Path
) -> None:
    project = reference.copy_before(tmp_path / "project", stage, tracked=stage == "train")
    seconds, expected = reference.seconds[stage], reference.contents[stage]
    kill_stage(project, stage, 3, seconds=seconds, expected=expected)
    assert set(project.run_statuses()) <= {"FINISHED", "KILLED"}


@pytest.mark.slow
def test_a_killed_training_of_two_processes_ends_with_the_same_bytes(
    reference: Reference, tmp_path: Path
) -> None:
    """The workers end with the stage. If one of them is killed, the stage fails."""
    project = reference.copy_before(tmp_path / "workers", "train")
    project.edit("params.yaml", ("  workers:", "  workers: 2"))
    start = time.monotonic()
    project(*project.stage("train"))
    seconds, expected = time.monotonic() - start, project.contents("train")
    project.remove_trainings()
    kill_stage(project, "train", 3, seconds=seconds, expected=expected)
    project.wait_for_none("dhmd.training")
    project.remove_outputs("train")
    project.remove_trainings()
    with killed_at_end(project.start(*project.stage("train"))) as process:
        wait_until(lambda: project.processes("dhmd.training"), "no worker has started", 60)
        os.kill(project.processes("dhmd.training")[0], signal.SIGKILL)
        assert process.wait(60) == 1
        printed = process.printed()
    assert "was ended by SIGKILL" in printed, printed
    assert "Traceback" not in printed, printed
    assert project.contents("train") == {}
    project.wait_for_none("dhmd.training")
    project(*project.stage("train"))
    assert project.contents("train") == expected


@pytest.mark.slow
def test_a_killed_pipeline_leaves_no_child_and_ends_with_the_same_metrics(
    reference: Reference, tmp_path: Path
) -> None:
    project = reference.copy_before(tmp_path / "pipeline", STAGES[0], tracked=True)
    rng = random.Random("pipeline")
    for number in SIGNALS:
        with killed_at_end(project.start("dvc", "repro")) as pipeline:
            if not kill_at_random(pipeline, number, 0.3 * sum(reference.seconds.values()), rng):
                assert pipeline.returncode == 0, pipeline.printed()
        project.wait_for_none("stages.")
        for stage in STAGES[:-1]:
            assert project.contents(stage) in ({}, reference.contents[stage]), stage
        # As in `make repro`: a kill can truncate this file, which DVC writes in place.
        rwlock = project.folder / ".dvc" / "tmp" / "rwlock"
        if rwlock.exists() and not rwlock.read_text().rstrip().endswith("}"):
            rwlock.unlink()
    project("dvc", "repro")
    for stage in STAGES:
        assert project.contents(stage) == reference.contents[stage], stage
    assert project.leftovers() == []
    assert set(project.run_statuses()) <= {"FINISHED", "KILLED"}
    assert "up to date" in project("dvc", "status")
