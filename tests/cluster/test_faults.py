"""Trainings on a cluster give the same results as on one machine, whatever happens to the jobs.

The quick tests have a fake Slurm whose jobs are processes of this machine. Tests that are marked
slow run on a real Slurm of one node and on a Ray of two nodes (`make cluster-test`). Both print the
table of docs/cluster.md.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from dhmd.base.errors import DhmdError
from dhmd.training.configuration import Configuration
from tests.cluster.engines import (
    ROOT,
    Engine,
    FakeSlurm,
    Ray,
    RealSlurm,
    kill,
    processes,
    wait_until,
)
from tests.training.artefacts import TinyArtefacts, read_files, start_driver, train
from tests.training.artefacts import tiny_artefacts as tiny_artefacts
from tests.training.corpora import TINY, tiny_configuration
from tests.training.learners import Recorder

pytestmark = pytest.mark.timeout(900)
EPOCHS = 40


@pytest.fixture(scope="module")
def ray() -> Iterator[Ray]:
    engine = Ray()
    yield engine
    engine.stop()


@pytest.fixture(
    params=[
        "fake",
        pytest.param("slurm", marks=pytest.mark.slow),
        pytest.param("ray", marks=pytest.mark.slow),
    ]
)
def engine(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Engine]:
    """Start an engine, and check after the test that no job is left."""
    engine: Engine
    if request.param == "fake":
        engine = FakeSlurm(tmp_path / "fake", monkeypatch)
    else:
        slurm = request.param == "slurm"
        engine = RealSlurm(monkeypatch) if slurm else request.getfixturevalue("ray")
    yield engine
    wait_until(lambda: not engine.jobs(), "jobs are left in the queue")
    wait_until(lambda: not processes("dhmd.training.run_task", str(tmp_path)), "processes are left")


def configuration_for(engine: Engine | None, epochs: int = EPOCHS, **compute: Any) -> Configuration:
    engine_settings = {"workers": 2} if engine is None else engine.compute
    train = {"epochs": epochs, "early_stop": epochs}
    return tiny_configuration({"compute": {**engine_settings, **compute}, "train": train})


@pytest.fixture(scope="module")
def local(
    tiny_artefacts: TinyArtefacts, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """Return the files of a model that was trained by two local workers."""
    folder = tmp_path_factory.mktemp("local")
    train(
        configuration_for(None),
        tiny_artefacts.aligned(),
        tiny_artefacts.pretrained(),
        folder / "m",
        folder / "s",
    )
    return read_files(folder / "m")


class EpochCounter:
    """Counts the runs and epochs of tasks, whose files the store removes at the end."""

    def __init__(self, store: Path) -> None:
        self._store, self._links = store, store.parent / "links"
        self._links.mkdir(parents=True)
        self._pids: set[int] = set()
        self._copied: dict[Path, int] = {}  # number of events by link that another node wrote
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> EpochCounter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.05):
            for path in self._store.glob("tasks/*/events.jsonl"):
                with suppress(OSError):
                    link = self._links / f"{path.parent.name}-{path.stat().st_ino}"
                    fetched = any(self._links.glob(f"{path.parent.name}-*"))
                    os.link(path, link)  # fails if there is a link already
                    # The events of a fetched file come from another node: a task appends new ones a
                    # second later at the earliest.
                    self._copied[link] = len(path.read_text().splitlines()) if fetched else 0
            self._pids.update(processes("dhmd.training.run_task", str(self._store)))

    def row(self, engine: Engine, fault: str, result: str, history: Path) -> list[object]:
        """Return the fault's row of the table in docs/cluster.md; check that no epoch is lost.

        A process that is killed between saving and reporting an epoch writes no event of this
        epoch; the history has it, so this epoch is counted as trained.
        """
        events = [
            json.loads(line)
            for path, copied in self._copied.items()
            for line in path.read_text().splitlines()[copied:]
        ]
        epochs = Counter((e["epoch"], name) for e in events if "epoch" in e for name in e["rows"])
        needed = {(epoch + 1, f"seed-{seed}") for epoch in range(EPOCHS) for seed in (1, 2)}
        epochs.update(needed - set(epochs))
        table = pd.read_csv(history)
        lost = needed - {(row.epoch, f"seed-{row.seed}") for row in table.itertuples()}
        assert not lost
        counts = (2, len(self._pids), len(needed), sum(epochs.values()), len(lost))
        return [engine.name, fault, *counts, result]


class Fault(Recorder):
    """Calls a function once, after the first epochs of a training."""

    def __init__(self, cause: Callable[[], None]) -> None:
        super().__init__()
        self._cause: Callable[[], None] | None = cause

    def on_epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        if epoch >= 3 and self._cause:
            cause, self._cause = self._cause, None
            cause()


@pytest.mark.parametrize("fault", ["none", "killed worker", "killed node", "preempted job"])
def test_a_fault_does_not_change_the_result(
    engine: Engine,
    fault: str,
    tiny_artefacts: TinyArtefacts,
    tmp_path: Path,
    local: dict[str, bytes],
    caplog: pytest.LogCaptureFixture,
    record_property: Callable[[str, object], None],
) -> None:
    if (engine.name, fault) in {
        ("fake", "killed node"),
        ("fake", "preempted job"),
        ("Ray", "preempted job"),
    }:
        pytest.skip("this engine has no such fault")
    caplog.set_level(logging.INFO, "dhmd")
    cause = {
        "none": lambda: None,
        "killed worker": lambda: engine.kill_worker(tmp_path),
        "killed node": lambda: engine.kill_node(tmp_path),
        "preempted job": lambda: engine.preempt(tmp_path),
    }[fault]
    with EpochCounter(tmp_path / "s") as counter:
        train(
            configuration_for(engine),
            tiny_artefacts.aligned(),
            tiny_artefacts.pretrained(),
            tmp_path / "m",
            tmp_path / "s",
            Fault(cause),
        )
    assert read_files(tmp_path / "m") == local
    assert ("was killed; submitting it again" in caplog.text) or fault != "killed worker"
    assert "0 waiting, 0 running, 2 finished, 0 failed" in caplog.text
    row = counter.row(engine, fault, "same bits as two local processes", tmp_path / "m/history.csv")
    record_property("fault", row)


def test_a_killed_driver_resumes_and_trains_nothing_twice(
    engine: Engine,
    tiny_artefacts: TinyArtefacts,
    tmp_path: Path,
    local: dict[str, bytes],
    record_property: Callable[[str, object], None],
) -> None:
    with EpochCounter(tmp_path / "s") as counter:
        driver = start_driver(configuration_for(engine), tiny_artefacts, tmp_path)
        wait_until(lambda: list(tmp_path.glob("s/tasks/*/checkpoint.*")), "no epoch is finished")
        driver.kill()
        driver.wait()
        driver.stderr.close()
        second_driver = start_driver(configuration_for(engine), tiny_artefacts, tmp_path)
        _, log = second_driver.communicate(timeout=200)
    assert second_driver.returncode == 0, log
    assert read_files(tmp_path / "m") == local
    if engine.name != "Ray":  # whose tasks end with their driver
        assert log.count("in the queue as job") + log.count("are already in ") >= 1, log
    assert "submitting it again" not in log
    result, history = "same bits as two local processes", tmp_path / "m/history.csv"
    row = counter.row(engine, "killed driver, started again", result, history)
    record_property("fault", row)


def test_a_full_disk_fails_and_resumes_once_there_is_room(
    engine: Engine,
    tiny_artefacts: TinyArtefacts,
    tmp_path: Path,
    local: dict[str, bytes],
    record_property: Callable[[str, object], None],
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk")

    def fill() -> None:
        with suppress(OSError), open(disk / "filler", "wb", buffering=0) as stream:
            while True:
                stream.write(bytes(4096))

    arguments = (tiny_artefacts.aligned(), tiny_artefacts.pretrained(), tmp_path / "m", disk / "s")
    try:
        with EpochCounter(disk / "s") as counter:
            with pytest.raises(DhmdError, match=r"[Nn]o space|disk .* is full"):
                train(configuration_for(engine, retries=0), *arguments, Fault(fill))
            assert not (tmp_path / "m").exists()
            (disk / "filler").unlink()
            train(configuration_for(engine), *arguments)
        assert read_files(tmp_path / "m") == local
        result = "the stage fails and names the disk; the next run resumes, same bits"
        row = counter.row(engine, "full disk", result, tmp_path / "m/history.csv")
        record_property("fault", row)
    finally:
        wait_until(lambda: not engine.jobs(), "jobs are left in the queue")
        subprocess.run(["umount", str(disk)], check=True)


def test_a_job_that_never_finishes_an_epoch_fails(
    tiny_artefacts: TinyArtefacts, tmp_path: Path, engine: Engine
) -> None:
    if engine.name == "Ray":
        pytest.skip("Ray has no setup lines")
    configuration = configuration_for(engine, slurm={"setup": ["kill -9 $$"]}, retries=1)
    with pytest.raises(DhmdError, match=r"was killed 2 times in a row .*time limit.*log"):
        tiny_artefacts.train(configuration, tmp_path)
    assert not (tmp_path / "m").exists()


def test_ctrl_c_ends_the_jobs(
    engine: Engine, tiny_artefacts: TinyArtefacts, tmp_path: Path
) -> None:
    driver = start_driver(configuration_for(engine, epochs=4000), tiny_artefacts, tmp_path)
    wait_until(lambda: list(tmp_path.glob("s/tasks/*/checkpoint.*")), "no epoch is finished")
    driver.send_signal(signal.SIGINT)
    assert driver.wait(60) != 0
    driver.stderr.close()
    wait_until(lambda: not engine.jobs(), "jobs are still running")


@pytest.mark.parametrize(
    "fault",
    ["no shared folder", pytest.param("no shared folder, lost node", marks=pytest.mark.slow)],
)
def test_without_a_shared_folder_files_go_through_the_remote(
    engine: Engine,
    fault: str,
    tiny_artefacts: TinyArtefacts,
    tmp_path: Path,
    local: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    record_property: Callable[[str, object], None],
) -> None:
    caplog.set_level(logging.INFO, "dhmd")
    driver, node, remote = tmp_path / "here", tmp_path / "there", tmp_path / "remote"
    for clone in (driver, node):
        clone.mkdir()
        (clone / "params.yaml").touch()
        (clone / "dhmd").symlink_to(ROOT / "dhmd")
        for arguments in (
            ["init", "--no-scm", "-q"],
            ["remote", "add", "-q", "-d", "r", str(remote)],
        ):
            subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=clone, check=True)
    monkeypatch.chdir(driver)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    configuration = configuration_for(engine, shared=False, folder=str(node))

    def lose_node() -> None:
        wait_until(
            lambda: list(remote.glob("dhmd/tasks/*/checkpoint.safetensors")), "nothing is sent"
        )
        kill(processes("executors.exchange", str(next(remote.glob("dhmd/tasks/*")).name)))

    with EpochCounter(node / ".dhmd" / "trainings") as counter:
        losing = threading.Thread(target=lose_node)
        if "lost" in fault:
            losing.start()
        tiny_artefacts.train(configuration, driver)
    assert read_files(driver / "m") == local
    assert ("submitting it again" in caplog.text) == ("lost" in fault)
    assert len(list(node.glob(".dhmd/trainings/*.safetensors"))) == 2
    assert len(list(node.glob(".dhmd/inputs/*/pretrained/*/model.json"))) == 1
    assert not list(remote.glob("dhmd/tasks/*/*"))
    assert list(remote.glob("dhmd/inputs/*"))
    result, history = "same bits as two local processes", driver / "m/history.csv"
    record_property("fault", counter.row(engine, fault, result, history))


def test_the_settings_reach_sbatch(
    tiny_artefacts: TinyArtefacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = FakeSlurm(tmp_path / "fake", monkeypatch)
    slurm = {"time": "00:10:00", "array_parallelism": 1, "setup": ["exit 1"]}
    configuration = configuration_for(engine, epochs=1, slurm=slurm, retries=0)
    with pytest.raises(DhmdError, match="was killed 1 times"):
        tiny_artefacts.train(configuration, tmp_path)
    calls = set((tmp_path / "fake" / "calls").read_text().split())
    assert {"--requeue", "--time=00:10:00", "--array=0-1%1", "--cpus-per-task=1"} <= calls


@pytest.mark.slow
def test_ray_starts_on_this_machine_without_an_address(
    tiny_artefacts: TinyArtefacts, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    configuration = configuration_for(Engine("Ray", "ray"), epochs=1)
    tiny_artefacts.train(configuration, tmp_path)
    assert len(list((tmp_path / "m").glob("seed-*.safetensors"))) == 2


@pytest.mark.parametrize(
    ("executor", "message"),
    [
        ("slurm", r"compute\.executor is slurm, but squeue cannot be run"),
        ("ray", r"compute\.executor is ray, but Ray is not installed .* 'dhmd\[ray\]'"),
    ],
)
def test_a_missing_engine_is_an_error(
    executor: str,
    message: str,
    tiny_artefacts: TinyArtefacts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "ray", None)
    configuration = configuration_for(Engine("absent", executor), epochs=1)
    with pytest.raises(DhmdError, match=message):
        tiny_artefacts.train(configuration, tmp_path)
    assert TINY.compute.executor == "local"


def test_each_gpu_of_a_machine_has_one_process(
    tiny_artefacts: TinyArtefacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mock the GPUs in this process; the workers find none and train on the CPU."""
    variables: set[tuple[int, str]] = set()

    class EnvironmentRecorder(Recorder):
        def on_epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
            for pid in processes("dhmd.training.run_task", str(tmp_path)):
                with suppress(OSError):
                    values = Path(f"/proc/{pid}/environ").read_text().split("\0")
                    variables.update((pid, v) for v in values if v.startswith("CUDA_VISIBLE"))

    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    configuration = configuration_for(None, epochs=10, device="auto")
    tiny_artefacts.train(configuration, tmp_path, EnvironmentRecorder())
    assert len(variables) == 2
    assert {value for _, value in variables} == {"CUDA_VISIBLE_DEVICES=4", "CUDA_VISIBLE_DEVICES=7"}
