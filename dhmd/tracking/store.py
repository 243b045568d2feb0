"""The MLflow tracking store. The one module of dhmd that imports mlflow, and only in `connect`."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from dhmd.base.errors import first_line
from dhmd.tracking.database import (
    create_whole,
    exists,
    make_folder,
    set_up_lock,
    try_database,
    uri_of,
)
from dhmd.tracking.destination import Destination, redact
from dhmd.tracking.replay import PARENT, MetricPoint, Runs, StoreError

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # Trying again is the uploader's business: a server that is away must be known at once.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
PAGE = 1000


class TrackedRun(NamedTuple):
    """What `running` and `finished` tell of a parent or child run."""

    id: str
    tags: Mapping[str, str]
    name: str


@contextmanager
def _translated() -> Iterator[None]:
    """Whatever MLflow, SQLAlchemy or requests raise becomes one sentence without credentials."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:  # three libraries' worth of exceptions; none may stop a training
        message = _unreachable(error) or redact(first_line(error))
        raise StoreError(f"{message[:400]}{'…' if len(message) > 400 else ''}") from error


def _unreachable(error: BaseException) -> str | None:
    """The one thing to say of a server that does not answer, found at the bottom of the chain."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, TimeoutError) or "Timeout" in type(link).__name__:
            return "it does not answer in time"
        # requests' own errors are OSErrors too, but have no number.
        if isinstance(link, OSError) and link.errno and link.strerror:
            return f"it cannot be reached ({link.strerror})"
        link = link.__cause__ or link.__context__
    return None


class MlflowStore:
    """Runs in one experiment of one store."""

    def __init__(self, client: Any, experiment: str, database: Path | None) -> None:
        self._client = client
        self._experiment = experiment
        self._database = database

    def check(self) -> None:
        """Refuse soon what MLflow would wait long for: a locked or unwritable database."""
        if self._database is not None:
            try_database(self._database)

    def find(self, tags: Mapping[str, str], status: str | None = None) -> list[Runs]:
        conditions = {f"tags.`{name}`": value for name, value in tags.items()}
        conditions["tags.`dhmd.role`"] = "parent"
        if status is not None:
            conditions["attributes.status"] = status
        found: list[Runs] = []
        for parent in self._search(conditions):
            children = self._search({"tags.`mlflow.parentRunId`": parent.id})
            found.append({run.tags["member"]: run.id for run in children if "member" in run.tags})
            found[-1][PARENT] = parent.id
        return found

    def running(self) -> list[TrackedRun]:
        """All runs that claim to be in progress, whoever started them."""
        return self._search({"attributes.status": "RUNNING"})

    def trained(self) -> list[TrackedRun]:
        """The parent runs that have outputs, newest first."""
        runs = self._search({"tags.`dhmd.role`": "parent"})
        return [run for run in runs if run.tags.get("output_md5")]

    def _search(self, conditions: Mapping[str, str]) -> list[TrackedRun]:
        # MLflow's filters know no escape for a quote: none of our values has one.
        condition = " and ".join(
            f"{name} = '{value.replace(chr(39), '')}'" for name, value in conditions.items()
        )
        runs: list[TrackedRun] = []
        token = None
        with _translated():
            while True:
                page = self._client.search_runs(
                    [self._experiment],
                    condition,
                    max_results=PAGE,
                    order_by=["attributes.start_time DESC"],
                    page_token=token,
                )
                runs += [
                    TrackedRun(run.info.run_id, run.data.tags, run.info.run_name) for run in page
                ]
                token = page.token
                if not token:
                    return runs

    def create(self, name: str, tags: Mapping[str, str], time: int, parent: str | None) -> str:
        all_tags = {key: value[:5000] for key, value in tags.items()}
        if parent is not None:
            all_tags["mlflow.parentRunId"] = parent
        with _translated():
            run = self._client.create_run(
                self._experiment, start_time=time, tags=all_tags, run_name=name
            )
            return str(run.info.run_id)

    def log(self, run: str, points: Sequence[MetricPoint]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(point.name, point.value, point.time, point.step) for point in points]
        with _translated():
            self._client.log_batch(run, metrics=metrics)

    def describe(self, run: str, parameters: Mapping[str, str], tags: Mapping[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        with _translated():
            # Parameters never change within a run: the first value stands.
            known = self._client.get_run(run).data.params if parameters else {}
            new = [
                Param(name[:250], value[:6000])
                for name, value in parameters.items()
                if name[:250] not in known
            ]
            run_tags = [RunTag(name, value[:5000]) for name, value in tags.items()]
            for start in range(0, len(new), 100):
                self._client.log_batch(run, params=new[start : start + 100])
            if run_tags:
                self._client.log_batch(run, tags=run_tags)

    def set_status(self, run: str, status: str, time: int) -> None:
        with _translated():
            if status == "RUNNING":
                self._client.update_run(run, status=status)
            else:
                self._client.set_terminated(run, status=status, end_time=time)


def connect(
    destination: Destination, experiment: str, progress: Callable[[str], None] = lambda _: None
) -> MlflowStore:
    """Open the store, setting a new database and the experiment up where they are missing.

    `progress` is told of every step that may take seconds, once it is done.

    Raises:
        StoreError: no mlflow, no server, a locked, damaged or outdated database …
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    database = destination.database
    if database is not None:
        make_folder(database.parent)
        if exists(database):
            try_database(database)
    with _translated():
        mlflow_client = _import_client()
        progress("imported")
        with set_up_lock(database) if database is not None else nullcontext():
            if database is not None and not exists(database):
                create_whole(database, lambda uri: _migrate(mlflow_client, uri))
                progress("created")
            client = mlflow_client(destination.uri if database is None else uri_of(database))
            found = client.get_experiment_by_name(experiment)
            if found is None:
                found = _create_experiment(client, destination, experiment)
        if found.lifecycle_stage != "active":
            raise StoreError(
                f"the experiment {experiment} was deleted: `mlflow experiments restore "
                f"--experiment-id {found.experiment_id}`, or set tracking.experiment"
            )
        return MlflowStore(client, found.experiment_id, database)


def _import_client() -> Any:
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise StoreError(
            f"mlflow cannot be imported ({first_line(error)}): pip install 'mlflow>=3.13,<4'"
        ) from error
    for name in ("mlflow", "alembic"):
        # What matters of their log becomes our sentences; the rest may hold credentials.
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    return MlflowClient


def _migrate(mlflow_client: Any, uri: str) -> None:
    """Let MLflow create its tables in a file that nobody needs yet: unsafely, and so quickly."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    def hurry(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = MEMORY")

    event.listen(Engine, "connect", hurry)
    try:
        mlflow_client(uri).search_experiments()
    finally:
        event.remove(Engine, "connect", hurry)


def _create_experiment(client: Any, destination: Destination, experiment: str) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        client.create_experiment(experiment, artifact_location=destination.artefacts)
    except MlflowException:
        # Another process may have been quicker (on a server no lock of ours helps).
        if client.get_experiment_by_name(experiment) is None:
            raise
    return client.get_experiment_by_name(experiment)
