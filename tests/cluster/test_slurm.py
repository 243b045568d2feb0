"""Trainings by jobs of a cluster: as of one machine, whatever happens to the jobs.

The quick tests have programs in the place of `sbatch`, `squeue` and `scancel` that start processes;
those marked slow run the same on a real Slurm of one node (`make cluster-test`).
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dhmd.base.errors import DhmdError
from dhmd.training.configuration import Configuration
from tests.cluster.fake_slurm import write_fake_slurm
from tests.training.bench import Bench, files, train
from tests.training.bench import bench as bench
from tests.training.corpora import TINY, tiny_configuration

ROOT = Path(__file__).parents[2]
DRIVER = """
import json, logging, sys
from pathlib import Path
from dhmd.training.configuration import Configuration
from dhmd.training.jobs import train_job
from dhmd.training.observer import SilentObserver
logging.basicConfig(level=logging.INFO)
configuration, aligned, pretrained, folder = sys.argv[1:]
train_job(Configuration.from_json(json.loads(configuration), "here"), Path(aligned),
          Path(pretrained), Path(folder, "m"), fold=None, observer=SilentObserver(),
          store=Path(folder, "s"))
"""


@pytest.fixture(
    params=["fake", pytest.param("real", marks=pytest.mark.slow)],
)
def engine(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Put a Slurm on PATH; check at the end that it has no job left."""
    if request.param == "fake":
        programs = write_fake_slurm(tmp_path / "fake")
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    else:
        script = ROOT / "tests" / "cluster" / "start_slurm.sh"
        folder = Path("/tmp/dhmd-slurm")
        subprocess.run([script], check=True, stdout=subprocess.DEVNULL)
        monkeypatch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
    yield request.param
    until(lambda: not jobs(), "jobs are left in the queue")


def jobs() -> list[str]:
    done = subprocess.run(["squeue", "--noheader"], check=True, capture_output=True, text=True)
    return done.stdout.split("\n")[:-1]


def until(holds: Any, otherwise: str, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, otherwise
        time.sleep(0.1)


def on_slurm(epochs: int = 3, retries: int = 3, **slurm: Any) -> Configuration:
    compute = {"executor": "slurm", "workers": 2, "retries": retries, "slurm": slurm}
    return tiny_configuration({"compute": compute, "train": {"epochs": epochs}})


@pytest.fixture
def local(bench: Bench, tmp_path: Path) -> dict[str, bytes]:
    """The files of two workers of this machine."""
    two = tiny_configuration({"compute": {"workers": 2}})
    train(two, bench.cache(), bench.pretrained(), tmp_path / "local", tmp_path / "ls")
    return files(tmp_path / "local")


def start_driver(configuration: Configuration, bench: Bench, folder: Path) -> Any:
    arguments = [json.dumps(configuration.as_json()), bench.cache(), bench.pretrained(), folder]
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, *map(str, arguments)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_jobs_train_what_workers_of_one_machine_do(
    engine: str, bench: Bench, tmp_path: Path, local: dict[str, bytes]
) -> None:
    found = on_slurm(time="00:10:00", array_parallelism=1, setup=["export A=1"])
    train(found, bench.cache(), bench.pretrained(), tmp_path / "m", tmp_path / "s")
    assert files(tmp_path / "m") == local
    if engine == "fake":
        calls = (tmp_path / "fake" / "calls").read_text().split()
        assert {"--requeue", "--time=00:10:00", "--array=0-1%1", "--cpus-per-task=1"} <= set(calls)


def test_a_killed_job_is_submitted_again(
    engine: str,
    bench: Bench,
    tmp_path: Path,
    local: dict[str, bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "dhmd")
    if engine == "fake":
        (tmp_path / "fake" / "lose-1").touch()
        train(on_slurm(), bench.cache(), bench.pretrained(), tmp_path / "m", tmp_path / "s")
    else:  # the job ends itself as a lost node would end it, the first time
        setup = [f"[ -e {tmp_path}/once ] || {{ touch {tmp_path}/once; kill -9 $$; }}"]
        found = on_slurm(setup=setup)
        train(found, bench.cache(), bench.pretrained(), tmp_path / "m", tmp_path / "s")
    assert files(tmp_path / "m") == local
    assert "was killed; submitting it again" in caplog.text
    assert "0 waiting, 0 running, 2 finished, 0 failed, 1 retried" in caplog.text


def test_a_job_that_never_gets_anywhere_fails(engine: str, bench: Bench, tmp_path: Path) -> None:
    found = on_slurm(setup=["kill -9 $$"], retries=1)
    with pytest.raises(DhmdError, match=r"was killed 2 times in a row .*time limit.*log"):
        train(found, bench.cache(), bench.pretrained(), tmp_path / "m", tmp_path / "s")
    assert not (tmp_path / "m").exists()


def test_a_failure_names_the_log(engine: str, bench: Bench, tmp_path: Path) -> None:
    found = on_slurm(setup=["ulimit -f 1"])  # files of one kB: as if the disk were full
    with pytest.raises((DhmdError, RuntimeError), match=r"log\.txt"):
        train(found, bench.cache(), bench.pretrained(), tmp_path / "m", tmp_path / "s")


def test_ctrl_c_cancels_the_jobs(engine: str, bench: Bench, tmp_path: Path) -> None:
    driver = start_driver(on_slurm(epochs=4000), bench, tmp_path)
    until(lambda: list(tmp_path.glob("s/tasks/*/checkpoint.safetensors")), "no epoch is finished")
    driver.send_signal(signal.SIGINT)
    assert driver.wait(60) != 0
    driver.stderr.close()
    until(lambda: not jobs(), "jobs go on")


def test_a_killed_driver_resumes_and_trains_nothing_twice(
    engine: str, bench: Bench, tmp_path: Path
) -> None:
    configuration = on_slurm(epochs=150)
    driver = start_driver(configuration, bench, tmp_path)
    until(lambda: list(tmp_path.glob("s/tasks/*/checkpoint.safetensors")), "no epoch is finished")
    driver.kill()
    driver.wait()
    driver.stderr.close()
    again = start_driver(configuration, bench, tmp_path)
    _, printed = again.communicate(timeout=200)
    assert again.returncode == 0, printed
    assert printed.count("is in the queue, as job") + printed.count("already in ") >= 1, printed
    assert "submitting it again" not in printed


def test_without_slurm_the_error_says_so(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DhmdError, match=r"compute\.executor is slurm, but squeue cannot be run"):
        train(on_slurm(), bench.cache(), bench.pretrained(), tmp_path / "m", tmp_path / "s")
    assert TINY.compute.executor == "local"
