"""Query cores, memory and machine description, and signal this process when its parent exits."""

from __future__ import annotations

import ctypes
import math
import os
import platform
import re
import signal
import sys
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")  # the limits of a container
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
    """Return the total memory in bytes, limited by that of the container; None if unknown."""
    sizes = []
    for line in _read(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemTotal:"):
            sizes.append(int(line.split()[1]) * 1024)
    limit = _read(_CGROUP / "memory.max").strip()
    if limit.isdigit():
        sizes.append(int(limit))
    return min(sizes, default=None)


def describe_machine() -> str:
    """Return host, processor, cores and NVIDIA GPUs in one line, without importing torch."""
    cpu = platform.processor() or platform.machine()
    if match := re.search(r"^model name\s*:\s*(.+)$", _read(Path("/proc/cpuinfo")), re.MULTILINE):
        cpu = match[1]
    devices = [platform.node(), f"{os.cpu_count()} × {cpu}"]
    for information in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        if match := re.search(r"^Model:\s*(.+)$", _read(information), re.MULTILINE):
            devices.append(match[1].strip())
    return ", ".join(devices)


def end_with_parent(signal_number: signal.Signals) -> None:
    """Make the kernel send this process a signal when its parent ends (Linux only).

    If the parent may have ended before this call, check `os.getppid()` afterwards.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal_number)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # not Linux, or a container without limits
