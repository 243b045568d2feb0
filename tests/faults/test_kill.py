"""Stages and pipelines ended at random moments, in every way that the world ends processes."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import pytest

from tests.faults.conftest import Counts, Reference, Tell
from tests.faults.project import STAGES, Project, ended

SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
KILLS = 21  # a stage, in the long form: seven by each signal
IN_A_ROW = 7  # kills before the stage is left to its end and compared


def end_at_random(
    project: Project, stage: str, reference: Reference, number: int, rng: random.Random
) -> bool:
    """Start the stage, send a signal somewhere on its way; whether it got there in time."""
    way = SIGNALS[number % len(SIGNALS)]
    project.remove_outputs(stage)
    with ended(project.start(*project.stage(stage))) as process:
        try:
            process.wait(rng.uniform(0.05, 1.0) * reference.seconds[stage])
            return False
        except subprocess.TimeoutExpired:
            process.send_signal(way)
        said, _ = process.communicate(timeout=60)
    assert process.returncode in (0, 130, -way), (stage, process.returncode, said)
    if process.returncode == 130:
        assert said.endswith(f"stage {stage}: interrupted\n"), (stage, said)
    assert "Traceback" not in said, (stage, said)
    assert "Exception ignored" not in said, (stage, said)
    assert project.contents(stage) in ({}, reference.contents[stage]), f"{stage}: half an output"
    return process.returncode != 0


def let_it_end(project: Project, stage: str, reference: Reference) -> None:
    project.remove_outputs(stage)
    project.run(*project.stage(stage))
    assert project.contents(stage) == reference.contents[stage], f"{stage}: another result"
    assert project.leftovers() == []


def batter(reference: Reference, folder: Path, stage: str, kills: int, seed: int) -> dict[str, int]:
    """Kill a stage again and again; how often by each signal."""
    project = reference.upto(folder, stage)
    rng = random.Random(seed)
    done: dict[str, int] = {}
    attempts = 0
    while sum(done.values()) < kills:
        attempts += 1
        assert attempts < 4 * kills, f"{stage} is too quick to be killed"
        number = sum(done.values())
        if end_at_random(project, stage, reference, number, rng):
            name = SIGNALS[number % len(SIGNALS)].name
            done[name] = done.get(name, 0) + 1
            if sum(done.values()) % IN_A_ROW == 0:
                let_it_end(project, stage, reference)
    let_it_end(project, stage, reference)
    project.wait_for_none("dhmd.tracking.uploader")
    statuses = project.run_statuses()
    assert "RUNNING" not in statuses
    return done


def test_a_stage_killed_anywhere_ends_with_the_same_bytes(
    reference: Reference, tmp_path: Path, counts: Counts
) -> None:
    done = batter(reference, tmp_path / "train", "train", 1, seed=1)
    for name, number in done.items():
        counts.add("kill", f"train by {name}, short form", number)


@pytest.mark.slow
def test_every_stage_killed_anywhere_ends_with_the_same_bytes(
    reference: Reference, tmp_path: Path, counts: Counts, tell: Tell
) -> None:
    def one(stage: str) -> tuple[str, dict[str, int]]:
        return stage, batter(reference, tmp_path / stage, stage, KILLS, seed=len(stage))

    defects = []
    with ThreadPoolExecutor(2) as pool:
        slowest_first = sorted(STAGES, key=lambda stage: -reference.seconds[stage])
        for future in as_completed([pool.submit(one, stage) for stage in slowest_first]):
            try:
                stage, done = future.result()
            except AssertionError as error:
                defects.append(str(error))
                continue
            tell(f"kill: {stage} by {done}")
            for name, number in done.items():
                counts.add("kill", f"stage {stage} by {name}", number)
    assert not defects, "\n\n".join(defects)


@pytest.mark.slow
@pytest.mark.parametrize("way", SIGNALS)
def test_a_pipeline_killed_anywhere_ends_with_the_same_metrics(
    way: signal.Signals, reference: Reference, tmp_path: Path, counts: Counts, tell: Tell
) -> None:
    project = reference.upto(tmp_path / "pipeline", STAGES[0])
    rng = random.Random(way)
    whole = sum(reference.seconds.values())
    kills = 0
    while kills < 7:
        with ended(project.start("dvc", "repro")) as pipeline:
            try:
                pipeline.wait(rng.uniform(0.03, 0.3) * whole)
                break
            except subprocess.TimeoutExpired:
                pipeline.send_signal(way)
            pipeline.wait(60)
        if way == signal.SIGKILL:
            project.wait_for_none("stages.", seconds=20)  # no trainer outlives its pipeline
        else:
            project.wait_for_none("stages.", seconds=60)
        for stage in STAGES[:-1]:
            assert project.contents(stage) in ({}, reference.contents[stage]), stage
        kills += 1
        counts.add("kill", f"dvc repro by {way.name}")
    tell(f"kill: dvc repro by {way.name}, {kills} times")
    project.run("dvc", "repro")
    for stage in STAGES:
        assert project.contents(stage) == reference.contents[stage], stage
    assert project.leftovers() == []
    project.wait_for_none("dhmd.tracking.uploader")
    assert set(project.run_statuses()) <= {"FINISHED", "KILLED", "FAILED"}
    assert "up to date" in project.run("dvc", "status")


@pytest.mark.slow
def test_a_second_stage_beside_the_first_is_refused(
    reference: Reference, tmp_path: Path, counts: Counts
) -> None:
    project = reference.upto(tmp_path / "two", "train")
    with ended(project.start(*project.stage("train"))) as first:
        lock = project.folder / ".dhmd" / "locks" / "train-demo.lock"
        deadline = time.monotonic() + 60
        while not lock.exists() or not list(project.folder.glob(".dhmd/resume/train-*")):
            assert time.monotonic() < deadline
            assert first.poll() is None
            time.sleep(0.02)
        said = project.run(*project.stage("train"), status=1)
        assert "train of demo is already running in this folder" in said
        said, _ = first.communicate(timeout=120)
        assert first.returncode == 0, said
    assert project.contents("train") == reference.contents["train"]
    counts.add("kill", "second stage beside the first refused")
