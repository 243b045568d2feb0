"""A copy of this repository with a tiny corpus and two seeds, so that every stage takes seconds."""

from __future__ import annotations

import hashlib
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dhmd.base.files import TEMPORARY_PREFIX
from tests.cluster.engines import processes, wait_until
from tests.pipeline.scratch import RUN_STAGES, STAGES, Process, Repository, copy_project

__all__ = ["STAGES", "Process"]

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


class Project(Repository):
    """The copy, with outputs of the pipeline."""

    def __init__(self, folder: Path) -> None:
        site = folder.parent / f"{folder.name}-site"
        super().__init__(folder, folder / ".git" / "ours", site)

    @classmethod
    def create(cls, folder: Path) -> Project:
        """Make a copy without outputs, and with tracking switched off."""
        folder.mkdir(parents=True)
        project = cls(folder)
        copy_project(folder, folder / ".git" / "ours")
        for name, changes in _SMALLER.items():
            project.edit(name, *changes)
        project.track(False)
        project.initialise()
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

    def stage(self, name: str) -> tuple[str, ...]:
        """Return the command of a stage."""
        return (sys.executable, "-m", f"stages.{name}", DATASET)

    def run_stages(self, *stages: str) -> None:
        """Run stages one after another in one process, which imports the libraries only once."""
        self(sys.executable, "-c", RUN_STAGES, DATASET, *stages)

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
        folder = self.folder.resolve()
        return [pid for pid in processes(*words) if Path(f"/proc/{pid}/cwd").resolve() == folder]

    def wait_for_none(self, *words: str, seconds: float = 60) -> None:
        """Wait until no process of the copy has all the words in its command."""
        message = f"still running after {seconds} s: {words}"
        wait_until(lambda: not self.processes(*words), message, seconds)

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
