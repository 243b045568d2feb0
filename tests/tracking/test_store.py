from __future__ import annotations

import math
import multiprocessing
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from dhmd.tracking import database as database_module
from dhmd.tracking import store as store_module
from dhmd.tracking.config import TrackingConfig
from dhmd.tracking.destination import resolve_destination
from dhmd.tracking.replay import PARENT, MetricPoint, Replay, StoreError
from dhmd.tracking.store import MlflowStore, connect
from tests.tracking.conftest import CONFIG
from tests.tracking.fakes import training


def upload(store: MlflowStore, key: str = "k1", end: str | None = "FINISHED") -> None:
    replay = Replay(store, print)
    for event in training(key, end=end):
        replay.feed(event)
    replay.flush()


def test_a_replayed_training_is_in_mlflow_and_twice_is_once(store: MlflowStore) -> None:
    upload(store)
    upload(store)
    (runs,) = store.find({"dataset": "demo"})
    assert sorted(runs) == [PARENT, "seed-1", "seed-2"]
    mlflow = store._client
    child = mlflow.get_run(runs["seed-2"])
    assert child.info.run_name == "seed-2"
    assert child.info.status == "FINISHED"
    assert child.info.end_time == 9000
    assert child.data.params == {"kd.lambda": "0.5", "seed": "2"}
    assert child.data.tags["mlflow.parentRunId"] == runs[PARENT]
    history = mlflow.get_metric_history(runs["seed-2"], "train/task")
    assert [(m.step, m.value) for m in history] == [(1, 21.0), (2, 22.0)]
    assert mlflow.get_run(runs[PARENT]).info.run_name.startswith("train demo · ")


def test_find_looks_at_tags_and_status(store: MlflowStore) -> None:
    upload(store, "k1")
    upload(store, "k2", end=None)
    assert len(store.find({"dataset": "demo"})) == 2
    assert len(store.find({"dataset": "demo"}, "RUNNING")) == 1
    assert store.find({"dataset": "it's"}) == []
    assert [run.tags["dhmd.key"] for run in store.trained()] == ["k1"]
    seeds = [run.name for run in store.running() if "member" in run.tags]
    assert seeds == ["seed-1", "seed-2"]


def test_what_is_not_finite_and_what_is_long_is_taken(store: MlflowStore) -> None:
    run = store.create("x", {"long": "t" * 9000}, 1, None)
    store.log(run, [MetricPoint("a", math.nan, 1, 1), MetricPoint("b", math.inf, 1, 1)])
    store.describe(run, {"p" * 300: "v" * 7000} | {f"n{i}": "1" for i in range(150)}, {})
    data = store._client.get_run(run).data
    assert math.isnan(data.metrics["a"])
    assert len(data.params) == 151


def test_a_parameter_keeps_its_first_value(store: MlflowStore) -> None:
    run = store.create("x", {}, 1, None)
    store.describe(run, {"a": "1"}, {})
    store.describe(run, {"a": "2", "b": "3"}, {})
    assert store._client.get_run(run).data.params == {"a": "1", "b": "3"}


def test_artefacts_of_the_experiment_belong_to_the_root(
    store: MlflowStore, migrated_database: Path
) -> None:
    experiment = store._client.get_experiment_by_name("dhmd")
    # As the session's database was made, before it was copied here.
    assert experiment.artifact_location == (migrated_database.parent / "mlruns").as_uri()


def test_a_locked_database_is_refused_soon(
    store: MlflowStore, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "LOCK_SECONDS", 0.1)
    other = sqlite3.connect(workspace / "mlflow.db")
    other.execute("BEGIN EXCLUSIVE")
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"mlflow\.db: database is locked"):
        store.check()
    with pytest.raises(StoreError, match=r"mlflow\.db: database is locked"):
        connect(resolve_destination(CONFIG, workspace), "dhmd")
    assert time.monotonic() - began < 2
    other.rollback()
    store.check()
    other.close()


@pytest.mark.parametrize("uri", ["sqlite:////proc/x/mlflow.db", "sqlite:////dev/null/mlflow.db"])
def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, uri: str) -> None:
    with pytest.raises(StoreError, match="cannot create /"):
        connect(resolve_destination(TrackingConfig(uri=uri), tmp_path), "dhmd")


def test_a_file_that_is_no_database_is_refused_soon(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database at all " * 100)
    with pytest.raises(StoreError, match="file is not a database"):
        connect(resolve_destination(CONFIG, tmp_path), "dhmd")


def test_an_outdated_database_is_refused_with_what_to_do(workspace: Path) -> None:
    with sqlite3.connect(workspace / "mlflow.db") as database:
        database.execute("UPDATE alembic_version SET version_num = '0a8213491aaa'")
    with pytest.raises(StoreError, match="mlflow db upgrade"):
        connect(resolve_destination(CONFIG, workspace), "dhmd")


def test_a_deleted_experiment_is_named(store: MlflowStore, workspace: Path) -> None:
    mlflow = store._client
    mlflow.delete_experiment(mlflow.get_experiment_by_name("dhmd").experiment_id)
    with pytest.raises(StoreError, match="mlflow experiments restore"):
        connect(resolve_destination(CONFIG, workspace), "dhmd")


def test_a_server_that_is_away_costs_little_and_tells_no_password(tmp_path: Path) -> None:
    config = TrackingConfig(uri="http://me:hunter2@127.0.0.1:9/")
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"^it cannot be reached \(Connection refused\)$"):
        connect(resolve_destination(config, tmp_path), "dhmd")
    assert time.monotonic() - began < 5


def test_a_server_that_says_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        config = TrackingConfig(uri=f"http://127.0.0.1:{deaf.getsockname()[1]}")
        with pytest.raises(StoreError, match=r"^it does not answer in time$"):
            connect(resolve_destination(config, tmp_path), "dhmd")


def test_what_a_foreign_server_answers_is_cut_short_and_without_credentials(
    tmp_path: Path,
) -> None:
    class Foreign(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(403)
            self.end_headers()
            self.wfile.write(b"https://me:hunter2@h/ is not yours. " * 100)

        def log_message(self, *_: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Foreign) as foreign:
        threading.Thread(target=foreign.serve_forever, daemon=True).start()
        config = TrackingConfig(uri=f"http://127.0.0.1:{foreign.server_port}")
        with pytest.raises(StoreError) as raised:
            connect(resolve_destination(config, tmp_path), "dhmd")
        foreign.shutdown()
    assert "403" in str(raised.value)
    assert "hunter2" not in str(raised.value)
    assert len(str(raised.value)) < 500


def test_mlflow_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(StoreError, match="mlflow cannot be imported"):
        connect(resolve_destination(CONFIG, tmp_path), "dhmd")


def test_a_path_with_blanks_letters_and_signs(
    migrated_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a b é %20 #x"
    folder.mkdir()
    shutil.copy(migrated_database, folder / "mlflow.db")
    monkeypatch.chdir(tmp_path)  # connect moves into such a folder: come back afterwards
    store = connect(resolve_destination(CONFIG, folder), "dhmd")
    upload(store)
    with sqlite3.connect(folder / "mlflow.db") as database:
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (3,)


def _die_halfway(folder: Path) -> None:
    import alembic.command

    upgrade = alembic.command.upgrade

    def half(config: object, _: str) -> None:
        upgrade(config, "+3")
        os.kill(os.getpid(), signal.SIGKILL)

    alembic.command.upgrade = half
    connect(resolve_destination(CONFIG, folder, {}), "dhmd")


@pytest.mark.usefixtures("migrated_database")  # mlflow is loaded before the fork
def test_a_migration_killed_halfway_leaves_no_database_behind(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_die_halfway, args=(tmp_path,))
    process.start()
    process.join(100)
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "mlflow.db").exists()
    assert (tmp_path / "mlflow.db.new").exists()
    upload(connect(resolve_destination(CONFIG, tmp_path), "dhmd"))
    assert not (tmp_path / "mlflow.db.new").exists()


def _connect_new(folder: Path) -> None:
    upload(connect(resolve_destination(CONFIG, folder, {}), "dhmd"), key=str(os.getpid()))


@pytest.mark.usefixtures("migrated_database")
def test_two_processes_at_once_on_a_new_database(tmp_path: Path) -> None:
    # Forked, so that MLflow's import is paid once.
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_connect_new, args=(tmp_path,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)
    assert [process.exitcode for process in processes] == [0, 0]
    store = connect(resolve_destination(CONFIG, tmp_path), "dhmd")
    assert len(store.find({"dataset": "demo"}, "FINISHED")) == 2


def test_only_the_store_module_imports_mlflow_and_none_at_import_time() -> None:
    code = (
        "import sys, dhmd.tracking, dhmd.tracking.sweep, dhmd.tracking.links, dhmd.cli.track;"
        "sys.exit('mlflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    package = Path(store_module.__file__).parents[1]
    importers = [
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if "from mlflow" in (text := path.read_text(encoding="utf-8")) or "import mlflow" in text
    ]
    assert importers == ["tracking/store.py"]
