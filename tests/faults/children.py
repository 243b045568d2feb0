"""Run a function in a forked child process with limited time and memory.

Forking is fast: hundreds of forks take seconds, hundreds of new interpreters take minutes.
"""

from __future__ import annotations

import faulthandler
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dhmd.base.errors import DhmdError

SUCCESS, ERROR, TRACEBACK = 0, 1, 86
GIGABYTE = 1 << 30


@dataclass(frozen=True)
class Outcome:
    """The result of a child process.

    Attributes:
        status: exit status; if negative, the signal that ended the process.
        printed: its stdout and stderr.
    """

    status: int
    printed: str

    def check(self, what: str) -> str:
        """Return `success` or `refused`; any other outcome is a bug.

        An input is refused in one sentence. The sentence must not be about memory: then a file
        could make its reader allocate more memory than there is.
        """
        context = f"{what}: status {self.status}, {self.printed[-3000:]}"
        assert self.status in (SUCCESS, ERROR), context
        if self.status == SUCCESS:
            return "success"
        lines = self.printed.splitlines()
        assert len(lines) == 1, context
        assert 10 < len(lines[0]) < 1500, context
        assert "MemoryError" not in lines[0], context
        assert "allocate" not in lines[0], context
        assert "Error(" not in lines[0], context
        return "refused"


def run_in_child(
    work: Callable[[], object],
    *,
    seconds: float = 30.0,
    folder: Path | None = None,
    memory: int = GIGABYTE,
) -> Outcome:
    """Run `work` in a child process.

    Args:
        seconds: the time limit.
        folder: the working folder.
        memory: the memory limit in bytes, in addition to what the parent uses.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        _be_child(work, write_end, folder, memory)
    os.close(write_end)
    printed = _read_all(read_end, child, time.monotonic() + seconds)
    return Outcome(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), printed)


def _be_child(work: Callable[[], object], write_end: int, folder: Path | None, memory: int) -> None:
    status = TRACEBACK
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.disable()
        for descriptor in (1, 2):
            os.dup2(write_end, descriptor)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - pytest has replaced the parent's
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if "torch" in sys.modules:
            # A forked child does not have its parent's threads and would wait for them forever.
            sys.modules["torch"].set_num_threads(1)
        if folder is not None:
            os.chdir(folder)
        result = work()
        status = result if isinstance(result, int) else SUCCESS
    except DhmdError as error:
        print(error, file=sys.stderr)
        status = ERROR
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _read_all(read_end: int, child: int, deadline: float) -> str:
    """Return the output of the child; kill it at the deadline."""
    printed = b""
    while True:
        seconds_left = deadline - time.monotonic()
        if seconds_left <= 0:
            os.kill(child, signal.SIGKILL)
            printed += b"\n(killed: it took too long)"
            break
        if select.select([read_end], [], [], seconds_left)[0]:
            data = os.read(read_end, 65536)
            if not data:
                break
            printed += data
    os.close(read_end)
    return printed.decode(errors="replace").strip()
