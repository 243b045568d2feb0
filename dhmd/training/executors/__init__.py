"""Run tasks: in this process, or by an executor that runs `dhmd.training.run_task` elsewhere.

An executor starts processes and reports which tasks are running. The rest is the same for all
executors: progress is read from the tasks' event files, and a task is done when the store has its
members. So tasks can run on any machine with access to the store's folder.
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from dhmd.data.aligned.corpus import Corpus
from dhmd.training.compute import ComputeConfig
from dhmd.training.device import visible_gpus
from dhmd.training.executors.local import LocalExecutor
from dhmd.training.observer import Observer
from dhmd.training.task import EVENTS, Task, run_task

_POLL = 0.05  # seconds between two checks of the running tasks

_log = logging.getLogger(__name__)


class Executor(Protocol):
    """Starts the processes of tasks and watches them.

    Attributes:
        failures: the errors of tasks that have failed so far; each names the task and its log.
    """

    failures: list[Exception]

    def start(self, tasks: Sequence[Task]) -> None:
        """Start all tasks, as many at a time as there are resources; their JSON files exist."""

    def running(self) -> set[Path]:
        """Return the directories of the tasks that wait or run."""

    def stop(self) -> None:
        """Kill all processes."""


def run_tasks(
    groups: Sequence[Sequence[Task]],
    observer: Observer,
    *,
    compute: ComputeConfig,
    device: torch.device,
    num_processes: int,
    corpus: Corpus | None = None,
) -> None:
    """Run all tasks, so that the store has all their members.

    Results do not depend on which process runs which task. If a task fails, the others continue
    and are stored.

    Args:
        groups: the tasks; the members of a group are reported together, as one event per epoch.
        compute: the settings, which name the executor.
        device: the device that the tasks train on.
        num_processes: the number of worker processes of the local executor.
        corpus: the corpus of all tasks; None to read it for each task.

    Raises:
        DhmdError: bad input, a full disk, or a process that was killed. A second run resumes.
    """
    tasks = [task for group in groups for task in group]
    if compute.executor == "local" and min(num_processes, len(tasks)) <= 1:
        for task in tasks:
            run_task(task, observer, corpus)
        return
    if not tasks:
        return
    executor = _executor(compute, min(num_processes, len(tasks)), device)
    reports = [_GroupReport(group, observer) for group in groups]
    logged = 0
    try:
        for task in tasks:
            task.write()
        executor.start(tasks)
        while alive := executor.running():
            for failure in executor.failures[logged:]:
                _log.error("%s (the other tasks continue)", failure)
            logged = len(executor.failures)
            unfinished = {task.folder for task in tasks if task.folder in alive and task.missing}
            for report in reports:
                report.update(unfinished)
            time.sleep(_POLL * max(1.0, len(tasks) / 10))  # every task has files to check
    finally:
        executor.stop()
        for report in reports:
            report.update(set())
    if executor.failures:
        raise executor.failures[0]


def _executor(compute: ComputeConfig, num_processes: int, device: torch.device) -> Executor:
    if compute.executor == "slurm":
        from dhmd.training.executors.slurm import SlurmExecutor

        return SlurmExecutor(compute)
    if compute.executor == "ray":
        from dhmd.training.executors.ray import RayExecutor

        return RayExecutor(compute)
    return LocalExecutor(num_processes, visible_gpus() if device.type == "cuda" else ())


class _GroupReport:
    """Reports an epoch of a group once every running task of the group has finished it.

    So the order of events does not depend on the speed of the processes. If one task resumes at a
    later epoch than another, the earlier epochs are reported with the other's members only.
    """

    def __init__(self, tasks: Sequence[Task], observer: Observer) -> None:
        self._observer = observer
        names = {name: None for task in tasks for name in task.members}
        variants = list(dict.fromkeys(name.rpartition("/")[0] for name in names))
        self._names = sorted(names, key=lambda name: variants.index(name.rpartition("/")[0]))
        self._files = {task.folder: task.folder / EVENTS for task in tasks}
        self._offsets = {
            folder: path.stat().st_size if path.exists() else 0
            for folder, path in self._files.items()
        }
        self._epochs: dict[Path, deque[tuple[int, dict[str, dict[str, float]]]]] = {
            folder: deque() for folder in self._files
        }

    def update(self, unfinished: set[Path]) -> None:
        """Read new events; report the epochs that all unfinished tasks have finished."""
        for folder, path in self._files.items():
            for event in self._new_events(folder, path):
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
            self._observer.on_epoch(
                first, {name: rows[name] for name in self._names if name in rows}
            )

    def _new_events(self, folder: Path, path: Path) -> list[dict[str, Any]]:
        """Return the events that were added to a file since the last call."""
        try:
            with open(path, "rb") as stream:
                stream.seek(self._offsets[folder])
                lines = stream.read().split(b"\n")[:-1]
        except FileNotFoundError:
            return []
        self._offsets[folder] += sum(len(line) + 1 for line in lines)
        return [json.loads(line) for line in lines if line]
