"""Tasks that run in worker processes, or by a direct call."""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from dhmd.base.errors import DhmdError
from dhmd.training.config import TrainConfig
from dhmd.training.configuration import Configuration, overlay
from dhmd.training.jobs import unfinished_tasks
from dhmd.training.store import Store, TrainedMember
from dhmd.training.task import Task, run_task
from tests.aligned_files import ragged, write_aligned
from tests.cluster.engines import processes, wait_until
from tests.training.artefacts import (
    TinyArtefacts,
    ablate,
    copy_folder,
    pretrain,
    read_files,
    read_outputs,
    start_driver,
    train,
)
from tests.training.corpora import TINY, tiny_configuration, tiny_data
from tests.training.learners import Recorder

ROOT = Path(__file__).parents[2]
TWO: Configuration = tiny_configuration({"compute": {"workers": 2}})


def children(parent: int | None = None) -> list[int]:
    """Return the ids of the worker processes of this process or of another one."""
    return processes("dhmd.training.run_task", f"--parent\0{parent or os.getpid()}\0")


@pytest.fixture(autouse=True)
def no_process_is_left() -> Iterator[None]:
    yield
    assert children() == []


# Long enough for a fault after the first epoch.
LONGER = overlay(TWO, {"train": {"epochs": 15, "early_stop": 15}})


@pytest.fixture(scope="module")
def uninterrupted(
    tiny_artefacts: TinyArtefacts, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Recorder]:
    """Return a training by two workers without interruption."""
    folder, recorder = tmp_path_factory.mktemp("uninterrupted"), Recorder()
    tiny_artefacts.train(LONGER, folder, recorder)
    assert list((folder / "s" / "tasks").iterdir()) == []
    return folder / "m", recorder


def check_close(one: Path, other: Path) -> None:
    """Check that two folders have the same files, up to rounding."""
    assert read_files(one).keys() == read_files(other).keys()
    outputs, expected = read_outputs(one), read_outputs(other)
    assert outputs.keys() == expected.keys()
    for name, value in outputs.items():
        if name != "attributes" and value.dtype.kind == "f":
            assert value == pytest.approx(expected[name], abs=1e-3, nan_ok=True), name
    rows, expected_rows = (
        [line.split(",") for line in (folder / "history.csv").read_text().splitlines()]
        for folder in (one, other)
    )
    assert [row[:3] for row in rows] == [row[:3] for row in expected_rows]
    numbers = [np.array([float(row[3]) for row in table[1:]]) for table in (rows, expected_rows)]
    assert numbers[0] == pytest.approx(numbers[1], abs=1e-3)


def test_two_workers_give_the_same_model_as_one_process(
    tiny_artefacts: TinyArtefacts, uninterrupted: tuple[Path, Recorder], tmp_path: Path
) -> None:
    folder, recorder = uninterrupted
    one = overlay(LONGER, {"compute": {"workers": 1}})
    tiny_artefacts.train(one, tmp_path)
    check_close(folder, tmp_path / "m")
    assert recorder.starts == [("train", ("seed-1", "seed-2"), 0)]
    assert recorder.outputs == [folder]
    assert [(e, list(rows)) for e, rows in recorder.epochs] == [
        (epoch, ["seed-1", "seed-2"]) for epoch in range(1, 16)
    ]
    assert {"train/total", "valid/mae", "lr"} <= set(recorder.epochs[0][1]["seed-2"])


def test_two_workers_give_the_same_encoders_as_one_process(
    tiny_artefacts: TinyArtefacts, tmp_path: Path
) -> None:
    recorder = Recorder()
    pretrain(TWO, tiny_artefacts.aligned(), tmp_path / "p", tmp_path / "s", recorder)
    check_close(tmp_path / "p", tiny_artefacts.pretrained())
    text = [(e, list(rows)) for e, rows in recorder.epochs if "text/seed-1" in rows]
    assert text == [(epoch, ["text/seed-1", "text/seed-2"]) for epoch in (1, 2)]
    assert len(recorder.epochs) == 6


def test_workers_train_variants_of_different_structure(
    tiny_artefacts: TinyArtefacts, tmp_path: Path
) -> None:
    variants: dict[str, Configuration] = {
        "half": tiny_configuration({"kd": {"lambda": 0.5}}),
        "gru": replace(TINY, architecture="gru"),
        "none": tiny_configuration({"kd": {"lambda": 0.0}}),
    }
    ablate(
        variants,
        tiny_artefacts.aligned(),
        tiny_artefacts.pretrained(),
        tmp_path / "one",
        tmp_path / "s",
    )
    three_workers = {
        key: overlay(configuration, {"compute": {"workers": 3}})
        for key, configuration in variants.items()
    }
    recorder = Recorder()
    ablate(
        three_workers,
        tiny_artefacts.aligned(),
        tiny_artefacts.pretrained(),
        tmp_path / "three",
        tmp_path / "t",
        recorder,
    )
    for name in variants:
        check_close(tmp_path / "three" / name, tmp_path / "one" / name)
    stacks = [list(rows) for epoch, rows in recorder.epochs if epoch == 3]
    assert sorted(stacks) == [
        ["gru/seed-1", "gru/seed-2"],
        [f"{name}/seed-{seed}" for name in ("half", "none") for seed in (1, 2)],
    ]


# ---- interruptions -------------------------------------------------------------------------------


class WorkerKiller(Recorder):
    """Kills a worker process after the first epoch."""

    def on_epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        super().on_epoch(epoch, rows)
        if epoch == 1:
            os.kill(children()[0], signal.SIGKILL)


def test_a_killed_worker_is_reported_and_other_results_are_kept(
    tiny_artefacts: TinyArtefacts, tmp_path: Path, uninterrupted: tuple[Path, Recorder]
) -> None:
    with pytest.raises(
        DhmdError, match=r"process that trained seed \d was ended by SIGKILL; memory .*/log\.txt"
    ):
        tiny_artefacts.train(LONGER, tmp_path, WorkerKiller())
    assert not (tmp_path / "m").exists()
    assert children() == []
    assert len(list((tmp_path / "s").glob("*.safetensors"))) == 1
    recorder = Recorder()
    tiny_artefacts.train(LONGER, tmp_path, recorder)
    assert recorder.resumed_epoch > 0
    assert {name for _, rows in recorder.epochs for name in rows} < {"seed-1", "seed-2"}
    assert read_files(tmp_path / "m") == read_files(uninterrupted[0])


def test_an_interrupted_training_leaves_no_worker(
    tiny_artefacts: TinyArtefacts, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        tiny_artefacts.train(LONGER, tmp_path, Recorder(stop_after=1))
    assert children() == []
    assert not (tmp_path / "m").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal on a parent's death")
def test_workers_end_with_their_parent_and_the_training_resumes(
    tiny_artefacts: TinyArtefacts, tmp_path: Path, uninterrupted: tuple[Path, Recorder]
) -> None:
    with start_driver(LONGER, tiny_artefacts, tmp_path) as caller:
        for line in caller.stderr:
            if "epoch   2" in line:
                break
        assert len(children(caller.pid)) == 2
        caller.kill()
    wait_until(lambda: not children(caller.pid), "workers are still running", seconds=20)
    assert not (tmp_path / "m").exists()
    recorder = Recorder()
    tiny_artefacts.train(LONGER, tmp_path, recorder)
    assert recorder.resumed_epoch >= 2
    assert list((tmp_path / "s" / "tasks").iterdir()) == []
    assert read_files(tmp_path / "m") == read_files(uninterrupted[0])


# ---- errors --------------------------------------------------------------------------------------


def test_bad_input_of_a_task_is_reported_in_one_sentence(
    tiny_artefacts: TinyArtefacts, tmp_path: Path
) -> None:
    """The worker process reports a modality that is absent from a split."""
    data = tiny_data(alignment="none", absent=False)
    present = data.present_NM.copy()
    present[data.folds["standard"] == "valid", 1] = False
    rows = [data.features["audio"][n][: 9 * has_audio] for n, has_audio in enumerate(present[:, 1])]
    features = {**data.features, "audio": ragged(rows)}
    write_aligned(tmp_path / "c.h5", replace(data, features=features, present_NM=present))
    with pytest.raises(
        DhmdError, match=r"^no utterance of the valid split of tiny has the modality audio"
    ):
        pretrain(TWO, tmp_path / "c.h5", tmp_path / "p", tmp_path / "s")
    assert not (tmp_path / "p").exists()


@contextmanager
def limit_file_size(size: int) -> Iterator[None]:
    """Limit the size of files in this process and its children, in place of a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_in_a_worker_is_reported_in_one_sentence(
    tiny_artefacts: TinyArtefacts, tmp_path: Path
) -> None:
    folder = copy_folder(tiny_artefacts.pretrained(), tmp_path / "p")
    with (
        limit_file_size(20_000),
        pytest.raises(DhmdError, match=r"^cannot write .*\.safetensors: .*File too large"),
    ):
        train(TWO, tiny_artefacts.aligned(), folder, tmp_path / "m", tmp_path / "s")
    assert not (tmp_path / "m").exists()


def test_the_output_of_a_failed_worker_is_shown(
    tiny_artefacts: TinyArtefacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"(?s)worker process that trained seed . failed:.*\w"):
        tiny_artefacts.train(TWO, tmp_path)


def test_a_diverged_seed_is_logged_by_the_caller(
    tiny_artefacts: TinyArtefacts, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    diverging: TrainConfig = replace(TWO.train, lr=1e30, epochs=2)
    with caplog.at_level(logging.WARNING, logger="dhmd"):
        tiny_artefacts.train(replace(TWO, train=diverging), tmp_path)
    messages = sorted(record.getMessage() for record in caplog.records)
    assert [line.split()[0] for line in messages] == ["seed-1", "seed-2"]
    assert all("diverged in epoch" in line for line in messages)


# ---- single tasks --------------------------------------------------------------------------------


@pytest.fixture
def task(tiny_artefacts: TinyArtefacts, tmp_path: Path) -> Task:
    keys = {"seed-1": "one", "seed-2": "two"}
    return Task(
        configurations={"": TINY},
        aligned=tiny_artefacts.aligned(),
        fold=None,
        pretrained=tiny_artefacts.pretrained(),
        store=Store(tmp_path / "s"),
        keys=keys,
    )


def test_a_task_is_a_json_file_and_a_command_line(
    tiny_artefacts: TinyArtefacts, tmp_path: Path, task: Task
) -> None:
    path = task.write()
    stored_task = Task.read(path)
    assert (stored_task.configurations, stored_task.keys, stored_task.members) == (
        task.configurations,
        task.keys,
        ["seed-1", "seed-2"],
    )
    command = [sys.executable, "-m", "dhmd.training.run_task", str(path), str(tmp_path / "no.json")]
    process = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert process.returncode == 3, process.stderr
    assert "no.json is not a training task" in process.stderr.splitlines()[-1]
    assert (path.parent / "done.json").is_file()
    for seed, key in ((1, "one"), (2, "two")):
        expected = load_file(tiny_artefacts.model() / f"seed-{seed}.safetensors")
        parameters = task.store.read(key).parameters
        assert parameters.keys() == expected.keys()
        assert all(parameters[name].equal(value) for name, value in expected.items())
    events = [json.loads(line) for line in (path.parent / "events.jsonl").open()]
    assert [event["epoch"] for event in events] == [1, 2, 3]


def test_a_second_process_waits_for_the_same_task(task: Task) -> None:
    first, second = Recorder(), Recorder()
    thread = threading.Thread(target=run_task, args=(task, second))

    class SecondProcess(Recorder):
        def on_epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
            first.on_epoch(epoch, rows)
            if epoch == 1:
                thread.start()

    run_task(task, SecondProcess())
    thread.join()
    assert len(first.epochs) == 3
    assert second.epochs == []
    assert not list(task.store.tasks.glob("*.lock"))


def test_tasks_exclude_members_that_are_stored_or_belong_to_an_earlier_task(task: Task) -> None:
    two_variants = replace(
        task,
        configurations={"a": TINY, "b": TINY},
        keys={f"{v}/seed-{s}": f"{v}{s}" for v in "ab" for s in (1, 2)},
    )

    def remaining(*tasks: Task) -> list[list[str]]:
        return [each.members for group in unfinished_tasks([tasks]) for each in group]

    one_variant = replace(
        two_variants, configurations={"a": TINY}, keys={"a/seed-1": "a1", "a/seed-2": "c2"}
    )
    assert remaining(two_variants, one_variant) == [two_variants.members, ["a/seed-2"]]
    member = TrainedMember({}, {}, [])
    two_variants.store.write("a1", member)
    assert two_variants.missing == ["a/seed-2", "b/seed-1", "b/seed-2"]
    assert remaining(two_variants) == [two_variants.members]
    two_variants.store.write("b1", member)
    assert remaining(two_variants) == [["a/seed-2", "b/seed-2"]]
    two_variants.store.write("a2", member)
    assert remaining(two_variants, two_variants) == [["b/seed-2"]]
    assert two_variants.label == "a, b: seeds 1, 2"
