"""Run tasks on a Ray cluster, or on a Ray instance of this machine.

Ray runs `python -m dhmd.training.run_task TASK.json` on free CPUs and GPUs; it transfers no
objects. The tasks end when this process ends.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Sequence
from typing import Any

from dhmd.base.errors import DhmdError, first_line
from dhmd.training.compute import ComputeConfig
from dhmd.training.executors.cluster import ClusterExecutor
from dhmd.training.task import CODE, COMMAND, LOG, STATUS, TASK, Task


class RayExecutor(ClusterExecutor):
    """Submits tasks to Ray."""

    name = "ray"

    def __init__(self, compute: ComputeConfig) -> None:
        """Connect to Ray.

        Raises:
            DhmdError: Ray is not installed, or the address does not answer.
        """
        super().__init__(compute, poll=0.5)
        try:
            import ray
        except ImportError as error:
            raise DhmdError(
                "compute.executor is ray, but Ray is not installed here: run "
                "`pip install 'dhmd[ray]'`"
            ) from error
        self._ray: Any = ray
        self._refs: dict[str, Any] = {}
        self._ids = itertools.count()
        address = compute.ray.address
        try:
            ray.init(
                address=address or "local",
                log_to_driver=False,
                logging_level=logging.ERROR,
                **({} if address else {"include_dashboard": False}),
            )
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise DhmdError(
                f"compute.ray.address is {address or 'empty'}, but Ray does not answer: "
                f"{first_line(error)}"
            ) from error

    def submit(self, tasks: Sequence[Task]) -> list[str]:
        compute = self._compute
        options = {
            "num_cpus": compute.threads or 1,
            "num_gpus": compute.ray.gpus or 0,
            "max_retries": 0,  # ClusterExecutor retries, and counts only runs without a new epoch
        }
        start = self._ray.remote(**options)(_starter())
        if compute.shared:
            code, command = CODE, [*COMMAND]
        else:
            code = compute.folder or os.getcwd()
            command = ["python3", "-P", "-m", "dhmd.training.executors.exchange"]
        ids = []
        for task in tasks:
            folder = task.folder.resolve()
            id_ = f"{os.getpid()}-{next(self._ids)}"
            if compute.shared:
                arguments = [*command, str(folder / TASK)]
                files = [str(folder / LOG), str(folder / STATUS)]
            else:
                arguments, files = [*command, folder.name], []
            self._refs[id_] = start.remote(arguments, code, files)
            ids.append(id_)
        return ids

    def queue(self) -> set[str]:
        by_ref = {ref: id_ for id_, ref in self._refs.items()}
        waiting: list[Any] = []
        if by_ref:
            _, waiting = self._ray.wait(list(by_ref), num_returns=len(by_ref), timeout=0)
        return {by_ref[ref] for ref in waiting}

    def cancel(self, ids: Sequence[str]) -> None:
        for id_ in ids:
            self._ray.cancel(self._refs[id_], force=True)

    def stop(self) -> None:
        super().stop()
        self._ray.shutdown()


def _starter() -> Any:
    """Return a function that Ray's workers can run although they cannot import this package."""

    def start(command: list[str], code: str, files: list[str]) -> None:
        import os
        import subprocess

        paths = [code, *filter(None, [os.environ.get("PYTHONPATH")])]
        with open(files[0] if files else os.devnull, "wb") as log:
            process = subprocess.run(
                [*command, "--parent", str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
                cwd=None if files else code,
                check=False,
            )
        if files:
            with open(files[1], "w", encoding="utf-8") as status:
                status.write(str(process.returncode))

    return start
