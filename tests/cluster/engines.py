"""The schedulers of these tests: a fake Slurm, a real Slurm of one node, a Ray of two nodes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.fake_slurm import write_fake_slurm

ROOT = Path(__file__).parents[2]
SLURM_FOLDER = Path("/tmp/dhmd-slurm")
SCRIPT = ROOT / "tests" / "cluster" / "start_slurm.sh"


def wait_until(condition: Callable[[], Any], message: str, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, message
        time.sleep(0.1)


def processes(*words: str) -> list[int]:
    """Return the ids of processes whose command has all of the words, without their children."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command = (entry / "cmdline").read_bytes().decode(errors="replace")
            if all(word in command for word in words):
                status = (entry / "stat").read_text().rpartition(")")[2].split()
                parents[int(entry.name)] = int(status[1])
    return [pid for pid, parent in parents.items() if parent not in parents]


def kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Engine:
    """A scheduler, and faults that tests cause in it."""

    def __init__(self, name: str, executor: str) -> None:
        self.name, self.compute = name, {"executor": executor, "workers": 2}

    def jobs(self) -> list[str]:
        return []

    def kill_worker(self, folder: Path) -> None:
        """Kill one of the training processes whose files are in the folder."""
        kill(processes("dhmd.training.run_task", str(folder))[:1])

    def kill_node(self, folder: Path) -> None:
        """Kill a node and start it again."""

    def preempt(self, folder: Path) -> None:
        """Preempt a job."""

    def stop(self) -> None:
        """Stop the scheduler, unless other tests use it."""


class Slurm(Engine):
    def __init__(self, name: str) -> None:
        super().__init__(name, "slurm")

    def jobs(self) -> list[str]:
        command = ["squeue", "--noheader", "--array", "--format=%i"]
        process = subprocess.run(command, check=True, capture_output=True, text=True)
        return process.stdout.split()


class FakeSlurm(Slurm):
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__("fake")
        self.folder = folder
        monkeypatch.setenv("PATH", f"{write_fake_slurm(folder)}:{os.environ['PATH']}")


class RealSlurm(Slurm):
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__("Slurm")
        subprocess.run([SCRIPT], check=True, stdout=subprocess.DEVNULL)
        monkeypatch.setenv("SLURM_CONF", str(SLURM_FOLDER / "slurm.conf"))

    def kill_node(self, folder: Path) -> None:
        node = os.uname().nodename.partition(".")[0]
        jobs = {job.partition("_")[0] for job in self.jobs()}
        kill([int((SLURM_FOLDER / "slurmd.pid").read_text())])
        kill([pid for job in jobs for pid in processes("slurmstepd", f"[{job}")])
        kill(processes(str(SLURM_FOLDER), "slurm_script"))
        kill(processes("dhmd.training.run_task", str(folder)))
        for state in ("DOWN", "RESUME"):
            update = ["scontrol", "update", f"NodeName={node}", f"State={state}", "Reason=test"]
            # A node that registers again may have resumed by itself.
            subprocess.run(update, check=state == "DOWN", capture_output=True)
            if state == "DOWN":
                subprocess.run(["slurmd"], check=True)

    def preempt(self, folder: Path) -> None:
        subprocess.run(["scontrol", "requeue", self.jobs()[0]], check=True)


class Ray(Engine):
    """Two nodes of one CPU each."""

    def __init__(self) -> None:
        super().__init__("Ray", "ray")
        pytest.importorskip("ray")
        from ray.cluster_utils import Cluster

        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
        self.node = self.cluster.add_node(num_cpus=1)
        self.compute["ray"] = {"address": self.cluster.address}

    def jobs(self) -> list[str]:
        return [
            str(pid) for pid in processes("ray::start")
        ]  # the process name of a worker that runs a task

    def kill_node(self, folder: Path) -> None:
        self.cluster.remove_node(self.node, allow_graceful=False)
        self.node = self.cluster.add_node(num_cpus=1)

    def stop(self) -> None:
        import ray

        ray.shutdown()
        self.cluster.shutdown()
