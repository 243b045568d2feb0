"""Run tasks on a Slurm cluster, as arrays of jobs that run `dhmd.training.run_task`.

Only `sbatch`, `squeue` and `scancel` are called, so no accounting database is needed.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from dhmd.base.errors import DhmdError, first_line
from dhmd.training.compute import ComputeConfig
from dhmd.training.executors.cluster import ClusterExecutor
from dhmd.training.task import CODE, COMMAND, LOG, STATUS, TASK, Task

_MAX_ARRAY = 1000  # tasks per array; Slurm's limit, MaxArraySize, is 1001 by default


class SlurmExecutor(ClusterExecutor):
    """Submits tasks as job arrays and watches them with `squeue`."""

    name = "slurm"

    def __init__(self, compute: ComputeConfig) -> None:
        super().__init__(compute)
        self._handlers: dict[signal.Signals, Any] = {}

    def start(self, tasks: Sequence[Task]) -> None:
        self._cancel_on_signals()
        super().start(tasks)

    def stop(self) -> None:
        super().stop()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}

    def submit(self, tasks: Sequence[Task]) -> list[str]:
        starts = range(0, len(tasks), _MAX_ARRAY)
        return [id_ for start in starts for id_ in self._array(tasks[start : start + _MAX_ARRAY])]

    def _array(self, tasks: Sequence[Task]) -> list[str]:
        slurm, shared = self._compute.slurm, self._compute.shared
        limit = f"%{slurm.array_parallelism}" if slurm.array_parallelism else ""
        output = tasks[0].folder.resolve() if shared else Path("/tmp")
        options = {
            "partition": slurm.partition,
            "account": slurm.account,
            "gpus": slurm.gpus,
            "time": slurm.time,
            "mem": slurm.memory,
            "cpus-per-task": self._compute.threads or 1,
            "array": f"0-{len(tasks) - 1}{limit}",
            "job-name": "dhmd",
            "output": output / "slurm-%A_%a.txt",
            "chdir": None if shared else self._compute.folder,
        }
        arguments = [f"--{key}={value}" for key, value in options.items() if value is not None]
        with tempfile.NamedTemporaryFile("w", suffix=".sh") as script:
            script.write(_script(self._compute, tasks))
            script.flush()
            printed = _call(["sbatch", "--parsable", "--requeue", *arguments, script.name])
        job = printed.strip().partition(";")[0]
        return [f"{job}_{index}" for index in range(len(tasks))]

    def queue(self) -> set[str]:
        lines = _call(["squeue", "--me", "--noheader", "--array", "--format=%i"]).splitlines()
        return {line.strip() for line in lines} - {""}

    def cancel(self, ids: Sequence[str]) -> None:
        subprocess.run(["scancel", *ids], check=False, capture_output=True)

    def _cancel_on_signals(self) -> None:
        """Cancel the jobs on Ctrl-C and SIGTERM, before the previous signal handlers run."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            previous = signal.getsignal(number)
            self._handlers[number] = previous
            signal.signal(number, self._cancel_handler(previous))

    def _cancel_handler(self, previous: Any) -> Callable[[int, FrameType | None], None]:
        def handle(number: int, frame: FrameType | None) -> None:
            ClusterExecutor.stop(self)
            if callable(previous):
                previous(number, frame)
            else:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)

        return handle


def _script(compute: ComputeConfig, tasks: Sequence[Task]) -> str:
    """Return the batch script of an array: each job runs the task of its index."""
    folders = [task.folder.resolve() for task in tasks]
    names = [str(folder) if compute.shared else folder.name for folder in folders]
    code = CODE if compute.shared else compute.folder or CODE
    if compute.shared:
        run = [
            f'{shlex.join(COMMAND)} "$task/{TASK}" > "$task/{LOG}" 2>&1',
            f'echo $? > "$task/{STATUS}"',
        ]
    else:
        run = ['python3 -P -m dhmd.training.executors.exchange "$task"']
    return "\n".join(
        [
            "#!/bin/bash",
            *compute.slurm.setup,
            f"export PYTHONPATH={shlex.quote(code)}${{PYTHONPATH:+:$PYTHONPATH}}",
            f"tasks=({' '.join(map(shlex.quote, names))})",
            "task=${tasks[$SLURM_ARRAY_TASK_ID]}",
            *run,
            "",
        ]
    )


def _call(command: Sequence[str]) -> str:
    """Run a command of Slurm and return its output.

    Raises:
        DhmdError: the command is not installed, or fails.
    """
    try:
        process = subprocess.run(command, check=False, capture_output=True, text=True)
    except OSError as error:
        raise DhmdError(
            f"compute.executor is slurm, but {command[0]} cannot be run here: {first_line(error)}"
        ) from error
    if process.returncode:
        last = process.stderr.strip().rpartition("\n")[2]
        raise DhmdError(f"{command[0]} failed: {last or f'exit status {process.returncode}'}")
    return process.stdout
