"""Stages in forked children of a process that has imported everything, so that they start at once.

A stage alone takes three seconds to import its libraries and less than one to work. What is broken
here hundreds of times is the work; `test_kill.py` says which attempts are new processes and which
are children of this one.

The file is a script too: `python warm.py` in a copy of the repository, with that copy's code. It
reads a line `STAGE OUTPUT` from its standard input, runs the stage in a child as
`python -m stages.STAGE demo` would, with all that it says in the file OUTPUT, and answers with the
child's process id, then with its exit status (negative: the signal that ended it).
"""

from __future__ import annotations

import importlib
import os
import runpy
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.project import Project

MODULES = (
    *("torch", "h5py", "pandas", "scipy.stats", "scipy.special", "safetensors.torch"),
    *(
        "dhmd.data.synthetic",
        "dhmd.data.download",
        "dhmd.data.alignment",
        "dhmd.data.formats",
        "dhmd.ablation.variants",
    ),
    *("dhmd.training.jobs", "dhmd.evaluation.job", "dhmd.report.job", "dhmd.tracking"),
    "stages._entry",
)


def preload() -> None:
    """Import what stages import, without computing anything: no thread may be there yet."""
    for name in MODULES:
        importlib.import_module(name)


class Child:
    """A stage that runs in a child of the warm process; named as `subprocess.Popen` names it."""

    def __init__(self, warm: subprocess.Popen[str], pid: int, output: Path) -> None:
        self._warm = warm
        self._pid = pid
        self._output = output
        self.returncode: int | None = None

    def wait(self, timeout: float) -> int:
        """Its exit status. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            assert self._warm.stdout is not None
            if not select.select([self._warm.stdout], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(str(self._pid), timeout)
            self.returncode = int(self._warm.stdout.readline())
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        # Its parent does not reap it before it is told of the next one: the id is still its own.
        os.kill(self._pid, number)

    def said(self) -> str:
        return self._output.read_text(encoding="utf-8", errors="replace")


class Warm:
    """The warm process of one copy of the repository."""

    def __init__(self, project: Project, process: subprocess.Popen[str]) -> None:
        self._project = project
        self._process = process

    def start(self, stage: str) -> Child:
        """Start a stage; the one before must have ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        output = self._project.folder.parent / f"{self._project.folder.name}-said"
        output.unlink(missing_ok=True)
        self._process.stdin.write(f"{stage} {output}\n")
        self._process.stdin.flush()
        return Child(self._process, int(self._process.stdout.readline()), output)


@contextmanager
def warm(project: Project) -> Iterator[Warm]:
    """A warm process in a project's folder, with the project's code."""
    process = subprocess.Popen(
        [sys.executable, __file__],
        cwd=project.folder,
        env=project.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    try:
        yield Warm(project, process)
    finally:
        process.kill()
        process.communicate()


def _next_stage() -> str:
    """The stage to be, in a child; in the parent this returns only by the process's end."""
    preload()
    for line in sys.stdin:
        stage, _, output = line.rstrip("\n").partition(" ")
        child = os.fork()
        if child == 0:
            _be_new_process(output)
            return stage
        print(child, flush=True)
        # Left as a zombie until the next one is asked for, so that nobody else gets its number.
        found = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        assert found is not None
        print(found.si_status if found.si_code == os.CLD_EXITED else -found.si_status, flush=True)
        _ASKED.append(child)
        _reap()
    sys.exit()


_ASKED: list[int] = []


def _reap() -> None:
    """Reap all children but the last."""
    while len(_ASKED) > 1:
        os.waitpid(_ASKED.pop(0), 0)


def _be_new_process(output: str) -> None:
    import stages._entry

    nothing = os.open(os.devnull, os.O_RDONLY)
    said = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor, wanted in ((nothing, 0), (said, 1), (said, 2)):
        os.dup2(descriptor, wanted)
    os.closerange(3, 64)
    # What stages/__init__.py does in a process of its own.
    stages._entry.PARENT = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.path[0] = str(Path.cwd())
    chosen = _next_stage()
    sys.argv = ["-m", "demo"]
    runpy.run_module(f"stages.{chosen}", run_name="__main__")
