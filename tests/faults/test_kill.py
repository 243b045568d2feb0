"""Stages and pipelines ended at random moments, in every way that the world ends processes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol

import pytest

from tests.faults.conftest import Counts, Reference, Tell
from tests.faults.project import STAGES, Project, ended
from tests.faults.test_disk import untracked
from tests.faults.warm import warm

SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
# Kills a stage in the long form, a third by each signal: of new processes, whose trainings are
# tracked, and of children of a warm process, which are not.
NEW, WARM = 3, 18
IN_A_ROW = 6  # kills before the stage is left to its end and compared


class Attempt(Protocol):
    """A stage that runs: `subprocess.Popen`, or a child of the warm process."""

    @property
    def returncode(self) -> int | None: ...
    def wait(self, timeout: float) -> int: ...
    def send_signal(self, number: signal.Signals) -> None: ...
    def said(self) -> str: ...


Start = Callable[[str], AbstractContextManager[Attempt]]


class Battered:
    """A copy of the project in which one stage is ended again and again."""

    def __init__(
        self, reference: Reference, project: Project, stage: str, start: Start, seed: str
    ) -> None:
        self.reference = reference
        self.project = project
        self.stage = stage
        self.start = start
        self.rng = random.Random(seed)

    def end_at_random(self, way: signal.Signals, seconds: float) -> bool:
        """Start the stage, send a signal somewhere on its way; whether it got there in time."""
        self.project.remove_outputs(self.stage)
        with self.start(self.stage) as process:
            try:
                process.wait(self.rng.uniform(0.02, 1.0) * seconds)
            except subprocess.TimeoutExpired:
                process.send_signal(way)
                process.wait(60)
                expected = (0, 130, -way)
            else:
                expected = (0,)
            said = process.said()
        told = (self.stage, way.name, process.returncode, said)
        assert process.returncode in expected, told
        if process.returncode == 130:
            assert said.endswith(f"stage {self.stage}: interrupted\n"), told
        assert "Traceback" not in said, told
        assert "Exception ignored" not in said, told
        found = self.project.contents(self.stage)
        assert found in ({}, self.reference.contents[self.stage]), ("half an output", told)
        if process.returncode == 0:
            self.project.remove_trainings()
        return process.returncode != 0

    def let_it_end(self) -> float:
        """It ends with the very bytes, and leaves nothing; how many seconds it took."""
        self.project.remove_outputs(self.stage)
        with self.start(self.stage) as process:
            began = time.monotonic()  # the warm process has imported everything by now
            process.wait(300)
            seconds = time.monotonic() - began
            assert process.returncode == 0, process.said()
        found = self.project.contents(self.stage)
        assert found == self.reference.contents[self.stage], f"{self.stage}: another result"
        assert self.project.leftovers() == []
        self.project.remove_trainings()
        return seconds

    def batter(self, kills: int, seconds: float) -> dict[str, int]:
        """Kill it so often, and let it end now and then; how often by each signal.

        Args:
            seconds: how long the stage takes when nothing happens to it.
        """
        done: dict[str, int] = {}
        attempts = 0
        for number in range(kills):
            way = SIGNALS[number % len(SIGNALS)]
            while not self.end_at_random(way, seconds):
                attempts += 1
                assert attempts < 4 * kills, f"{self.stage} is too quick to be killed"
            done[way.name] = done.get(way.name, 0) + 1
            if (number + 1) % IN_A_ROW == 0 or number + 1 == kills:
                self.let_it_end()
        return done


def new_processes(reference: Reference, folder: Path, stage: str, kills: int) -> dict[str, int]:
    """Batter a stage in processes of its own, as DVC starts it, its training tracked."""
    project = reference.upto(folder, stage)
    battered = Battered(
        reference, project, stage, lambda name: ended(project.start(*project.stage(name))), "new"
    )
    done = battered.batter(kills, reference.seconds[stage])
    project.wait_for_none("dhmd.tracking.uploader")
    assert "RUNNING" not in project.run_statuses()
    return done


def test_a_stage_killed_anywhere_ends_with_the_same_bytes(
    reference: Reference, tmp_path: Path, counts: Counts
) -> None:
    for name, number in new_processes(reference, tmp_path / "train", "train", 1).items():
        counts.add("kill", f"train by {name}, short form", number)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_killed_anywhere_ends_with_the_same_bytes(
    stage: str, reference: Reference, tmp_path: Path, counts: Counts, tell: Tell
) -> None:
    for name, number in new_processes(reference, tmp_path / "new", stage, NEW).items():
        counts.add("kill", f"stage {stage} by {name}: new process", number)
    project = untracked(reference, tmp_path / "warm", stage)
    with warm(project) as process:
        battered = Battered(
            reference, project, stage, lambda name: nullcontext(process.start(name)), "warm"
        )
        done = battered.batter(WARM, battered.let_it_end())
    for name, number in done.items():
        counts.add("kill", f"stage {stage} by {name}: child of a warm process", number)
    tell(f"kill: {stage} {NEW + WARM} times")


@pytest.mark.slow
def test_a_training_of_two_processes_killed_anywhere_ends_with_the_same_bytes(
    reference: Reference, tmp_path: Path, counts: Counts, tell: Tell
) -> None:
    """Its workers die with it; one of them killed alone is said, and the run after it ends."""
    project = untracked(reference, tmp_path / "workers", "train")
    project.edit("params.yaml", ("  workers:", "  workers: 2"))
    began = time.monotonic()
    project.run(*project.stage("train"))
    seconds = time.monotonic() - began
    # What two processes train may differ from what one does, in last bits: so it is compared with
    # what two have made undisturbed.
    undisturbed = Reference(project, {}, {"train": project.contents("train")})
    battered = Battered(
        *(undisturbed, project, "train"),
        lambda name: ended(project.start(*project.stage(name))),
        "workers",
    )
    for name, number in battered.batter(6, seconds).items():
        project.wait_for_none("dhmd.training.run_task", seconds=60)
        counts.add("kill", f"training of two processes by {name}", number)
    project.remove_outputs("train")
    with ended(project.start(*project.stage("train"))) as process:
        deadline = time.monotonic() + 60
        while not (workers := project.processes("dhmd.training.run_task")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(workers[0], signal.SIGKILL)
        assert process.wait(60) == 1
        said = process.said()
    assert "stage train: the worker process that trained seed" in said, said
    assert "Traceback" not in said, said
    assert project.contents("train") == {}
    project.wait_for_none("dhmd.training.run_task", seconds=60)
    battered.let_it_end()
    counts.add("kill", "a worker of a training by SIGKILL: said, and gone on with")
    tell("kill: a training of two processes")


@pytest.mark.slow
@pytest.mark.parametrize("way", SIGNALS)
def test_a_pipeline_killed_anywhere_ends_with_the_same_metrics(
    way: signal.Signals, reference: Reference, tmp_path: Path, counts: Counts, tell: Tell
) -> None:
    """Each time it goes on as `make repro` does: DVC writes files in place, and may be cut off."""
    project = reference.upto(tmp_path / "pipeline", STAGES[0])
    rng = random.Random(way)
    whole = sum(reference.seconds.values())
    kills = repairs = 0
    while kills < 5:
        repairs += len(project.run("dhmd", "repair").splitlines())  # as `make repro` begins
        with ended(project.start("dvc", "repro")) as pipeline:
            try:
                pipeline.wait(rng.uniform(0.03, 0.22) * whole)
                assert pipeline.returncode == 0, pipeline.said()
                break
            except subprocess.TimeoutExpired:
                if way == signal.SIGINT:
                    pipeline.press_ctrl_c()
                else:
                    pipeline.send_signal(way)
            pipeline.wait(60)
        project.wait_for_none("stages.", seconds=60)  # no trainer outlives its pipeline
        for stage in STAGES[:-1]:
            assert project.contents(stage) in ({}, reference.contents[stage]), stage
        kills += 1
        counts.add("kill", f"dvc repro by {way.name}")
    tell(f"kill: dvc repro by {way.name}, {kills} times")
    repairs += len(project.run("dhmd", "repair").splitlines())
    project.run("dvc", "repro")
    for stage in STAGES:
        assert project.contents(stage) == reference.contents[stage], stage
    assert project.leftovers() == []
    project.wait_for_none("dhmd.tracking.uploader")
    assert set(project.run_statuses()) <= {"FINISHED", "KILLED", "FAILED"}
    counts.add("kill", "a file of DVC's own, half written by then: put right", repairs)
    assert "up to date" in project.run("dvc", "status")


@pytest.mark.slow
def test_a_second_stage_beside_the_first_is_refused(
    reference: Reference, tmp_path: Path, counts: Counts
) -> None:
    project = reference.upto(tmp_path / "two", "train")
    with ended(project.start(*project.stage("train"))) as first:
        lock = project.folder / ".dhmd" / "locks" / "train-demo.lock"
        deadline = time.monotonic() + 60
        while not lock.exists() or not list(project.folder.glob(".dhmd/trainings/tasks/*")):
            assert time.monotonic() < deadline
            assert first.poll() is None
            time.sleep(0.02)
        said = project.run(*project.stage("train"), status=1)
        assert "train of demo is already running in this folder" in said
        said, _ = first.communicate(timeout=120)
        assert first.returncode == 0, said
    assert project.contents("train") == reference.contents["train"]
    counts.add("kill", "second stage beside the first refused")
