"""Run tasks without a shared folder: their files are transferred through the DVC remote.

    python -m dhmd.training.executors.exchange ID...

runs tasks on a node, in the node's clone of the repository. It downloads the files of a task, runs
`dhmd.training.run_task`, and uploads what the task writes, during its run and at the end. The
remote has:

    dhmd/inputs/<sha256>    input files of tasks, by content; they stay for later tasks
    dhmd/tasks/<id>/        a task's directory and its finished members, until the driver has them
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import atomic_file, atomic_folder, file_sha256, json_sha256, write_text
from dhmd.base.machine import end_with_parent
from dhmd.recipes import repository_root
from dhmd.training.checkpoint import CHECKPOINT
from dhmd.training.task import COMMAND, EVENTS, LOG, STATUS, TASK, Task

# Seconds between two transfers of a running task's files; at least 10 times a transfer's duration.
_PAUSE = 1.0
_INPUTS = ("aligned", "pretrained", "encoder")


class Exchange:
    """The folder `dhmd` in the default DVC remote of the working folder's repository."""

    def __init__(self) -> None:
        from dhmd.vcs.sweep import remote_file_system

        self.root = repository_root()
        self._fs, base = remote_file_system(self.root)
        self._base = f"{base}/dhmd"
        self._hashes: dict[Path, str] = {}
        self._sent: dict[Path, int] = {}

    # ---- on the driver -------------------------------------------------------------------------

    def send(self, tasks: Sequence[Task]) -> None:
        """Upload the tasks' descriptions, and the inputs that the remote does not have."""
        uploaded = set(self._names("inputs"))
        for task in tasks:
            content = json.loads((task.folder / TASK).read_text(encoding="utf-8"))
            content["inputs"] = {}
            for kind in _INPUTS:
                if content[kind] is None:
                    continue
                path = Path(content[kind])
                for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
                    if not file.is_file():
                        continue
                    sha256 = self._hashes.setdefault(file, file_sha256(file))
                    name = f"{kind}/{file.relative_to(path.parent).as_posix()}"
                    content["inputs"][name] = sha256
                    if sha256 not in uploaded:
                        self._put(file, f"inputs/{sha256}")
                        uploaded.add(sha256)
                content[kind] = f"{kind}/{path.name}"
            with suppress(FileNotFoundError):  # left by an earlier run that failed
                self._fs.rm(f"{self._base}/tasks/{task.folder.name}/{STATUS}")
            path = task.folder / "sent.json"
            write_text(path, json.dumps(content))
            self._put(path, f"tasks/{task.folder.name}/{TASK}")

    def collect(self, tasks: Sequence[Task]) -> None:
        """Download what tasks have written so far: finished members, logs and events.

        Raises:
            DhmdError: the remote does not answer.
        """
        for task in tasks:
            name = f"tasks/{task.folder.name}"
            files = set(self._names(name))
            for file in files & {LOG, EVENTS, STATUS}:
                self._get(f"{name}/{file}", task.folder / file)
            if STATUS not in files:
                continue  # the members may be incomplete
            for file in files:
                if file.endswith(".safetensors") and file != CHECKPOINT:
                    self._get(f"{name}/{file}", task.store.folder / file)
            if not task.missing:
                self._fs.rm(f"{self._base}/{name}", recursive=True)

    # ---- on a node -----------------------------------------------------------------------------

    def receive(self, id_: str) -> Path:
        """Download a task and its inputs; return the path of its description."""
        store = self.root / ".dhmd" / "trainings"
        folder = store / "tasks" / id_
        folder.mkdir(parents=True, exist_ok=True)
        for file in self._names(f"tasks/{id_}"):
            target = (folder if file in (TASK, CHECKPOINT, EVENTS) else store) / file
            if file != STATUS and file != LOG:
                self._get(f"tasks/{id_}/{file}", target)
        content = json.loads((folder / TASK).read_text(encoding="utf-8"))
        inputs = content.pop("inputs")
        local = self.root / ".dhmd" / "inputs" / json_sha256(inputs)[:16]
        local.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{local}.lock"):  # only one of the tasks on this node downloads
            if not local.exists():
                with atomic_folder(local) as incomplete:
                    for path, sha256 in inputs.items():
                        (incomplete / path).parent.mkdir(parents=True, exist_ok=True)
                        self._get(f"inputs/{sha256}", incomplete / path)
        for kind in _INPUTS:
            content[kind] = content[kind] and str(local / content[kind])
        content["store"] = str(store)
        write_text(folder / TASK, json.dumps(content))
        return folder / TASK

    def deliver(self, task: Path, *, finished: Sequence[Path] = ()) -> None:
        """Upload what a task has written since the last call, then its finished members."""
        names = (CHECKPOINT, EVENTS, LOG)
        for file in (*(task.with_name(name) for name in names), *finished):
            if file.exists() and self._sent.get(file) != (changed := file.stat().st_mtime_ns):
                self._put(file, f"tasks/{task.parent.name}/{file.name}")
                self._sent[file] = changed

    def run(self, id_: str) -> int:
        """Run a task and return its exit status."""
        path = self.receive(id_)
        with open(path.with_name(LOG), "wb") as log:
            process = subprocess.Popen(
                [*COMMAND, "--parent", str(os.getpid()), str(path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        pause = _PAUSE
        while process.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                process.wait(pause)
            started = time.monotonic()
            with suppress(DhmdError):  # a later transfer sends it
                self.deliver(path)
            pause = max(_PAUSE, 10 * (time.monotonic() - started))
        content = json.loads(path.read_text(encoding="utf-8"))
        store = Path(content["store"])
        members = [store / f"{key}.safetensors" for key in content["keys"].values()]
        self.deliver(path, finished=members)
        write_text(path.with_name(STATUS), f"{process.returncode}\n")
        self._put(path.with_name(STATUS), f"tasks/{id_}/{STATUS}")
        return process.returncode

    def _names(self, folder: str) -> list[str]:
        """Return the names of the files in a folder of the remote."""
        try:
            paths = self._fs.find(f"{self._base}/{folder}")
        except FileNotFoundError:
            return []
        except Exception as error:
            raise _remote_error(error) from error
        return [str(path).rpartition("/")[2] for path in paths if not path.endswith(".part")]

    def _put(self, file: Path, name: str) -> None:
        target = f"{self._base}/{name}"
        part = f"{target}.{os.getpid()}-{time.time_ns()}.part"
        try:
            self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._fs.put_file(str(file), part)
            self._fs.mv(part, target)
        except Exception as error:  # of the remote's own library
            raise _remote_error(error) from error

    def _get(self, name: str, file: Path) -> None:
        try:
            with atomic_file(file) as part:
                self._fs.get_file(f"{self._base}/{name}", str(part))
        except Exception as error:
            raise _remote_error(error) from error


def _remote_error(error: Any) -> DhmdError:
    return DhmdError(f"the DVC remote does not answer: {first_line(error)}")


def main(ids: Sequence[str], parent: int | None = None) -> int:
    """Run tasks one after the other; return the last exit status that is not 0, or 0."""
    if parent is not None:
        end_with_parent(signal.SIGKILL)
    exchange = Exchange()
    return next(filter(None, reversed([exchange.run(id_) for id_ in ids])), 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Run training tasks from the DVC remote.")
    parser.add_argument("tasks", nargs="+", metavar="ID")
    parser.add_argument(
        "--parent", type=int, help="id of the parent process; exit when the parent exits"
    )
    arguments = parser.parse_args()
    sys.exit(main(arguments.tasks, arguments.parent))
