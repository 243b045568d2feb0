"""Test runs in MLflow (live, recorded later, with scores) and stores that fail."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from dhmd.base.errors import DhmdError
from dhmd.tracking import TrackingConfig, flatten, record_results, store_uri, track, tracked
from dhmd.training.observer import Observer, TrainingInfo
from dhmd.vcs.lock import outputs_md5

ROOT = Path(__file__).parents[1]
CONFIG = TrackingConfig()


@pytest.fixture(autouse=True)
def clean_environment() -> Iterator[None]:
    before = dict(os.environ)
    for name in before:
        if name.startswith(("MLFLOW_", "DVC_")):
            del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a database with the tables of MLflow."""
    folder = tmp_path_factory.mktemp("database")
    assert track(CONFIG, folder, []) == []
    return folder / "mlflow.db"


@pytest.fixture
def project(tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Create a project folder with an empty tracking database, and work in it."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@dataclass
class Run:
    """The content of an MLflow run."""

    name: str
    status: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    history: dict[str, list[tuple[int, float]]]
    artefacts: list[str]


def runs(root: Path) -> dict[str, Run]:
    """Return the newest run of each member, and of each stage (its parent run)."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    experiment = client.get_experiment_by_name("dhmd")
    runs_by_name = {}
    for run in reversed(client.search_runs([experiment.experiment_id])):
        tags = run.data.tags
        history = {
            name: sorted(
                (point.step, point.value)
                for point in client.get_metric_history(run.info.run_id, name)
            )
            for name in run.data.metrics
        }
        artefacts = [file.path for file in client.list_artifacts(run.info.run_id)]
        runs_by_name[tags.get("member") or tags["stage"]] = Run(
            run.info.run_name,
            run.info.status,
            tags,
            run.data.params,
            run.data.metrics,
            history,
            artefacts,
        )
    return runs_by_name


def write_model(folder: Path, seeds: tuple[int, ...] = (1, 2)) -> None:
    """Write a model directory whose validation MAE is seed + epoch / 10."""
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(json.dumps({"configuration": {"kd": {"lambda": 0.5}}}))
    rows = [f"{seed},{epoch},valid/mae,{seed + epoch / 10}" for epoch in (1, 2) for seed in seeds]
    (folder / "history.csv").write_text("\n".join(["seed,epoch,name,value", *rows]) + "\n")


def observer_of_stage(
    root: Path, output: Path, config: TrackingConfig = CONFIG, stage: str = "train"
) -> AbstractContextManager[Observer]:
    """Return the observer of a stage whose lock file is in the root."""
    lock = root / "lock"
    return tracked(config, root=root, stage=stage, dataset="demo", output=output, lock=lock)


def train(root: Path, *, epochs: tuple[int, ...] = (1, 2), resumed: int = 0) -> None:
    """Report a training of two seeds to the observer, as a stage does."""
    output = Path("models/demo")
    with observer_of_stage(root, output) as observer:
        parameters = {"kd": {"lambda": 0.5}}
        observer.on_start(TrainingInfo("train", ["seed-1", "seed-2"], parameters, resumed))
        for epoch in epochs:
            rows = {f"seed-{seed}": {"valid/mae": seed + epoch / 10} for seed in (1, 2)}
            observer.on_epoch(epoch, rows)
        write_model(output)
        observer.on_finish(output)


def test_a_training_is_a_run_with_a_child_per_seed(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_EXP_NAME", "lobar-hull")
    subprocess.run(["git", "init", "-q"], check=True)
    identity = ["-c", "user.name=n", "-c", "user.email=e"]
    subprocess.run(["git", *identity, "commit", "-qm", "x", "--allow-empty"], check=True)
    train(project)
    runs_by_name = runs(project)
    assert set(runs_by_name) == {"train", "seed-1", "seed-2"}
    assert {run.status for run in runs_by_name.values()} == {"FINISHED"}
    parent, child = runs_by_name["train"], runs_by_name["seed-2"]
    assert parent.name.startswith("train demo · lobar-hull · ")
    assert parent.params == {"kd.lambda": "0.5"}
    assert child.params == {"kd.lambda": "0.5", "seed": "2"}
    assert child.history["valid/mae"] == [(1, 2.1), (2, 2.2)]
    assert dict(parent.history["valid/mae"]) == pytest.approx({1: 1.6, 2: 1.7})
    assert parent.tags["output_md5"] == outputs_md5(Path("models/demo"))
    assert parent.tags["DVC_EXP_NAME"] == "lobar-hull"
    assert parent.tags["dataset"] == "demo"
    assert len(parent.tags["mlflow.source.git.commit"]) == 40
    assert parent.artefacts == ["model.json"]
    assert track(CONFIG, project, ["demo"]) == []


def test_a_resumed_training_has_the_epochs_before_the_interruption(project: Path) -> None:
    train(project, epochs=(2,), resumed=1)
    assert runs(project)["seed-1"].history["valid/mae"] == [(1, 1.1), (2, 1.2)]


def test_the_modality_of_an_encoder_is_a_prefix_of_its_metrics(project: Path) -> None:
    output = Path("pretrained/demo")
    with observer_of_stage(project, output, stage="pretrain") as observer:
        observer.on_start(TrainingInfo("pretrain", ["seed-1", "seed-2"]))
        observer.on_epoch(1, {"text/seed-1": {"valid/mae": 1.0}, "text/seed-2": {"valid/mae": 3.0}})
        write_model(output)
    runs_by_name = runs(project)
    assert runs_by_name["seed-2"].metrics == {"text/valid/mae": 3.0}
    assert runs_by_name["pretrain"].metrics == {"text/valid/mae": 2.0}


def test_the_runs_of_a_failed_training_have_the_status_failed(project: Path) -> None:
    def fail() -> None:
        with observer_of_stage(project, project / "x") as observer:
            observer.on_start(TrainingInfo("train", ["seed-1"]))
            raise DhmdError("no")

    with pytest.raises(DhmdError, match="no"):
        fail()
    assert {run.status for run in runs(project).values()} == {"FAILED"}


KILLED = """
import os, sys, time
from pathlib import Path
from dhmd.base.files import try_lock
from dhmd.tracking import TrackingConfig, tracked
from dhmd.training.observer import TrainingInfo
root = Path.cwd()
lock = try_lock(root / "lock")
with tracked(TrackingConfig(), root=root, stage="train", dataset="demo", output=root / "x",
             lock=root / "lock") as observer:
    observer.on_start(TrainingInfo("train", ["seed-1"]))
    print("started", flush=True)
    time.sleep(600)
"""


def test_the_runs_of_a_killed_stage_are_ended_once_its_lock_is_free(project: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with closing(sqlite3.connect(project / "mlflow.db")) as database:
            query = "select count(*) from runs where status = 'RUNNING'"
            while database.execute(query).fetchone() != (2,):
                assert process.poll() is None
        assert track(CONFIG, project, []) == []
        assert {run.status for run in runs(project).values()} == {"RUNNING"}
        process.kill()
    track(CONFIG, project, [])
    assert {run.status for run in runs(project).values()} == {"KILLED"}


def test_outputs_without_a_run_are_recorded_once(project: Path) -> None:
    write_model(project / "models/demo")
    write_model(project / "ablations/demo/no_kd", seeds=(1,))
    assert track(CONFIG, project, ["demo", "absent"]) == [
        "recorded models/demo",
        "recorded ablations/demo",
    ]
    runs_by_name = runs(project)
    assert set(runs_by_name) == {"train", "seed-1", "seed-2", "ablate", "no_kd/seed-1"}
    assert runs_by_name["seed-1"].history["valid/mae"] == [(1, 1.1), (2, 1.2)]
    assert runs_by_name["train"].params == {"kd.lambda": "0.5"}
    assert runs_by_name["no_kd/seed-1"].params == {"variant": "no_kd", "seed": "1"}
    assert runs_by_name["ablate"].metrics == {"no_kd/valid/mae": 1.2}
    assert track(CONFIG, project, ["demo"]) == []


def write_results(root: Path, md5: str | None) -> None:
    """Write the scores of models with the hash `md5`, and a report."""
    metrics = root / "metrics/demo/details"
    metrics.mkdir(parents=True, exist_ok=True)
    rows = ["seed,split,mae,corr", "1,test,1.0,", "2,test,2.0,0.5", "1,valid,3.0,0.5"]
    (metrics / "seeds.csv").write_text("\n".join(rows) + "\n")
    (root / "reports/demo").mkdir(parents=True, exist_ok=True)
    (root / "reports/demo/index.html").write_text("report")
    dependency = f"deps: [{{path: models/demo, md5: {md5}}}]"
    (root / "dvc.lock").write_text(f"stages: {{evaluate@demo: {{cmd: x, {dependency}}}}}\n")


def test_scores_and_report_are_added_to_the_run_of_the_scored_models(project: Path) -> None:
    train(project)
    write_results(project, "of other models")
    record_results(CONFIG, root=project, dataset="demo")
    assert runs(project)["train"].artefacts == ["model.json"]
    write_results(project, outputs_md5(project / "models/demo"))
    for _ in range(2):
        record_results(CONFIG, root=project, dataset="demo")
    runs_by_name = runs(project)
    parent = runs_by_name["train"]
    assert (parent.metrics["test/mae"], parent.metrics["test/corr"]) == (1.5, 0.5)
    assert parent.metrics["test/mae_std"] == pytest.approx(0.5**0.5)
    assert parent.metrics["best_valid/mae"] == 3.0
    assert parent.history["test/mae"] == [(0, 1.5)]
    assert runs_by_name["seed-2"].metrics["test/mae"] == 2.0
    assert parent.artefacts == ["index.html", "model.json"]


def test_two_processes_may_create_one_database(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from dhmd.tracking import *; "
        "track(TrackingConfig(), Path.cwd(), [])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    both = [
        subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment)
        for _ in range(2)
    ]
    assert [process.wait() for process in both] == [0, 0]
    assert not (tmp_path / "mlflow.db.new").exists()


class UnavailableServer(BaseHTTPRequestHandler):
    """A server that answers every request with status 503."""

    def do_GET(self) -> None:
        self.send_error(503)

    def log_message(self, *arguments: Any) -> None:
        """Print nothing."""


@pytest.fixture
def unavailable_server() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), UnavailableServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def failing_store(kind: str, folder: Path, server: str) -> str:
    if kind == "broken":
        (folder / "broken.db").write_text("no database" * 90)
        return "sqlite:///broken.db"
    if kind == "folder":
        (folder / "folder.db").mkdir()
        (folder / "folder.db" / "x").touch()
        return "sqlite:///folder.db"
    return {
        "absent": "http://me:hunter2@127.0.0.1:9",
        "server": f"http://me:hunter2@{server}",
        "file store": "./mlruns",
    }[kind]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("absent", "Connection refused"),
        ("server", "503"),
        ("broken", "not a database"),
        ("folder", "unable to open database"),
        ("file store", "mlflow migrate-filestore"),
    ],
)
def test_a_failing_store_gives_one_warning(
    kind: str, reason: str, project: Path, unavailable_server: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = TrackingConfig(uri=failing_store(kind, project, unavailable_server))
    with (
        caplog.at_level(logging.WARNING, "dhmd.tracking"),
        observer_of_stage(project, project / "x", config) as observer,
    ):
        observer.on_start(TrainingInfo("train", ["seed-1"]))
        observer.on_epoch(1, {"seed-1": {"valid/mae": 1.0}})
    (record,) = [record for record in caplog.records if record.name == "dhmd.tracking"]
    sentence = record.getMessage()
    assert reason in sentence
    assert "`dhmd track` records them later" in sentence
    assert "hunter2" not in sentence
    assert "\n" not in sentence
    with pytest.raises(DhmdError) as raised:
        track(config, project, ["demo"])
    assert reason in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_the_warning_without_mlflow_names_the_solution(
    project: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    record_results(CONFIG, root=project, dataset="demo")
    assert "mlflow is not installed: install it, or set tracking.enabled to false" in caplog.text


def test_disabled_tracking_does_not_import_mlflow(project: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from dhmd.tracking import *\n"
        "from dhmd.training.observer import TrainingInfo\n"
        "config = TrackingConfig(enabled=False)\n"
        "with tracked(config, root=Path('.'), stage='train', dataset='demo', output=Path('x'),"
        " lock=Path('l')) as o: o.on_start(TrainingInfo('train', ['seed-1']))\n"
        "record_results(config, root=Path('.'), dataset='demo')\n"
        "print('mlflow' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert process.stdout == "False\n"


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        (None, "mlflow.db"),
        ("sqlite:///runs/x.db", "runs/x.db"),
        ("sqlite:///a/../x.db?timeout=3", "x.db"),
        ("sqlite:////var/x.db", "/var/x.db"),
    ],
)
def test_a_relative_database_is_relative_to_the_root(
    tmp_path: Path, uri: str | None, file: str
) -> None:
    database = tmp_path / file
    assert store_uri(TrackingConfig(uri=uri), tmp_path) == (f"sqlite:///{database}", database)


def test_params_take_precedence_over_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://b")
    assert store_uri(TrackingConfig(uri="http://a"), tmp_path) == ("http://a", None)
    assert store_uri(CONFIG, tmp_path) == ("http://b", None)


@dataclass(frozen=True)
class Section:
    lr: float
    seeds: tuple[int, ...]


def test_flatten_returns_dotted_names_and_text() -> None:
    nested = {
        "train": Section(lr=1e-4, seeds=(1, 2)),
        "kd": {"lambda": 0.5, "edges": None},
        "on": True,
        "name": "demo",
    }
    assert flatten(nested) == {
        "train.lr": "0.0001",
        "train.seeds": "1, 2",
        "kd.lambda": "0.5",
        "kd.edges": "null",
        "on": "true",
        "name": "demo",
    }
