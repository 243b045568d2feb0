"""The machine: usable cores and memory, a one-line description, and the end of the parent."""

from __future__ import annotations

import ctypes
import math
import os
import platform
import re
import signal
import sys
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")  # a container's limits
_PR_SET_PDEATHSIG = 1


def usable_cores() -> int:
    """Return the number of cores that this process may use, at least one."""
    on_linux = sys.platform == "linux"
    cores = len(os.sched_getaffinity(0)) if on_linux else os.cpu_count() or 1
    quota, period = [*_read(_CGROUP / "cpu.max").split(), "", ""][:2]
    if quota.isdigit() and period.isdigit():
        cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(1, cores)


def installed_memory() -> int | None:
    """Return the bytes of memory, used or free; None if it is unknown."""
    found = []
    for line in _read(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemTotal:"):
            found.append(int(line.split()[1]) * 1024)
    limit = _read(_CGROUP / "memory.max").strip()
    if limit.isdigit():
        found.append(int(limit))
    return min(found) if found else None


def machine() -> str:
    """Return host, processor, cores and NVIDIA GPUs in one line, without importing torch."""
    cpu = platform.processor() or platform.machine()
    if found := re.search(r"^model name\s*:\s*(.+)$", _read(Path("/proc/cpuinfo")), re.MULTILINE):
        cpu = found[1]
    parts = [platform.node(), f"{os.cpu_count()} × {cpu}"]
    for information in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        if found := re.search(r"^Model:\s*(.+)$", _read(information), re.MULTILINE):
            parts.append(found[1].strip())
    return ", ".join(parts)


def end_with_parent(number: signal.Signals) -> None:
    """Ask the kernel to send this process a signal when its parent ends (Linux only).

    A parent that ended before this call is not noticed: compare `os.getppid()` afterwards.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # another system, or a container without limits
