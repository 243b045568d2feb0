"""Run tasks: in this process, or by an executor that runs `dhmd.training.run_task` elsewhere.

An executor starts processes and reports which tasks still run. The rest is the same for every
executor: progress is read from the tasks' event files, and a task is done when the store has its
members. So tasks can run on any machine that can access the store's folder.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import dhmd
from dhmd.base.errors import DhmdError, first_line
from dhmd.data.aligned.corpus import Corpus
from dhmd.training.observer import Observer
from dhmd.training.task import EVENTS, REFUSED, TASK, Task, run_task

LOG = "log.txt"
_POLL = 0.05  # seconds between two checks of the running tasks

_log = logging.getLogger(__name__)


class Executor(Protocol):
    """Starts tasks somewhere and follows their processes."""

    def start(self, tasks: Sequence[Task]) -> None:
        """Start all tasks, as the executor's resources allow. Their JSON files are written."""

    def failures(self) -> list[Exception]:
        """Return new failures since the last call; each message names the task and its log."""

    def running(self) -> set[Path]:
        """Return the directories of the tasks whose processes wait or run."""

    def stop(self) -> None:
        """Kill all running processes."""


def run_tasks(
    groups: Sequence[Sequence[Task]],
    observer: Observer,
    *,
    processes: int,
    corpus: Corpus,
    executor: Executor | None = None,
) -> None:
    """Run all tasks, so that the store has all their members.

    Results do not depend on which process runs which task. If a task fails, the others continue
    and are stored.

    Args:
        groups: tasks whose members are reported together, as one event per epoch.
        executor: what runs the tasks; None: `processes` processes on this machine.

    Raises:
        DhmdError: bad input, a full disk, or a process that was killed. A second run resumes.
    """
    tasks = [task for group in groups for task in group]
    if executor is None:
        processes = min(processes, len(tasks))
        if processes <= 1:
            for task in tasks:
                run_task(task, observer, corpus)
            return
        executor = LocalExecutor(processes)
    reports = [_GroupReport(group, observer) for group in groups]
    failures: list[Exception] = []
    try:
        for task in tasks:
            task.write()
        executor.start(tasks)
        while alive := executor.running():
            for failure in executor.failures():
                failures.append(failure)
                _log.error("%s (the other tasks continue)", failure)
            unfinished = {task.folder for task in tasks if task.folder in alive and task.missing}
            for report in reports:
                report.update(unfinished)
            time.sleep(_POLL)
    finally:
        executor.stop()
        for report in reports:
            report.update(set())
    failures += executor.failures()
    if failures:
        raise failures[0]


class _GroupReport:
    """Report an epoch of a group once every running task of the group has finished it.

    So the order of events does not depend on the speed of the processes. If one task resumes at a
    later epoch than another, the earlier epochs of the other are reported without it.
    """

    def __init__(self, tasks: Sequence[Task], observer: Observer) -> None:
        self._observer = observer
        names = {name: None for task in tasks for name in task.members}
        variants = list(dict.fromkeys(name.rpartition("/")[0] for name in names))
        self._names = sorted(names, key=lambda name: variants.index(name.rpartition("/")[0]))
        self._files = {task.folder: task.folder / EVENTS for task in tasks}
        self._offsets = {folder: _size(path) for folder, path in self._files.items()}
        self._epochs: dict[Path, deque[tuple[int, dict[str, dict[str, float]]]]] = {
            folder: deque() for folder in self._files
        }

    def update(self, unfinished: set[Path]) -> None:
        """Read new events; report the epochs that all unfinished tasks have finished."""
        for folder, path in self._files.items():
            for event in self._new(folder, path):
                if "log" in event:
                    logging.getLogger(event["log"]).log(event["level"], "%s", event["message"])
                else:
                    self._epochs[folder].append((event["epoch"], event["rows"]))
        while any(self._epochs.values()) and all(
            waiting or folder not in unfinished for folder, waiting in self._epochs.items()
        ):
            first = min(waiting[0][0] for waiting in self._epochs.values() if waiting)
            rows: dict[str, Mapping[str, float]] = {}
            for waiting in self._epochs.values():
                if waiting and waiting[0][0] == first:
                    rows |= waiting.popleft()[1]
            self._observer.epoch(first, {name: rows[name] for name in self._names if name in rows})

    def _new(self, folder: Path, path: Path) -> list[dict[str, Any]]:
        """Return the events of complete lines added since the last call."""
        try:
            with open(path, "rb") as stream:
                stream.seek(self._offsets[folder])
                lines = stream.read().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        self._offsets[folder] += sum(len(line) + 1 for line in lines)
        return [json.loads(line) for line in lines if line]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


class LocalExecutor:
    """Worker processes on this machine, each with its share of the tasks.

    They are separate programs rather than children of multiprocessing: nothing is inherited or
    pickled, and a caller needs no `if __name__ == "__main__"`. They end when this process ends.
    """

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._shares: dict[subprocess.Popen[bytes], list[Task]] = {}
        self._failures: list[Exception] = []

    def start(self, tasks: Sequence[Task]) -> None:
        shares: list[list[Task]] = [[] for _ in range(self._processes)]
        for task in tasks:  # assign each to the process with the fewest members
            min(shares, key=lambda share: sum(len(t.members) for t in share)).append(task)
        # Workers import the same code as this process, whatever the working folder contains.
        own = str(Path(dhmd.__file__).resolve().parents[1])
        paths = [own, *filter(None, [os.environ.get("PYTHONPATH")])]
        command = [sys.executable, "-P", "-m", "dhmd.training.run_task"]
        for share in filter(None, shares):
            files = [str(task.folder / TASK) for task in share]
            try:
                with open(share[0].folder / LOG, "wb") as log:
                    process = subprocess.Popen(
                        [*command, "--parent", str(os.getpid()), *files],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                    )
            except OSError as error:
                raise DhmdError(
                    f"cannot start a worker process ({first_line(error)}): set compute.workers to 1"
                ) from error
            self._shares[process] = share

    def running(self) -> set[Path]:
        return {
            task.folder
            for process, share in list(self._shares.items())
            if self._is_alive(process, share)
            for task in share
        }

    def failures(self) -> list[Exception]:
        found, self._failures = self._failures, []
        return found

    def stop(self) -> None:
        for process in self._shares:
            process.kill()
            process.wait()

    def _is_alive(self, process: subprocess.Popen[bytes], share: list[Task]) -> bool:
        status = process.poll()
        if status is None:
            return True
        del self._shares[process]
        lost = [task for task in share if task.missing]
        if lost:
            self._failures.append(_failure(status, lost[0], share[0].folder / LOG))
        return False


def _failure(status: int, task: Task, log: Path) -> Exception:
    """Describe why a worker process ended before its task was done."""
    text = ""
    with suppress(OSError):
        text = log.read_text(encoding="utf-8", errors="replace").strip()
    last = text.rpartition("\n")[2] or "it printed nothing"
    if status == REFUSED:
        return DhmdError(last)
    if status < 0:
        cause = "; memory may have run out" if status == -signal.SIGKILL else ""
        return DhmdError(
            f"the worker process that trained {task.label} was ended by "
            f"{signal.Signals(-status).name}{cause}: run the stage again to resume, or set "
            f"compute.workers to 1 (log: {log})"
        )
    return RuntimeError(f"the worker process that trained {task.label} failed:\n{text}")
