"""From a journal's events to a tracking store's runs.

Everything here may be done twice with the same result: runs are looked up by the journal's key
before they are created, and a metric with the same step and time replaces itself. So an upload
that broke off anywhere starts again from the first line.

A stage's training is one parent run, with a child a member. The parent shows the mean over the
members that still train (where they are seeds of one model) and how many they are. A training
that continues a killed one goes on in that one's runs.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from dhmd.base.errors import DhmdError
from dhmd.base.hashing import json_sha256
from dhmd.tracking.journal import Event, read_events
from dhmd.tracking.naming import metric_name, run_name, split_member

METRICS_PER_CALL = 1000  # what MLflow admits
PARENT = ""  # the parent's name among a training's runs
Runs = dict[str, str]  # member, or PARENT -> run id


class MetricPoint(NamedTuple):
    """One value of one metric."""

    name: str
    value: float
    time: int  # ms since 1970
    step: int


class Store(Protocol):
    """What a replay needs of a tracking store. Every method may raise StoreError."""

    def find(self, tags: Mapping[str, str], status: str | None = None) -> list[Runs]:
        """The trainings whose parent run has these tags and this status, newest first."""

    def create(self, name: str, tags: Mapping[str, str], time: int, parent: str | None) -> str:
        """A new running run; its id."""

    def log(self, run: str, points: Sequence[MetricPoint]) -> None:
        """Add at most METRICS_PER_CALL values."""

    def describe(self, run: str, parameters: Mapping[str, str], tags: Mapping[str, str]) -> None:
        """Set parameters (those the run has not got yet) and tags."""

    def set_status(self, run: str, status: str, time: int) -> None:
        """RUNNING, FINISHED, FAILED or KILLED."""


class StoreError(DhmdError):
    """The tracking store cannot be reached or refuses; the sentence carries no credentials."""


class Replay:
    """Feeds one journal's events to a store. `feed` may be called again with what it raised on."""

    def __init__(self, store: Store, tell: Callable[[str], None]) -> None:
        self._store = store
        self._tell = tell
        self._header: Event = {}
        self._runs: Runs = {}
        self._group: list[str] = []  # the members of the training in progress
        self._pending: dict[str, list[MetricPoint]] = {}
        self._last = (0, 0)  # time and epoch of the last event
        self._ended = False

    def feed(self, event: Event) -> None:
        """Take one event in. Metrics wait for `flush`."""
        if event["event"] == "open":
            self._header = event
        elif event["event"] == "started":
            self._started(event)
        elif event["event"] == "epoch":
            self._epoch(event)
        elif event["event"] == "finished":
            self._finished(event["time"])
        elif event["event"] == "test":
            self._test(event)
        elif event["event"] == "ended":
            self.end(event["status"], event["tags"], event["time"])
        epoch = event.get("epoch", self._last[1])
        self._last = (event["time"], epoch)

    def flush(self) -> None:
        """Send the metrics that wait; what cannot be sent goes on waiting."""
        for run, points in self._pending.items():
            while points:
                self._store.log(run, points[:METRICS_PER_CALL])
                del points[:METRICS_PER_CALL]

    def end(self, status: str, tags: Mapping[str, str], time: int | None = None) -> None:
        """Close the runs that are open, unless the journal itself did; `time` None: the last."""
        if self._ended or not self._runs:
            return
        self.flush()
        time = self._last[0] if time is None else time
        if status == "KILLED":
            tags = {**tags, "ended": f"killed after epoch {self._last[1]}"}
        self._store.describe(self._runs[PARENT], {}, tags)
        for member in (*self._group, PARENT):
            self._store.set_status(self._runs[member], status, time)
        self._ended = True

    def _finished(self, time: int) -> None:
        self.flush()
        for member in self._group:
            self._store.set_status(self._runs[member], "FINISHED", time)
        self._group = []

    def _started(self, event: Event) -> None:
        header, time, members = self._header, event["time"], event["members"]
        tags = {**header["tags"], **self._what(), "dhmd.key": header["key"]}
        self._runs |= self._mine()
        if not self._runs and event["resumed_epoch"] > 0:
            self._runs |= self._continued(event, tags)
        if PARENT not in self._runs:
            own = {"dhmd.role": "parent"}
            self._runs[PARENT] = self._store.create(run_name(header), tags | own, time, None)
        # One tag a training: a stage may have several, and any of them may be continued.
        known = {_settings_tag(self._what(), event): "yes"}
        self._store.describe(self._runs[PARENT], event["parameters"], known)
        for place, member in enumerate(members):
            variant, seed = split_member(member)
            if member not in self._runs:
                own = {"dhmd.role": "member", "member": member, "seed": seed}
                own |= {"variant": variant} if variant else {}
                # The UI shows the youngest first: a millisecond a run puts the seeds in order.
                parent = self._runs[PARENT]
                self._runs[member] = self._store.create(member, tags | own, time - place, parent)
            # A variant is an overlay over the parameters: the parent's would mislead on its run.
            parameters = {"variant": variant} if variant else event["parameters"]
            self._store.describe(self._runs[member], {**parameters, "seed": seed}, {})
        self._group = list(members)
        self._last = (time, event["resumed_epoch"])

    def _what(self) -> dict[str, str]:
        return {"stage": self._header["stage"], "dataset": self._header["dataset"]}

    def _mine(self) -> Runs:
        found = self._store.find({"dhmd.key": self._header["key"]})
        return found[0] if found else {}

    def _continued(self, event: Event, tags: Mapping[str, str]) -> Runs:
        """The runs of the latest training with these settings that did not get to its end."""
        tag = {_settings_tag(self._what(), event): "yes"}
        found = self._store.find(tag, "KILLED") or self._store.find(tag, "FAILED") or [{}]
        resumed = {"resumed_after_epoch": str(event["resumed_epoch"]), "ended": ""}
        for member, run in found[0].items():
            self._store.describe(run, {}, {**tags, **(resumed if member == PARENT else {})})
            if member == PARENT or member in event["members"]:
                self._store.set_status(run, "RUNNING", event["time"])
        return found[0]

    def _epoch(self, event: Event) -> None:
        time, epoch = event["time"], event["epoch"]
        rows: Mapping[str, Mapping[str, float]] = event["rows"]
        parts: dict[str, list[Mapping[str, float]]] = {}
        for member, row in rows.items():
            if member in self._runs:
                self._add(member, "", row, time, epoch)
                prefix = None if split_member(member)[0] else ""
            else:  # `text/seed-1`: the part `text` of the training of seed-1
                part, _, name = member.rpartition("/")
                if not part or name not in self._runs:
                    continue
                prefix = f"{part}/"
                self._add(name, prefix, row, time, epoch)
            if prefix is not None:  # a mean over different variants would mean nothing
                parts.setdefault(prefix, []).append(row)
        seconds = (time - self._last[0]) / 1000
        for prefix, members in parts.items():
            run = {"run/live_members": float(len(members)), "run/epoch_seconds": seconds}
            self._add(PARENT, prefix, _means(members) | run, time, epoch)

    def _add(
        self, member: str, prefix: str, row: Mapping[str, float], time: int, epoch: int
    ) -> None:
        if member in self._runs:
            points = self._pending.setdefault(self._runs[member], [])
            points += [
                MetricPoint(metric_name(prefix + name), row[name], time, epoch) for name in row
            ]

    def _test(self, event: Event) -> None:
        found = self._store.find(
            {**self._what(), "stage": event["stage"], "output_md5": event["md5"]}
        )
        if not found:
            self._tell(
                f"the test metrics of {event['stage']} {self._header['dataset']} belong to no run "
                "of this tracking store: it was trained elsewhere or with tracking off"
            )
        rows: Mapping[str, Mapping[str, float]] = event["rows"]
        variants: dict[str, list[Mapping[str, float]]] = {}
        for member, row in rows.items():
            variants.setdefault(split_member(member)[0], []).append(row)
        for runs in found:
            for member, row in rows.items():
                self._send(runs.get(member), "test/", row, event["time"])
            for variant, members in variants.items():
                prefix = f"{variant}/test/" if variant else "test/"
                summary = _means(members) | _deviations(members)
                self._send(runs.get(PARENT), prefix, summary, event["time"])

    def _send(self, run: str | None, prefix: str, row: Mapping[str, float], time: int) -> None:
        if run is not None:
            points = [MetricPoint(metric_name(prefix + name), row[name], time, 0) for name in row]
            self._store.log(run, points[:METRICS_PER_CALL])


def _settings_tag(what: Mapping[str, str], event: Event) -> str:
    """Equal for a training and its continuation after a kill, and for nothing else."""
    return f"dhmd.settings_{json_sha256([what, event['parameters'], event['members']])[:16]}"


def _columns(rows: Iterable[Mapping[str, float]]) -> dict[str, list[float]]:
    columns: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    return columns


def _means(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """A NaN among the values makes the mean NaN: an undefined metric is not averaged over."""
    return {name: sum(values) / len(values) for name, values in _columns(rows).items()}


def _deviations(rows: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Sample standard deviations, where there are two finite values or more."""
    return {
        f"{name}_std": statistics.stdev(values)
        for name, values in _columns(rows).items()
        if len(values) > 1 and all(map(math.isfinite, values))
    }


def replay_file(store: Store, path: Path, tell: Callable[[str], None]) -> str:
    """Upload a journal whose writer is gone; what it is called and how it ended.

    Raises:
        StoreError: the store; everything can be tried again.
        DhmdError: the journal is damaged.
    """
    events, _ = read_events(path)
    replay = Replay(store, tell)
    for event in events:
        replay.feed(event)
    replay.end("KILLED", {})
    if not events:
        return path.name
    last = events[-1]
    return f"{run_name(events[0])} ({last['status'] if last['event'] == 'ended' else 'KILLED'})"
