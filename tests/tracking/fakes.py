"""A tracking store in memory, and the events of small trainings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dhmd.tracking.replay import PARENT, MetricPoint, Runs, StoreError


@dataclass
class FakeRun:
    name: str
    tags: dict[str, str]
    parent: str | None
    parameters: dict[str, str] = field(default_factory=dict)
    points: set[MetricPoint] = field(default_factory=set)
    status: str = "RUNNING"
    ended: int | None = None

    def last(self, name: str) -> float:
        return max((point for point in self.points if point.name == name), key=_order).value


def _order(point: MetricPoint) -> tuple[int, int]:
    return point.step, point.time


class FakeStore:
    """Runs by id; `fail_at` calls that write from now on succeed, then one fails."""

    def __init__(self) -> None:
        self.runs: dict[str, FakeRun] = {}
        self.fail_at: int | None = None
        self.largest = 0

    def _write(self) -> None:
        if self.fail_at is not None:
            self.fail_at -= 1
            if self.fail_at < 0:
                self.fail_at = None
                raise StoreError("the fake store is away")

    def named(self, name: str) -> FakeRun:
        (found,) = [run for run in self.runs.values() if run.name.startswith(name)]
        return found

    def find(self, tags: Mapping[str, str], status: str | None = None) -> list[Runs]:
        found = []
        for key, run in reversed(self.runs.items()):
            if run.parent is not None or not tags.items() <= run.tags.items():
                continue
            if status in (None, run.status):
                children = {
                    child.tags["member"]: child_key
                    for child_key, child in self.runs.items()
                    if child.parent == key
                }
                found.append({**children, PARENT: key})
        return found

    def create(self, name: str, tags: Mapping[str, str], time: int, parent: str | None) -> str:
        self._write()
        key = f"run{len(self.runs)}"
        self.runs[key] = FakeRun(name, dict(tags), parent)
        return key

    def log(self, run: str, points: Sequence[MetricPoint]) -> None:
        self._write()
        self.largest = max(self.largest, len(points))
        self.runs[run].points |= set(points)

    def describe(self, run: str, parameters: Mapping[str, str], tags: Mapping[str, str]) -> None:
        self._write()
        self.runs[run].parameters = {**parameters, **self.runs[run].parameters}
        self.runs[run].tags |= tags

    def set_status(self, run: str, status: str, time: int) -> None:
        self._write()
        self.runs[run].status, self.runs[run].ended = status, time


def training(
    key: str = "k1",
    *,
    members: Sequence[str] = ("seed-1", "seed-2"),
    epochs: Sequence[int] = (1, 2),
    resumed: int = 0,
    end: str | None = "FINISHED",
    stage: str = "train",
    store: str = "sqlite:////x/mlflow.db",
    tags: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """The events of a training whose seed s has train/task s·10 + epoch."""
    events: list[dict[str, Any]] = [
        {"event": "open", "time": 0, "key": key, "stage": stage, "dataset": "demo"}
        | {"store": store, "tags": dict(tags or {})},
        {"event": "started", "time": 1000, "members": list(members)}
        | {"parameters": {"kd.lambda": "0.5"}, "resumed_epoch": resumed},
    ]
    for epoch in epochs:
        rows = {
            member: {"train/task": float(member[-1]) * 10 + epoch, "valid/mae": 1.0}
            for member in members
        }
        events.append({"event": "epoch", "time": 1000 + 500 * epoch, "epoch": epoch, "rows": rows})
    if end is not None:
        events.append({"event": "finished", "time": 9000})
        ended = {"output_path": f"models/{key}", "output_md5": f"md5-{key}.dir"}
        events.append({"event": "ended", "time": 9500, "status": end, "tags": ended})
    return events
