"""Work in a forked child with little time and memory, so that nothing takes the test down.

A fork and not a new interpreter: a thousand of them must fit into minutes.
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
    """How a child ended: its exit status (negative: the signal), what it said, MiB it took."""

    status: int
    said: str
    mebibytes: float
    seconds: float

    def check(self, what: str) -> str:
        """`success` or `refused`; anything else is a defect.

        A refusal is one sentence of words that a person reads, and names no lack of memory: that
        would be a file that makes us ask for more than there is.
        """
        told = f"{what}: status {self.status} after {self.seconds:.1f} s, {self.said[-3000:]}"
        assert self.status in (SUCCESS, REFUSED), told
        assert self.mebibytes < 1024, f"{told}: took {self.mebibytes:.0f} MiB"
        if self.status == SUCCESS:
            return "success"
        lines = self.said.splitlines()
        assert len(lines) == 1, told
        assert 10 < len(lines[0]) < 1500, told
        assert "MemoryError" not in lines[0], told
        assert "allocate" not in lines[0], told
        assert "Error(" not in lines[0], told
        return "refused"


def in_child(
    work: Callable[[], object],
    *,
    seconds: float = 30.0,
    folder: Path | None = None,
    memory: int = GIGABYTE,
) -> Outcome:
    """Run `work` in a child that may take so much time and memory on top of what there is."""
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _be_child(work, writing, folder, memory)
    os.close(writing)
    said = _listen(reading, child, began + seconds)
    _, status, usage = os.wait4(child, 0)
    return Outcome(
        os.waitstatus_to_exitcode(status),
        said,
        usage.ru_maxrss / 1024 - _resident(),
        time.monotonic() - began,
    )


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
        limit = _address_space() + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if "torch" in sys.modules:
            # A forked child has none of its parent's threads, and would wait for them for ever.
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


def _listen(reading: int, child: int, deadline: float) -> str:
    """All that the child says; it is killed at the deadline."""
    said = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            os.kill(child, signal.SIGKILL)
            said += b"\n(killed: it took too long)"
            break
        if select.select([reading], [], [], left)[0]:
            data = os.read(reading, 65536)
            if not data:
                break
            said += data
    os.close(reading)
    return said.decode(errors="replace").strip()


def _address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _resident() -> float:
    """MiB of this process, which a child begins with."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / (1 << 20)
