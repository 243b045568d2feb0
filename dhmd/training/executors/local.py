"""Worker processes on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dhmd.base.errors import DhmdError, first_line
from dhmd.training.task import CODE, COMMAND, EXIT_ERROR, LOG, TASK, Task


class LocalExecutor:
    """Worker processes on this machine, each with its share of the tasks.

    They are separate programs instead of children of multiprocessing, so that nothing is inherited
    or pickled and a caller needs no `if __name__ == "__main__"`. They end when this process ends.
    """

    def __init__(self, num_processes: int, gpus: Sequence[str] = ()) -> None:
        """Create the executor; processes take turns at `gpus`, named as in CUDA_VISIBLE_DEVICES."""
        self._processes, self._gpus = num_processes, gpus
        self._shares: dict[subprocess.Popen[bytes], list[Task]] = {}
        self.failures: list[Exception] = []

    def start(self, tasks: Sequence[Task]) -> None:
        shares: list[list[Task]] = [[] for _ in range(self._processes)]
        for task in tasks:  # assign each to the process with the fewest members
            min(shares, key=lambda share: sum(len(t.members) for t in share)).append(task)
        paths = [CODE, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        for index, share in enumerate(shares):
            if self._gpus:
                environment["CUDA_VISIBLE_DEVICES"] = self._gpus[index % len(self._gpus)]
            files = [str(task.folder / TASK) for task in share]
            try:
                with open(share[0].folder / LOG, "wb") as log:
                    process = subprocess.Popen(
                        [*COMMAND, "--parent", str(os.getpid()), *files],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        env=environment,
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

    def stop(self) -> None:
        for process in self._shares:
            process.kill()
            process.wait()

    def _is_alive(self, process: subprocess.Popen[bytes], share: list[Task]) -> bool:
        status = process.poll()
        if status is None:
            return True
        del self._shares[process]
        unfinished = [task for task in share if task.missing]
        if unfinished:
            self.failures.append(_failure(status, unfinished[0], share[0].folder / LOG))
        return False


def _failure(status: int, task: Task, log: Path) -> Exception:
    """Return the error of a worker process that ended before its task was done."""
    text = ""
    with suppress(OSError):
        text = log.read_text(encoding="utf-8", errors="replace").strip()
    last = text.rpartition("\n")[2] or "it printed nothing"
    if status == EXIT_ERROR:
        return DhmdError(last)
    if status < 0:
        cause = "; memory may have run out" if status == -signal.SIGKILL else ""
        return DhmdError(
            f"the worker process that trained {task.label} was ended by "
            f"{signal.Signals(-status).name}{cause}: run the stage again to resume, or set "
            f"compute.workers to 1 (log: {log})"
        )
    return RuntimeError(f"the worker process that trained {task.label} failed:\n{text}")
