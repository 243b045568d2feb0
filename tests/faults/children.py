"""Work in a forked child with limited time and memory.

A fork is quick: hundreds of children take seconds, which hundreds of interpreters do not.
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

SUCCESS, REFUSED, TRACEBACK = 0, 1, 86
GIGABYTE = 1 << 30


@dataclass(frozen=True)
class Outcome:
    """How a child ended.

    Attributes:
        status: exit status; negative: the signal that ended it.
        printed: stdout and stderr.
    """

    status: int
    printed: str

    def check(self, what: str) -> str:
        """Return `success` or `refused`; anything else is a bug.

        A refusal is one sentence for a person. It names no lack of memory: that would be a file
        that makes a reader ask for more than there is.
        """
        context = f"{what}: status {self.status}, {self.printed[-3000:]}"
        assert self.status in (SUCCESS, REFUSED), context
        if self.status == SUCCESS:
            return "success"
        lines = self.printed.splitlines()
        assert len(lines) == 1, context
        assert 10 < len(lines[0]) < 1500, context
        assert "MemoryError" not in lines[0], context
        assert "allocate" not in lines[0], context
        assert "Error(" not in lines[0], context
        return "refused"


def in_child(
    work: Callable[[], object],
    *,
    seconds: float = 30.0,
    folder: Path | None = None,
    memory: int = GIGABYTE,
) -> Outcome:
    """Run `work` in a child, with limits on its time and on the memory on top of its parent's."""
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _be_child(work, writing, folder, memory)
    os.close(writing)
    printed = _read_all(reading, child, time.monotonic() + seconds)
    return Outcome(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), printed)


def _be_child(work: Callable[[], object], writing: int, folder: Path | None, memory: int) -> None:
    status = TRACEBACK
    try:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.disable()
        for descriptor in (1, 2):
            os.dup2(writing, descriptor)
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - pytest's stand-ins are not the child's
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if "torch" in sys.modules:
            # A forked child has none of its parent's threads, and would wait for them forever.
            sys.modules["torch"].set_num_threads(1)
        if folder is not None:
            os.chdir(folder)
        found = work()
        status = found if isinstance(found, int) else SUCCESS
    except DhmdError as error:
        print(error, file=sys.stderr)
        status = REFUSED
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _read_all(reading: int, child: int, deadline: float) -> str:
    """Return all that the child prints; kill it at the deadline."""
    printed = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            os.kill(child, signal.SIGKILL)
            printed += b"\n(killed: it took too long)"
            break
        if select.select([reading], [], [], left)[0]:
            data = os.read(reading, 65536)
            if not data:
                break
            printed += data
    os.close(reading)
    return printed.decode(errors="replace").strip()
