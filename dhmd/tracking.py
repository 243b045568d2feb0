"""Experiment tracking with MLflow: one run per training, with one child run per seed.

Tracking is best effort: its failures are one warning. A training writes its history and description
in any case, and `dhmd track` records finished outputs later. Live curves come from a thread, which
imports MLflow and sends metrics a few times per minute. No other module imports mlflow.
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
from typing import Any, NamedTuple

from filelock import FileLock

from dhmd.base.addresses import redact_address, redact_credentials
from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import try_lock
from dhmd.base.machine import describe_machine
from dhmd.base.text import read_csv
from dhmd.training.observer import Observer, TrainingInfo
from dhmd.vcs import Workspace, code_version
from dhmd.vcs.lock import lock_entries, outputs_md5

log = logging.getLogger(__name__)

OUTPUTS = {"pretrain": "pretrained", "train": "models", "ablate": "ablations"}
LONGEST_WAIT = 60.0  # seconds that a finished stage waits for the store
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # A server that is unavailable must fail at once.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
_PARENT = ""  # key of the parent run in `Runs`
# The run id of each member (`seed-1` or `variant/seed-1`), and of _PARENT.
Runs = dict[str, str]


class EpochMetrics(NamedTuple):
    """The metrics of one epoch.

    Attributes:
        epoch: the number of the epoch, from 1; 0 for final scores.
        metrics: the values of each member by metric.
        time_ms: when they were recorded, in milliseconds since 1970.
    """

    epoch: int
    metrics: Mapping[str, Mapping[str, float]]
    time_ms: int


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Section `tracking` of params.yaml. No stage depends on it, because it changes no result.

    Attributes:
        enabled: whether to record runs; if false, mlflow need not be installed.
        uri: the tracking store; None means the environment variable MLFLOW_TRACKING_URI, or
            sqlite:///mlflow.db at the repository's root if the variable is not set.
        experiment: the name of the MLflow experiment.
    """

    enabled: bool = True
    uri: str | None = None
    experiment: str = "dhmd"


@contextmanager
def tracked(
    config: TrackingConfig, *, root: Path, stage: str, dataset: str, output: Path, lock: Path
) -> Iterator[Observer]:
    """Yield an observer that records the training of a stage; MLflow's errors are warnings.

    Args:
        config: section `tracking` of params.yaml.
        root: the user's repository, where the default database is.
        stage: pretrain, train or ablate.
        dataset: the dataset of the stage.
        output: the output folder of the stage, complete at the end of the block.
        lock: the lock file that the stage holds while it runs.
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
    """Add the scores and the report of a dataset to its runs; an error is one warning."""
    if config.enabled:
        try:
            track(config, root, [dataset], folder=Path.cwd())
        except DhmdError as error:
            _warn(str(error))


def track(
    config: TrackingConfig, root: Path, datasets: Iterable[str], folder: Path | None = None
) -> list[str]:
    """Record outputs without a run, add new scores and reports, and end the runs of killed stages.

    Args:
        config: section `tracking` of params.yaml.
        root: the user's repository, where the default database is.
        datasets: the datasets to record.
        folder: the folder of the outputs, if it is not `root`: DVC's copy of the repository.

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
    """Return the URI of the tracking store (see `TrackingConfig.uri`), and its SQLite file if any.

    A relative SQLite path is relative to `root`, not to the working folder.
    """
    uri = config.uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    path = uri.removeprefix("sqlite:///").partition("?")[0]
    if path in (uri, "", ":memory:"):
        return uri, None
    database = Path(os.path.normpath(root / path))
    return f"sqlite:///{database}", database


def flatten(value: object, prefix: str = "") -> dict[str, str]:
    """Flatten nested mappings and dataclasses to a dict from dotted names to values as text."""
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
    """An MLflow experiment in the tracking store."""

    def __init__(self, config: TrackingConfig, root: Path) -> None:
        """Connect, creating a missing database and experiment; imports mlflow."""
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        for library in ("mlflow", "alembic"):
            logging.getLogger(library).setLevel(logging.ERROR)
        uri, database = store_uri(config, root)
        artefacts = None if database is None else (database.parent / "mlruns").as_uri()
        with nullcontext() if database is None else _usable_database(database):
            self.client = MlflowClient(uri)
            experiment = self.client.get_experiment_by_name(config.experiment)
            self._experiment = (
                self.client.create_experiment(config.experiment, artefacts)
                if experiment is None
                else experiment.experiment_id
            )

    def search(self, condition: str) -> list[Any]:
        """Return the runs that meet a condition in MLflow's syntax."""
        return list(self.client.search_runs([self._experiment], condition, max_results=10_000))

    def end_killed(self, own_lock: Path | None = None) -> None:
        """Mark the runs of this machine as KILLED if no process has locked their lock file.

        `own_lock` is the lock file of this process: an older run with this file was killed.
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
        """Start the parent run of a training and the runs of its members."""
        now = time.strftime("%Y-%m-%d %H:%M")
        titles = (f"{tags['stage']} {tags['dataset']}", tags.get("DVC_EXP_NAME"), now)
        title = " · ".join(filter(None, titles))
        runs = {_PARENT: self._start(title, {**tags, "role": "parent"}, params)}
        for member in members:
            variant, _, seed = member.rpartition("/")
            member_tags = {"role": "member", "member": member, "mlflow.parentRunId": runs[_PARENT]}
            # The parent's parameters do not describe a variant, which changes some of them.
            member_params = {"variant": variant} if variant else params
            member_params = {**member_params, "seed": seed.removeprefix("seed-")}
            runs[member] = self._start(member, {**tags, **member_tags}, member_params)
        return runs

    def _start(self, name: str, tags: Mapping[str, str], params: Mapping[str, str]) -> str:
        from mlflow.entities import Param

        run = self.client.create_run(self._experiment, run_name=name, tags=dict(tags))
        items = [Param(key[:250], value[:6000]) for key, value in params.items()]
        for first in range(0, len(items), 100):
            self.client.log_batch(run.info.run_id, params=items[first : first + 100])
        return str(run.info.run_id)

    def send(self, runs: Runs, epochs: Iterable[EpochMetrics], *, spread: bool = False) -> None:
        """Send the values of the members, and their mean (and standard deviation) for the parent.

        A member that has no run is a part of a training: `text/seed-1` adds metrics with the prefix
        `text/` to the run of `seed-1`. Final scores have the epoch 0.
        """
        from mlflow.entities import Metric

        metrics: dict[str, list[Any]] = {}
        for epoch, rows, time_ms in epochs:
            columns: dict[tuple[str, str], list[float]] = {}
            for member, row in rows.items():
                prefix = member.rpartition("/")[0]
                for metric, value in row.items():
                    name = f"{prefix}/{metric}" if prefix else metric
                    columns.setdefault((runs[_PARENT], name), []).append(value)
                    if member in runs:
                        columns[runs[member], metric] = [value]
                    elif seed_run := runs.get(member.removeprefix(f"{prefix}/")):
                        columns[seed_run, name] = [value]
            for (run, name), values in columns.items():
                summary = {name: sum(values) / len(values)}
                if spread and len(values) > 1:
                    summary[f"{name}_std"] = statistics.stdev(values)
                for key, value in summary.items():
                    key = re.sub(r"[^\w./: -]", "_", key, flags=re.ASCII)[:250]
                    metrics.setdefault(run, []).append(Metric(key, value, time_ms, epoch))
        for run, items in metrics.items():
            for first in range(0, len(items), 1000):
                self.client.log_batch(run, metrics=items[first : first + 1000])

    def finish(self, runs: Runs, output: Path, output_path: str) -> None:
        """End the runs of a training, after tagging the parent with the hash of the output."""
        self.client.set_tag(runs[_PARENT], "output_path", output_path)
        self.client.set_tag(runs[_PARENT], "output_md5", outputs_md5(output) or "")
        for description in sorted(output.rglob("model.json")):
            variant = _variant(output, description)
            self.client.log_artifact(runs[_PARENT], str(description), variant or None)
        self.end(runs, "FINISHED")

    def end(self, runs: Runs, status: str) -> None:
        """End the runs of the members, then the parent run."""
        for run in reversed(runs.values()):
            self.client.set_terminated(run, status=status)


@contextmanager
def _usable_database(database: Path) -> Iterator[None]:
    """Create a missing database atomically, check that it can be written, and lock it."""
    from mlflow import MlflowClient

    database.parent.mkdir(parents=True, exist_ok=True)
    # Two processes that create the tables at once break each other's migration.
    with FileLock(f"{database}.lock", timeout=60):
        if not (database.exists() and database.stat().st_size):
            new = database.with_name(f"{database.name}.new")
            new.unlink(missing_ok=True)
            MlflowClient(f"sqlite:///{new}").search_experiments()
            os.replace(new, database)
        # MLflow retries for minutes if it cannot open or lock the file.
        with closing(sqlite3.connect(database, timeout=10)) as connection:
            connection.execute("BEGIN IMMEDIATE")
        yield


class _LiveObserver(threading.Thread, Observer):
    """Sends metrics during a training; the thread uses at most 5 % of one core."""

    def __init__(
        self, config: TrackingConfig, root: Path, stage: str, dataset: str, lock: Path
    ) -> None:
        super().__init__(name="tracking", daemon=True)
        self._config, self._root, self._lock = config, root, lock
        names = ("DVC_EXP_NAME", "DVC_EXP_BASELINE_REV", "DVC_STAGE")
        self._tags = {name: os.environ[name] for name in names if os.environ.get(name)}
        self._tags |= {"stage": stage, "dataset": dataset, "lock": str(lock)}
        self._tags |= {"host": platform.node(), "machine": describe_machine()}
        head, changed = code_version(Path.cwd())
        if head is not None:
            # MLflow shows this tag in its column "Version".
            self._tags |= {"mlflow.source.git.commit": head, "uncommitted_changes": str(changed)}
        self._epochs: deque[EpochMetrics] = deque()
        self._ending = threading.Event()
        self._output: Path | None = None

    def on_start(self, training: TrainingInfo) -> None:
        self._training = training
        # From here on, importing MLflow does not delay the imports of the training.
        self.start()

    def on_epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        metrics = {name: dict(row) for name, row in rows.items()}
        self._epochs.append(EpochMetrics(epoch, metrics, _now_ms()))

    def end(self, output: Path | None) -> None:
        """Send the remaining metrics and wait; `output` is None if the training failed."""
        if self.ident is None:
            return
        self._output = output
        self._ending.set()
        self.join(LONGEST_WAIT)
        if self.is_alive():
            _warn(f"the store did not answer within {LONGEST_WAIT:.0f} s")

    def run(self) -> None:
        try:
            self._send_all()
        except Exception as error:  # no error of MLflow may end the training
            _warn(_sentence(self._config, self._root, error))

    def _send_all(self) -> None:
        store = _Store(self._config, self._root)
        store.end_killed(self._lock)
        runs = store.start(self._tags, self._training.members, flatten(self._training.parameters))
        pause, ending = 5.0, False  # seconds
        while not ending:
            ending = self._ending.wait(pause)
            start = time.monotonic()
            store.send(runs, [self._epochs.popleft() for _ in range(len(self._epochs))])
            pause = max(5.0, 20 * (time.monotonic() - start))
        if self._output is None:
            store.end(runs, "FAILED")
            return
        # A resumed training has not reported the epochs before it was interrupted.
        history = _history(self._output)
        store.send(runs, [e for e in history if e.epoch <= self._training.resumed_epoch])
        store.finish(runs, self._output, self._output.as_posix())


def _record(store: _Store, folder: Path, datasets: Iterable[str]) -> list[str]:
    """Record outputs in `folder` that have no run, and new scores; return a sentence for each."""
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
            if not store.search(condition):
                history = _history(folder / path)
                members = dict.fromkeys(member for epoch in history for member in epoch.metrics)
                params: Mapping[str, str] = {}
                for description in sorted((folder / path).rglob("model.json"))[:1]:
                    text = description.read_text(encoding="utf-8")
                    params = flatten(json.loads(text).get("configuration", {}))
                runs = store.start({"stage": stage, "dataset": dataset}, members, params)
                store.send(runs, history)
                store.finish(runs, folder / path, path)
                messages.append(f"recorded {path}")
            if evaluated.get(path) == md5:
                for run in store.search(condition):
                    if _record_scores(store, run, stage, folder, dataset):
                        messages.append(f"added the scores of {path} to {run.info.run_name}")
    return messages


def _record_scores(store: _Store, run: Any, stage: str, folder: Path, dataset: str) -> bool:
    """Add test scores, best validation scores and the report to a run, unless it has them."""
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
    store.send({_PARENT: parent, **runs}, [EpochMetrics(0, rows, _now_ms())], spread=True)
    if report.is_file():
        store.client.log_artifact(parent, str(report))
    store.client.set_tag(parent, "results", version)
    return True


def _history(output: Path) -> list[EpochMetrics]:
    """Return the epochs in every history.csv of an output folder."""
    epochs: dict[int, dict[str, dict[str, float]]] = {}
    for path in sorted(output.rglob("history.csv")):
        for row in read_csv(path).values():
            member = f"{_variant(output, path)}/seed-{row['seed']}".removeprefix("/")
            values = epochs.setdefault(int(row["epoch"]), {}).setdefault(member, {})
            values[row["name"]] = float(row["value"])
    return [EpochMetrics(epoch, rows, _now_ms()) for epoch, rows in sorted(epochs.items())]


def _variant(output: Path, file: Path) -> str:
    """Return the folder of a file in an output: the variant in `ablate`, "" in other stages."""
    return file.parent.relative_to(output).as_posix().removeprefix(".")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _warn(sentence: str) -> None:
    log.warning(
        "tracking: %s; the results are not affected, and `dhmd track` records them later.", sentence
    )


def _sentence(config: TrackingConfig, root: Path, error: Exception) -> str:
    """Return the address of the store and the reason of an error, without credentials."""
    message = redact_credentials(first_line(error)).rstrip(".")
    if isinstance(error, ModuleNotFoundError) and error.name == "mlflow":
        message = "mlflow is not installed: install it, or set tracking.enabled to false"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno and cause.strerror:
            message = cause.strerror  # shorter than the messages of HTTP libraries
        cause = cause.__cause__ or cause.__context__
    return f"{redact_address(store_uri(config, root)[0])}: {message}"
