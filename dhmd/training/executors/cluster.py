"""Executors of clusters: tasks are jobs that may be killed and are then submitted again.

The state of a task follows from the jobs in the queue and from files in the task's directory:

    job.txt      the id of the task's job
    status.txt   the exit status of `run_task`; absent if the job was killed
    log.txt      the output of `run_task`
"""

from __future__ import annotations

import logging
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dhmd.base.errors import DhmdError
from dhmd.base.files import write_text
from dhmd.training.compute import ComputeConfig
from dhmd.training.executors.exchange import Exchange
from dhmd.training.task import EVENTS, EXIT_ERROR, LOG, STATUS, Task

JOB = "job.txt"
_SIGNALLED = 128  # a larger or negative exit status means that a signal ended the process
_MIN_FREE_BYTES = 1 << 20  # a disk with less free space is called full

_log = logging.getLogger(__name__)


@dataclass
class _Job:
    """A task in the queue.

    Attributes:
        epochs: number of epochs that the task had finished when the job was submitted.
        attempts: number of jobs in a row, before this one, that finished no epoch.
    """

    task: Task
    id: str
    epochs: int
    attempts: int = 0


class ClusterExecutor(ABC):
    """Submits tasks and watches their jobs.

    A job that ends before its task is done (time limit, preemption, a lost node) is submitted
    again and resumes at the task's last finished epoch.
    """

    name: str

    def __init__(self, compute: ComputeConfig, poll: float = 2.0) -> None:
        """Create the executor; `poll` is the shortest time between two queries, in seconds."""
        self._compute, self._poll = compute, poll
        self._jobs: dict[Path, _Job] = {}
        self.failures: list[Exception] = []
        self._counts = {"finished": 0, "failed": 0, "retried": 0}
        self._next_query, self._logged = 0.0, ""
        self._exchange = None if compute.shared else Exchange()

    @abstractmethod
    def submit(self, tasks: Sequence[Task]) -> list[str]:
        """Submit the tasks and return the ids of their jobs."""

    @abstractmethod
    def queue(self) -> set[str]:
        """Return the ids of the jobs that wait or run.

        Raises:
            DhmdError: the scheduler does not answer.
        """

    @abstractmethod
    def cancel(self, ids: Sequence[str]) -> None:
        """Cancel the jobs with these ids."""

    def start(self, tasks: Sequence[Task]) -> None:
        """Submit the tasks that have no job in the queue; a killed driver may have left some there.

        Raises:
            DhmdError: the scheduler is absent or fails.
        """
        queue, new = self.queue(), []
        for task in tasks:
            job_id = _read(task.folder / JOB)
            if job_id in queue:
                _log.info("%s: %s is already in the queue as job %s", self.name, task.label, job_id)
                self._jobs[task.folder] = _Job(task, job_id, _epochs(task))
            else:
                new.append(task)
        if self._exchange is not None:
            self._exchange.send(new)
        self._submit(new)

    def running(self) -> set[Path]:
        if (start := time.monotonic()) >= self._next_query:
            self._update()
            end = time.monotonic()
            self._next_query = end + max(self._poll, 10 * (end - start))
        return set(self._jobs)

    def stop(self) -> None:
        """Cancel the jobs that wait or run."""
        ids = [job.id for job in self._jobs.values() if job.task.missing]
        if ids:
            self.cancel(ids)
        self._jobs = {}

    def _submit(self, tasks: Sequence[Task], attempts: int = 0) -> None:
        if not tasks:
            return
        for task in tasks:
            for name in (STATUS, LOG):
                (task.folder / name).unlink(missing_ok=True)
        for task, id_ in zip(tasks, self.submit(tasks), strict=True):
            self._jobs[task.folder] = _Job(task, id_, _epochs(task), attempts)
            write_text(task.folder / JOB, f"{id_}\n")

    def _update(self) -> None:
        """Query the queue, and handle the jobs that have left it."""
        try:
            queue = self.queue()  # before the results, which a job writes before it ends
            if self._exchange is not None:
                self._exchange.collect([job.task for job in self._jobs.values()])
        except DhmdError as error:  # the scheduler may be restarting; the jobs continue
            _log.warning("%s (the queue will be queried again)", error)
            return
        for folder, job in list(self._jobs.items()):
            if not job.task.missing:
                del self._jobs[folder]
                self._counts["finished"] += 1
            elif job.id not in queue:
                del self._jobs[folder]
                self._handle_end(job)
        running = sum((folder / LOG).exists() for folder in self._jobs)
        counts = {"waiting": len(self._jobs) - running, "running": running, **self._counts}
        text = ", ".join(f"{count} {name}" for name, count in counts.items())
        if text != self._logged:
            _log.info("%s: %s", self.name, text)
            self._logged = text

    def _handle_end(self, job: _Job) -> None:
        """Submit the task of a killed job again, or report the task's failure."""
        task, log = job.task, job.task.folder / LOG
        status, text = _read(task.folder / STATUS), _read(log)
        code = int(status) if status.isdigit() else None
        if code is not None and code <= _SIGNALLED:
            self._counts["failed"] += 1
            last = text.rpartition("\n")[2] or "it printed nothing"
            if code == EXIT_ERROR:
                self.failures.append(DhmdError(f"{last} (log: {log})"))
            else:
                self.failures.append(
                    RuntimeError(f"job {job.id}, {task.label}, failed (log: {log}):\n{text}")
                )
            return
        attempts = 0 if _epochs(task) > job.epochs else job.attempts + 1
        if attempts > self._compute.retries:
            self._counts["failed"] += 1
            advice = "raise the time limit or the memory of section compute"
            if shutil.disk_usage(task.folder).free < _MIN_FREE_BYTES:
                advice = f"the disk of {task.store.folder} is full"
            self.failures.append(
                DhmdError(
                    f"job {job.id}, {task.label}, was killed {attempts} times in a row before it "
                    f"finished an epoch: {advice} (log: {log})"
                )
            )
            return
        self._counts["retried"] += 1
        _log.info("%s: job %s, %s, was killed; submitting it again", self.name, job.id, task.label)
        self._submit([task], attempts)


def _epochs(task: Task) -> int:
    """Return the number of epochs that the task's runs have finished."""
    return _read(task.folder / EVENTS).count('{"epoch"')


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
