"""A copy of this repository with a tiny corpus and two seeds, so that every stage takes seconds."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dhmd.base.files import TEMPORARY_PREFIX
from tests.pipeline.scratch import RUN_STAGES, STAGES, copy_project, environment_of

__all__ = ["STAGES"]

DATASET = "demo"
OUTPUTS = {
    "download": ("data/raw/demo",),
    "align": ("data/aligned/demo.h5",),
    "pretrain": ("pretrained/demo",),
    "train": ("models/demo",),
    "ablate": ("ablations/demo",),
    "evaluate": ("metrics/demo",),
    "report": ("reports/demo",),
}

_SMALLER = {
    "recipes/demo.yaml": [
        ("n_train: 600", "n_train: 48"),
        ("n_valid: 200", "n_valid: 16"),
        ("n_test: 320", "n_test: 16"),
        ("width: 16", "width: 8"),
        ("codes: 128", "codes: 8"),
        ("  enabled: false", "  enabled: true"),
        ("  epochs: 12", "  epochs: 3"),
        ("    - late_fusion", "    - gru"),
    ],
    "params.yaml": [
        ("  - 2\n  - 3\n  - 4\n  - 5\n", "  - 2\n"),
        ("  folds: 5", "  folds: 2"),
        ("  resamples: 1000", "  resamples: 100"),
        ("  threads:", "  threads: 1"),
        ("  device: auto", "  device: cpu"),
    ],
}


class Process(subprocess.Popen[str]):
    """A command in a session of its own, as if started from another terminal."""

    def printed(self) -> str:
        """Wait for the end of the command and return its output."""
        return self.communicate(timeout=60)[0]

    def press_ctrl_c(self) -> None:
        """Send SIGINT to the command and its child processes, as a terminal does."""
        os.killpg(self.pid, signal.SIGINT)


class Project:
    """The copy, and the commands that run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = environment_of(
            folder / ".git" / "ours", folder.parent / f"{folder.name}-site"
        )

    @classmethod
    def create(cls, folder: Path) -> Project:
        """Make a copy without outputs, and with tracking switched off."""
        folder.mkdir(parents=True)
        project = cls(folder)
        copy_project(folder, folder / ".git" / "ours")
        for name, changes in _SMALLER.items():
            project.edit(name, *changes)
        project.track(False)
        for command in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "begin")):
            project.run("git", *command)
        return project

    def track(self, enabled: bool) -> None:
        """Switch tracking on or off in params.yaml."""
        path = self.folder / "params.yaml"
        head, section, tail = path.read_text(encoding="utf-8").partition("\ntracking:\n")
        switched = re.sub(
            "enabled: (true|false)", f"enabled: {str(enabled).lower()}", tail, count=1
        )
        path.write_text(head + section + switched, encoding="utf-8")

    def copy(self, folder: Path) -> Project:
        """Copy the folder with all its outputs."""
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

    def edit(self, name: str, *changes: tuple[str, str]) -> None:
        path = self.folder / name
        text = path.read_text(encoding="utf-8")
        for old, new in changes:
            assert old in text, (name, old)
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")

    def start(self, *command: str, **environment: str) -> Process:
        """Start a command with stdout and stderr in one pipe."""
        return Process(
            command,
            cwd=self.folder,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str, status: int | None = 0, **environment: str) -> str:
        """Run a command and return its output; fail at another status (None: any except 0)."""
        with self.start(*command, **environment) as process:
            try:
                printed, _ = process.communicate(timeout=900)
            except BaseException:
                process.kill()
                raise
        expected = process.returncode != 0 if status is None else process.returncode == status
        assert expected, f"{command} ended with {process.returncode}:\n{printed}"
        return printed

    def stage(self, name: str) -> tuple[str, ...]:
        """Return the command of a stage."""
        return (sys.executable, "-m", f"stages.{name}", DATASET)

    def run_stages(self, *stages: str) -> str:
        """Run stages one after another in one process, which imports the libraries only once."""
        return self.run(sys.executable, "-c", RUN_STAGES, DATASET, *stages)

    def remove_outputs(self, stage: str) -> None:
        """Remove the outputs of a stage, as DVC does before it runs it."""
        for name in OUTPUTS[stage]:
            path = self.folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def remove_trainings(self) -> None:
        """Remove the store of finished trainings, so that stages train again."""
        shutil.rmtree(self.folder / ".dhmd" / "trainings", ignore_errors=True)

    def contents(self, stage: str) -> dict[str, str]:
        """Return the sha256 of a stage's output files by path."""
        paths = [self.folder / name for name in OUTPUTS[stage]]
        files = [f for path in paths for f in ([path] if path.is_file() else path.rglob("*"))]
        return {
            file.relative_to(self.folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
            for file in files
            if file.is_file()
        }

    def leftovers(self) -> list[str]:
        """Return the paths of incomplete files and of the directories of tasks."""
        tasks = self.folder.glob(".dhmd/trainings/tasks/*")
        paths = [*self.folder.rglob(f"{TEMPORARY_PREFIX}*"), *tasks]
        return sorted(path.relative_to(self.folder).as_posix() for path in paths)

    def processes(self, *words: str) -> list[int]:
        """Return the ids of the copy's processes whose command contains all the words."""
        pids = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
                working_folder = os.readlink(entry / "cwd")
            except OSError:
                continue
            if working_folder == str(self.folder) and all(word in command for word in words):
                pids.append(int(entry.name))
        return pids

    def wait_for_none(self, *words: str, seconds: float = 120) -> None:
        """Wait until `processes` finds none."""
        deadline = time.monotonic() + seconds
        while pids := self.processes(*words):
            assert time.monotonic() < deadline, f"still running after {seconds} s: {pids}"
            time.sleep(0.05)

    def run_statuses(self) -> list[str]:
        """Return the statuses of all MLflow runs."""
        import sqlite3
        from contextlib import closing

        database = self.folder / "mlflow.db"
        if not database.exists():
            return []
        with closing(sqlite3.connect(database)) as connection:
            return [status for (status,) in connection.execute("select status from runs")]


@contextmanager
def killed_at_end(process: Process) -> Iterator[Process]:
    """Kill the process at the end of the block if it is still running."""
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.communicate()
