"""What this process may use of the machine: cores and memory, a container's limits included."""

from __future__ import annotations

import math
import os
from pathlib import Path

_GROUP = Path("/sys/fs/cgroup")


def usable_cores() -> int:
    """Cores that this process may run on, at least one."""
    cores = len(os.sched_getaffinity(0))
    quota, period = [*_read(_GROUP / "cpu.max").split(), "", ""][:2]
    if quota.isdigit() and period.isdigit():
        cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(1, cores)


def installed_memory() -> int | None:
    """Bytes of memory, whoever uses them at the moment; None where the system does not say."""
    found = []
    for line in _read(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemTotal:"):
            found.append(int(line.split()[1]) * 1024)
    limit = _read(_GROUP / "memory.max").strip()
    if limit.isdigit():
        found.append(int(limit))
    return min(found) if found else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""  # another system, or a container without limits
