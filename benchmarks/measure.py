"""Measuring by turns, and what comes of it: ratios with their spread, a table, JSON."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"


@dataclass(frozen=True)
class Time:
    """Seconds on the clock, and of this process's CPU: the second is steadier on a busy machine."""

    wall: float
    cpu: float

    @classmethod
    def since(cls, start: Time | None = None) -> Time:
        """Now, or what passed since `start`."""
        wall, cpu = time.perf_counter(), time.process_time()
        return cls(wall, cpu) if start is None else cls(wall - start.wall, cpu - start.cpu)

    @classmethod
    def of(cls, work: Callable[[], object]) -> Time:
        """How long one call takes."""
        start = cls.since()
        work()
        return cls.since(start)


@dataclass(frozen=True)
class Spread:
    """The middle of n values and their quartiles."""

    n: int
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Quartiles by linear interpolation; of one value all three are it."""
        if len(values) == 1:
            return cls(1, values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(len(values), median, low, high)

    def __str__(self) -> str:
        if self.n == 1:
            return f"{rounded(self.median)} (n=1)"
        spread = f"{rounded(self.low)} to {rounded(self.high)}"
        return f"{rounded(self.median)} ({spread}, n={self.n})"


def rounded(value: float) -> str:
    """Three digits."""
    if value == 0 or not math.isfinite(value):
        return str(value)
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def by_turns(sides: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[Time]]:
    """Each side once to warm up, then `repeats` rounds in which each has its turn.

    What slows the machine down for a while slows all sides; every second round goes backwards.
    """
    for work in sides.values():
        work()
    times: dict[str, list[Time]] = {name: [] for name in sides}
    for index in range(repeats):
        for name in list(sides)[:: 1 if index % 2 == 0 else -1]:
            times[name].append(Time.of(sides[name]))
    return times


def ratio(rival: Sequence[Time], own: Sequence[Time], work: float = 1.0) -> Spread:
    """How many times faster: `work` units of ours against one of the rival's, round by round."""
    pairs = zip(rival, own, strict=True)
    return Spread.of([work * theirs.wall / ours.wall for theirs, ours in pairs])


def row(
    name: str, spread: Spread | None, *, target: float | None = None, **more: Any
) -> dict[str, Any]:
    """A line of a result: `ratio` is what regressions are judged by, higher is better."""
    content: dict[str, Any] = {"name": name}
    if spread is not None:
        content |= {"ratio": asdict(spread)}
    if target is not None:
        content |= {"target": target}
    return content | more


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def machine(device: str | None = None) -> dict[str, Any]:
    """What a result depends on besides the code; torch is asked only where it is loaded."""
    found: dict[str, Any] = {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "python": platform.python_version(),
    }
    if (torch := sys.modules.get("torch")) is not None:
        found |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
    if device is not None:
        found["device"] = device
    return found


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def markdown(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table that a terminal and a page show alike."""
    lines = [list(header), ["---"] * len(header), *map(list, body)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write(path: Path, benchmark: str, content: Mapping[str, Any]) -> None:
    """The result as JSON; floats to four digits, so that a refreshed file's diff can be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"benchmark": benchmark, **_short(content)}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")
    print(f"\nwritten to {path}")


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, Mapping):
        return {key: _short(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_short(item) for item in value]
    return value
