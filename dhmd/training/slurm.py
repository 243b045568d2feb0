"""Run tasks as jobs of a Slurm cluster: one array of `python -m dhmd.training.run_task TASK.json`.

The state of a task comes from three files in its directory and from `squeue`: no accounting
database is needed. The store's folder, the aligned features file and the Python environment must
have the same paths on all machines.

    slurm.txt    the id of the task's job, `123_4`
    status.txt   the exit status; absent if the job was killed
    log.txt      what the task printed
"""

from __future__ import annotations

import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import dhmd
from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import write_text
from dhmd.training.compute import ComputeConfig
from dhmd.training.execute import LOG
from dhmd.training.task import REFUSED, TASK, Task

JOB = "slurm.txt"
STATUS = "status.txt"
_KILLED = 128  # exit statuses above it: the process was ended by a signal

_log = logging.getLogger(__name__)


@dataclass
class _Job:
    """A task in the queue, and how often it ran without a new checkpoint."""

    task: Task
    id: str
    checkpoint: int
    attempts: int = 0


class SlurmExecutor:
    """Submits tasks as a job array and follows them with `squeue`.

    A job that ends before its task is done (time limit, preemption, a lost node) is submitted
    again and resumes at the task's last checkpoint. Jobs that an earlier, killed driver left in
    the queue are followed instead of submitted twice.
    """

    def __init__(self, compute: ComputeConfig, poll: float = 2.0) -> None:
        """`poll` is the time in seconds between two calls of `squeue`."""
        self._compute, self._slurm, self._poll = compute, compute.slurm, poll
        self._jobs: dict[Path, _Job] = {}
        self._failures: list[Exception] = []
        self._counts = {"finished": 0, "failed": 0, "retried": 0}
        self._queue: dict[str, str] = {}
        self._looked, self._shown = 0.0, ""
        self._handlers: dict[signal.Signals, Any] = {}

    def start(self, tasks: Sequence[Task]) -> None:
        """Submit the tasks, except those whose jobs are in the queue already.

        Raises:
            DhmdError: `sbatch` or `squeue` is absent or fails.
        """
        self._cancel_on_signals()
        self._queue = _queue()
        new = []
        for task in tasks:
            path = task.folder / JOB
            known = path.read_text(encoding="utf-8").strip() if path.exists() else ""
            if known in self._queue:
                _log.info("slurm: %s is in the queue already, as job %s", task.label, known)
                self._jobs[task.folder] = _Job(task, known, _checkpoint(task))
            else:
                new.append(task)
        self._submit(new)

    def running(self) -> set[Path]:
        if time.monotonic() - self._looked >= self._poll:
            self._update()
        return set(self._jobs)

    def failures(self) -> list[Exception]:
        found, self._failures = self._failures, []
        return found

    def stop(self) -> None:
        """Cancel the jobs that wait or run, and restore the signals' handlers."""
        self._cancel()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def _submit(self, tasks: Sequence[Task], attempts: int = 0) -> None:
        if not tasks:
            return
        first = tasks[0].folder
        # Jobs read the list when they start: a later array must not replace it.
        listed = first.resolve() / f"array-{time.time_ns()}.txt"
        write_text(listed, "".join(f"{task.folder.resolve()}\n" for task in tasks))
        script = listed.with_suffix(".sh")
        write_text(script, _script(self._slurm.setup, listed))
        for task in tasks:
            (task.folder / STATUS).unlink(missing_ok=True)
        limit = f"%{self._slurm.array_parallelism}" if self._slurm.array_parallelism else ""
        wanted = {
            "partition": self._slurm.partition,
            "account": self._slurm.account,
            "gpus": self._slurm.gpus,
            "time": self._slurm.time,
            "mem": self._slurm.memory,
            "cpus-per-task": self._compute.threads or 1,
            "array": f"0-{len(tasks) - 1}{limit}",
            "job-name": "dhmd",
            "output": first.resolve() / "slurm-%A_%a.txt",
        }
        options = [f"--{key}={value}" for key, value in wanted.items() if value is not None]
        printed = _call(["sbatch", "--parsable", "--requeue", *options, str(script)])
        job = printed.strip().partition(";")[0]
        for index, task in enumerate(tasks):
            own = f"{job}_{index}"
            self._jobs[task.folder] = _Job(task, own, _checkpoint(task), attempts)
            self._queue[own] = "PD"
            write_text(task.folder / JOB, f"{own}\n")

    def _update(self) -> None:
        """Look at the queue, and settle the tasks whose jobs have left it."""
        try:
            self._queue = _queue()
        except DhmdError as error:  # the controller may be restarting: its jobs go on
            _log.warning("%s (trying again)", error)
            self._looked = time.monotonic()
            return
        for folder, job in list(self._jobs.items()):
            if not job.task.missing:
                del self._jobs[folder]
                self._counts["finished"] += 1
            elif job.id not in self._queue:
                del self._jobs[folder]
                self._settle(job)
        states = [self._queue.get(job.id) for job in self._jobs.values()]
        counts = {
            "waiting": states.count("PD"),
            "running": len(states) - states.count("PD"),
            **self._counts,
        }
        text = ", ".join(f"{count} {name}" for name, count in counts.items())
        if text != self._shown:
            _log.info("slurm: %s", text)
            self._shown = text
        self._looked = time.monotonic()

    def _settle(self, job: _Job) -> None:
        """Submit a task again whose job was killed, or report its failure."""
        task, log = job.task, job.task.folder / LOG
        status = _read(task.folder / STATUS)
        code = int(status) if status.isdigit() else None
        text = _read(log)
        if code is not None and code <= _KILLED:
            self._counts["failed"] += 1
            last = text.rpartition("\n")[2] or "it printed nothing"
            if code == REFUSED:
                self._failures.append(DhmdError(f"{last} (log: {log})"))
            else:
                self._failures.append(
                    RuntimeError(f"job {job.id}, {task.label}, failed (log: {log}):\n{text}")
                )
            return
        progressed = _checkpoint(task) != job.checkpoint
        attempts = 0 if progressed else job.attempts + 1
        if attempts > self._slurm.retries:
            self._counts["failed"] += 1
            self._failures.append(
                DhmdError(
                    f"job {job.id}, {task.label}, was killed {attempts} times in a row before it "
                    "finished an epoch: raise compute.slurm.time or compute.slurm.memory "
                    f"(log: {log})"
                )
            )
            return
        self._counts["retried"] += 1
        _log.info("slurm: job %s, %s, was killed; submitting it again", job.id, task.label)
        self._submit([task], attempts)

    def _cancel(self) -> None:
        ids = [job.id for job in self._jobs.values() if job.task.missing]
        if ids:
            subprocess.run(["scancel", *ids], check=False, capture_output=True)
        self._jobs = {}

    def _cancel_on_signals(self) -> None:
        """Cancel the jobs on Ctrl-C and SIGTERM, then do what these did before."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            before = signal.getsignal(number)
            self._handlers[number] = before
            signal.signal(number, self._cancelling(before))

    def _cancelling(self, before: Any) -> Callable[[int, FrameType | None], None]:
        def handle(number: int, frame: FrameType | None) -> None:
            self._cancel()
            if callable(before):
                before(number, frame)
            else:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)

        return handle


def _script(setup: Sequence[str], listed: Path) -> str:
    """The batch script of an array: each job runs the task of its line in `listed`."""
    code = str(Path(dhmd.__file__).resolve().parents[1])
    return "\n".join(
        [
            "#!/bin/bash",
            *setup,
            f"export PYTHONPATH={shlex.quote(code)}${{PYTHONPATH:+:$PYTHONPATH}}",
            f'folder=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {shlex.quote(str(listed))})',
            f"{shlex.quote(sys.executable)} -P -m dhmd.training.run_task "
            f'"$folder/{TASK}" > "$folder/{LOG}" 2>&1',
            f'echo $? > "$folder/{STATUS}"',
            "",
        ]
    )


def _queue() -> dict[str, str]:
    """This user's jobs in the queue: id, such as `123_4`, and state, such as `PD` or `R`."""
    lines = _call(["squeue", "--me", "--noheader", "--array", "--format=%i %t"]).splitlines()
    pairs = (line.split() for line in lines if line.strip())
    return {pair[0]: pair[1] for pair in pairs}


def _call(command: Sequence[str]) -> str:
    """Return what a command of Slurm prints.

    Raises:
        DhmdError: it is not installed, or fails.
    """
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
    except OSError as error:
        raise DhmdError(
            f"compute.executor is slurm, but {command[0]} cannot be run here: {first_line(error)}"
        ) from error
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise DhmdError(f"{command[0]} failed: {last or f'exit status {done.returncode}'}")
    return done.stdout


def _checkpoint(task: Task) -> int:
    """When the task's checkpoint was written last, in ns; 0 if there is none."""
    path = task.folder / "checkpoint.safetensors"
    return path.stat().st_mtime_ns if path.exists() else 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
