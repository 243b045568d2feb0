"""Timing of alternatives in interleaved rounds; ratios with their spread, tables and JSON."""

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
    """Wall-clock seconds, and CPU seconds of this process, which vary less on a busy machine."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Time:
        """Return the readings of both clocks."""
        return cls(time.perf_counter(), time.process_time())

    def __sub__(self, start: Time) -> Time:
        return Time(self.wall - start.wall, self.cpu - start.cpu)

    @classmethod
    def of(cls, work: Callable[[], object]) -> Time:
        """Time one call."""
        start = cls.now()
        work()
        return cls.now() - start


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of n values."""

    n: int
    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Compute the quartiles by linear interpolation; those of one value are the value."""
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
    """Format with three significant digits."""
    if value == 0 or not math.isfinite(value):
        return str(value)
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def time_interleaved(
    sides: Mapping[str, Callable[[], object]], repeats: int
) -> dict[str, list[Time]]:
    """Run each side once to warm up, then time `repeats` rounds of all sides.

    A slow period of the machine then affects all sides. Every second round has the reverse order.
    """
    for work in sides.values():
        work()
    times: dict[str, list[Time]] = {name: [] for name in sides}
    for index in range(repeats):
        for name in list(sides)[:: 1 if index % 2 == 0 else -1]:
            times[name].append(Time.of(sides[name]))
    return times


def ratio(rival: Sequence[Time], ours: Sequence[Time], work: float = 1.0) -> Spread:
    """Return the speed-up per round, where our side does `work` times the rival's work."""
    return Spread.of([work * r.wall / o.wall for r, o in zip(rival, ours, strict=True)])


def row(
    name: str, spread: Spread | None, *, target: float | None = None, **more: Any
) -> dict[str, Any]:
    """Return a row of a result. `benchmarks.compare` reads its `ratio`; higher is better."""
    content: dict[str, Any] = {"name": name}
    if spread is not None:
        content |= {"ratio": asdict(spread)}
    if target is not None:
        content |= {"target": target}
    return content | more


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def machine(device: str | None = None) -> dict[str, Any]:
    """Describe the machine and its software, with torch if it is imported."""
    content: dict[str, Any] = {
        "cores": len(os.sched_getaffinity(0)),
        "processor": _processor(),
        "python": platform.python_version(),
    }
    if (torch := sys.modules.get("torch")) is not None:
        content |= {"torch": torch.__version__, "threads": torch.get_num_threads()}
    if device is not None:
        content["device"] = device
    return content


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def markdown(header: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table."""
    lines = [list(header), ["---"] * len(header), *map(list, body)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write(path: Path, benchmark: str, content: Mapping[str, Any]) -> None:
    """Write the result as JSON, with floats of four digits for readable diffs."""
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
