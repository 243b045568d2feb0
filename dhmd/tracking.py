"""Experiment tracking with MLflow: one run per training, with one child run per seed.

Tracking is best effort. A training writes its history and description in any case, so a failure
here is one warning, and `dhmd track` records finished outputs later. Live curves come from a thread
beside the training, which imports MLflow and sends metrics a few times per minute. This is the only
module that imports mlflow, and it does so in functions.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import re
import sqlite3
import statistics
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from dhmd.base.addresses import shown_address, without_credentials
from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import try_lock
from dhmd.base.machine import machine
from dhmd.base.text import read_csv
from dhmd.training.observer import Observer, TrainingInfo
from dhmd.vcs import Workspace, code_version
from dhmd.vcs.lock import lock_entries, outputs_md5

log = logging.getLogger(__name__)

OUTPUTS = {"pretrain": "pretrained", "train": "models", "ablate": "ablations"}
LONGEST_WAIT = 60.0  # seconds that a stage waits for the store after its work
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # A server that is unavailable must fail at once.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
_PARENT = ""  # its name among the members of a training
Epoch = tuple[int, Mapping[str, Mapping[str, float]], int]  # epoch, member -> metric -> value, ms
Runs = dict[str, str]  # member -> run id


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Section `tracking` of params.yaml. No stage depends on it: it changes no result.

    Attributes:
        enabled: record runs in MLflow; false needs no mlflow installed.
        uri: the tracking store; null means the environment's MLFLOW_TRACKING_URI, and without that
            sqlite:///mlflow.db at the repository's root.
        experiment: the MLflow experiment's name.
    """

    enabled: bool = True
    uri: str | None = None
    experiment: str = "dhmd"


@contextmanager
def tracked(
    config: TrackingConfig, *, root: Path, stage: str, dataset: str, output: Path, lock: Path
) -> Iterator[Observer]:
    """Yield an observer that records one stage's training; no failure of MLflow is raised.

    Args:
        root: the user's repository, where the default database is.
        stage: pretrain, train or ablate.
        output: the stage's output, complete at the end of the block.
        lock: the lock file that the running stage holds.
    """
    if not config.enabled:
        yield Observer()
        return
    observer = _LiveObserver(config, root, stage, dataset, lock.resolve())
    try:
        yield observer
    except BaseException:
        observer.end(None)
        raise
    observer.end(output)


def record_results(config: TrackingConfig, *, root: Path, dataset: str) -> None:
    """Add the scores and the report of a dataset to its runs; a failure is one warning."""
    if config.enabled:
        try:
            track(config, root, [dataset], folder=Path.cwd())
        except DhmdError as error:
            _warn(str(error))


def track(
    config: TrackingConfig, root: Path, datasets: Iterable[str], folder: Path | None = None
) -> list[str]:
    """Record outputs that have no run, add new scores and reports, end the runs of killed stages.

    The outputs are in `folder`: the repository `root`, or DVC's copy of it.

    Returns:
        One sentence for each change.

    Raises:
        DhmdError: the store cannot be used.
    """
    try:
        store = _Store(config, root)
        store.end_killed()
        return _record(store, folder or root, datasets)
    except DhmdError:
        raise
    except Exception as error:
        raise DhmdError(_sentence(config, root, error)) from error


def store_uri(config: TrackingConfig, root: Path) -> tuple[str, Path | None]:
    """Return the URI of the tracking store, and its file if it is a SQLite database.

    `tracking.uri` wins over MLFLOW_TRACKING_URI, which wins over mlflow.db at the root. A relative
    SQLite path is relative to `root`, not to the working folder.
    """
    uri = config.uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    path = uri.removeprefix("sqlite:///").partition("?")[0]
    if path in (uri, "", ":memory:"):
        return uri, None
    database = Path(os.path.normpath(root / path))
    return f"sqlite:///{database}", database


def flatten(value: object, prefix: str = "") -> dict[str, str]:
    """Return nested mappings and dataclasses as dotted names with text values."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        flat: dict[str, str] = {}
        for name, item in value.items():
            flat |= flatten(item, f"{prefix}.{name}" if prefix else str(name))
        return flat
    if isinstance(value, list | tuple):
        return {prefix: ", ".join(flatten(item)[""] for item in value)}
    return {prefix: json.dumps(value) if value is None or isinstance(value, bool) else str(value)}


class _Store:
    """One MLflow experiment."""

    def __init__(self, config: TrackingConfig, root: Path) -> None:
        """Connect, creating a missing database and experiment; imports mlflow."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        for library in ("mlflow", "alembic"):
            logging.getLogger(library).setLevel(logging.ERROR)
        uri, database = store_uri(config, root)
        artefacts = None if database is None else (database.parent / "mlruns").as_uri()
        if database is not None:
            database.parent.mkdir(parents=True, exist_ok=True)
        # Two processes that create the tables at once break each other's migration.
        with nullcontext() if database is None else FileLock(f"{database}.lock", timeout=60):
            if database is not None:
                _prepare(database)
            self.client = MlflowClient(uri)
            found = self.client.get_experiment_by_name(config.experiment)
            self._experiment = (
                self.client.create_experiment(config.experiment, artefacts)
                if found is None
                else found.experiment_id
            )

    def search(self, condition: str) -> list[Any]:
        """Return the runs that meet a condition in MLflow's syntax."""
        return list(self.client.search_runs([self._experiment], condition, max_results=10_000))

    def end_killed(self, own_lock: Path | None = None) -> None:
        """Mark as KILLED the runs of this machine whose stage has released its lock.

        `own_lock` is the lock of the stage in this process, which has no run yet.
        """
        host = platform.node()
        for run in self.search(f"attributes.status = 'RUNNING' and tags.host = '{host}'"):
            lock = Path(run.data.tags.get("lock", ""))
            killed = lock == own_lock or not lock.parent.is_dir()
            if not killed and (free := try_lock(lock)):
                free.release()
                killed = True
            if killed:
                self.client.set_terminated(run.info.run_id, status="KILLED")

    def start(
        self, tags: Mapping[str, str], members: Iterable[str], params: Mapping[str, str]
    ) -> Runs:
        """Start the run of a training and those of its members, `seed-1` or `variant/seed-1`."""
        now = time.strftime("%Y-%m-%d %H:%M")
        words = (f"{tags['stage']} {tags['dataset']}", tags.get("DVC_EXP_NAME"), now)
        title = " · ".join(word for word in words if word)
        runs = {_PARENT: self._start(title, {**tags, "role": "parent"}, params)}
        for member in members:
            variant, _, seed = member.rpartition("/")
            own = {"role": "member", "member": member, "mlflow.parentRunId": runs[_PARENT]}
            # A variant changes some of the parent's parameters.
            changed = {"variant": variant} if variant else params
            seed = seed.removeprefix("seed-")
            runs[member] = self._start(member, {**tags, **own}, {**changed, "seed": seed})
        return runs

    def _start(self, name: str, tags: Mapping[str, str], params: Mapping[str, str]) -> str:
        from mlflow.entities import Param

        run = self.client.create_run(self._experiment, run_name=name, tags=dict(tags))
        items = [Param(key[:250], value[:6000]) for key, value in params.items()]
        for first in range(0, len(items), 100):
            self.client.log_batch(run.info.run_id, params=items[first : first + 100])
        return str(run.info.run_id)

    def send(self, runs: Runs, epochs: Iterable[Epoch], *, spread: bool = False) -> None:
        """Send values of the members, and their mean (and standard deviation) for the parent.

        `text/seed-1` is the part `text` of the training of the member `seed-1`. Final scores have
        the epoch 0.
        """
        from mlflow.entities import Metric

        pending: dict[str, list[Any]] = {}

        def add(run: str, name: str, value: float, epoch: int, time_ms: int) -> None:
            name = re.sub(r"[^\w./: -]", "_", name, flags=re.ASCII)[:250]
            pending.setdefault(run, []).append(Metric(name, value, time_ms, epoch))

        for epoch, rows, time_ms in epochs:
            columns: dict[str, list[float]] = {}
            for member, row in rows.items():
                group, _, seed = member.rpartition("/")
                for metric, value in row.items():
                    long = f"{group}/{metric}" if group else metric
                    if member in runs:
                        add(runs[member], metric, value, epoch, time_ms)
                    elif seed in runs:
                        add(runs[seed], long, value, epoch, time_ms)
                    columns.setdefault(long, []).append(value)
            for name, values in columns.items():
                add(runs[_PARENT], name, sum(values) / len(values), epoch, time_ms)
                if spread and len(values) > 1:
                    deviation = statistics.stdev(values)
                    add(runs[_PARENT], f"{name}_std", deviation, epoch, time_ms)
        for run, metrics in pending.items():
            for first in range(0, len(metrics), 1000):
                self.client.log_batch(run, metrics=metrics[first : first + 1000])

    def finish(self, runs: Runs, output: Path, path: str) -> None:
        """End the runs of a training and tag them with the hash of its output."""
        self.client.set_tag(runs[_PARENT], "output_path", path)
        self.client.set_tag(runs[_PARENT], "output_md5", outputs_md5(output) or "")
        for description in sorted(output.rglob("model.json")):
            variant = _variant(output, description)
            self.client.log_artifact(runs[_PARENT], str(description), variant or None)
        self.end(runs, "FINISHED")

    def end(self, runs: Runs, status: str) -> None:
        """End the runs of the members, then that of the training."""
        for run in reversed(runs.values()):
            self.client.set_terminated(run, status=status)


def _prepare(database: Path) -> None:
    """Create a missing database, whole or not at all, and check that it can be written."""
    from mlflow import MlflowClient

    if not (database.exists() and database.stat().st_size):
        new = database.with_name(f"{database.name}.new")
        new.unlink(missing_ok=True)
        MlflowClient(f"sqlite:///{new}").search_experiments()
        os.replace(new, database)
    # MLflow retries for minutes if it cannot open or lock the file.
    with closing(sqlite3.connect(database, timeout=10)) as connection:
        connection.execute("BEGIN IMMEDIATE")


class _LiveObserver(threading.Thread, Observer):
    """Send metrics during a training, with at most 5 % of one core."""

    def __init__(
        self, config: TrackingConfig, root: Path, stage: str, dataset: str, lock: Path
    ) -> None:
        super().__init__(name="tracking", daemon=True)
        self._store_of, self._lock = (config, root), lock
        names = ("DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "DVC_STAGE")
        self._tags = {name: os.environ[name] for name in names if os.environ.get(name)}
        self._tags |= {"stage": stage, "dataset": dataset, "lock": str(lock)}
        self._tags |= {"host": platform.node(), "machine": machine()}
        head, changed = code_version(Path.cwd())
        if head is not None:
            # MLflow shows this tag in its column "Version".
            self._tags |= {"mlflow.source.git.commit": head, "uncommitted_changes": str(changed)}
        self._epochs: deque[Epoch] = deque()
        self._ending = threading.Event()
        self._output: Path | None = None

    def started(self, training: TrainingInfo) -> None:
        self._training = training
        # Not earlier: the training has imported its libraries by now.
        self.start()

    def epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        copies = {member: dict(row) for member, row in rows.items()}
        self._epochs.append((epoch, copies, _now_ms()))

    def end(self, output: Path | None) -> None:
        """Send the rest and wait for that; `output` None: the training failed."""
        if self.ident is None:
            return
        self._output = output
        self._ending.set()
        self.join(LONGEST_WAIT)
        if self.is_alive():
            _warn(f"no answer from the store within {LONGEST_WAIT:.0f} s")

    def run(self) -> None:
        try:
            self._send_all()
        except Exception as error:  # no error of MLflow may end the training
            _warn(_sentence(*self._store_of, error))

    def _send_all(self) -> None:
        store = _Store(*self._store_of)
        store.end_killed(self._lock)
        runs = store.start(self._tags, self._training.members, flatten(self._training.parameters))
        rest, ending = 5.0, False
        while not ending:
            ending = self._ending.wait(rest)
            began = time.monotonic()
            store.send(runs, [self._epochs.popleft() for _ in range(len(self._epochs))])
            rest = max(5.0, 20 * (time.monotonic() - began))
        if self._output is None:
            store.end(runs, "FAILED")
            return
        # The epochs before a process that was killed.
        history = _history(self._output)
        store.send(runs, [epoch for epoch in history if epoch[0] <= self._training.resumed_epoch])
        store.finish(runs, self._output, self._output.as_posix())


def _record(store: _Store, folder: Path, datasets: Iterable[str]) -> list[str]:
    """Record the outputs in `folder` that have no run with their md5 in the tag `output_md5`."""
    entries = lock_entries(Workspace(folder))
    messages = []
    for dataset in datasets:
        evaluate = entries.get(f"evaluate@{dataset}", {"deps": []})
        evaluated = {file["path"]: file.get("md5") for file in evaluate["deps"]}
        for stage, name in OUTPUTS.items():
            path = f"{name}/{dataset}"
            md5 = outputs_md5(folder / path)
            if md5 is None:
                continue
            condition = f"tags.output_md5 = '{md5}' and tags.role = 'parent'"
            found = store.search(condition)
            if not found:
                history = _history(folder / path)
                members = dict.fromkeys(member for _, rows, _ in history for member in rows)
                params: Mapping[str, str] = {}
                for description in sorted((folder / path).rglob("model.json"))[:1]:
                    text = description.read_text(encoding="utf-8")
                    params = flatten(json.loads(text).get("configuration", {}))
                runs = store.start({"stage": stage, "dataset": dataset}, members, params)
                store.send(runs, history)
                store.finish(runs, folder / path, path)
                messages.append(f"recorded {path}")
                found = store.search(condition)
            if evaluated.get(path) == md5:
                for run in found:
                    if _record_scores(store, run, stage, folder, dataset):
                        messages.append(f"added the scores of {path} to {run.info.run_name}")
    return messages


def _record_scores(store: _Store, run: Any, stage: str, folder: Path, dataset: str) -> bool:
    """Add test scores, best validation scores and report to a run; False if it has them."""
    file = {"train": "seeds.csv", "ablate": "ablations.csv"}.get(stage)
    metrics, report = folder / "metrics" / dataset, folder / "reports" / dataset / "index.html"
    version = f"{outputs_md5(metrics)} {outputs_md5(report)}"
    if file is None or run.data.tags.get("results") == version:
        return False
    parent = run.info.run_id
    children = store.search(f"tags.`mlflow.parentRunId` = '{parent}'")
    runs = {child.data.tags["member"]: child.info.run_id for child in children}
    rows: dict[str, dict[str, float]] = {}
    for path in metrics.rglob(file):
        for row in read_csv(path).values():
            variant, split = row.pop("variant", ""), row.pop("split")
            member = f"{variant}/seed-{row.pop('seed')}".removeprefix("/")
            prefix = "test" if split == "test" else f"best_{split}"
            scores = {f"{prefix}/{name}": float(value) for name, value in row.items() if value}
            rows.setdefault(member, {}).update(scores)
    store.send({_PARENT: parent, **runs}, [(0, rows, _now_ms())], spread=True)
    if report.is_file():
        store.client.log_artifact(parent, str(report))
    store.client.set_tag(parent, "results", version)
    return True


def _history(output: Path) -> list[Epoch]:
    """Return the epochs in the history.csv of an output and of its variants' folders."""
    epochs: dict[int, dict[str, dict[str, float]]] = {}
    for path in sorted(output.rglob("history.csv")):
        for row in read_csv(path).values():
            member = f"{_variant(output, path)}/seed-{row['seed']}".removeprefix("/")
            values = epochs.setdefault(int(row["epoch"]), {}).setdefault(member, {})
            values[row["name"]] = float(row["value"])
    return [(epoch, rows, _now_ms()) for epoch, rows in sorted(epochs.items())]


def _variant(output: Path, file: Path) -> str:
    """Return a file's folder in the output of `ablate`, which is named as its variant."""
    return file.parent.relative_to(output).as_posix().removeprefix(".")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _warn(sentence: str) -> None:
    log.warning(
        "tracking: %s; the results are not affected, and `dhmd track` records them later.", sentence
    )


def _sentence(config: TrackingConfig, root: Path, error: Exception) -> str:
    """Return the store and what is wrong with it, without credentials."""
    message = without_credentials(first_line(error)).rstrip(".")
    if isinstance(error, ModuleNotFoundError) and error.name == "mlflow":
        message = "mlflow is not installed: install it, or set tracking.enabled to false"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno and cause.strerror:
            message = cause.strerror  # the reason below an HTTP library's long message
        cause = cause.__cause__ or cause.__context__
    return f"{shown_address(store_uri(config, root)[0])}: {message}"
