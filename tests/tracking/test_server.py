"""Against a real `mlflow server` on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from dhmd.tracking import TrackingConfig, open_tracker
from dhmd.tracking import tracker as tracker_module
from dhmd.tracking.destination import resolve_destination
from dhmd.tracking.journal import journals
from dhmd.tracking.store import connect
from tests.tracking.test_tracker import train


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """Started and stopped at will, on one database and port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        command += [f"--port={self.port}", "--workers=1", "--backend-store-uri=sqlite:///mlflow.db"]
        self.process = subprocess.Popen(
            command,
            cwd=self.folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Its eight job workers have nothing to do here.
            env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            start_new_session=True,
        )
        deadline = time.monotonic() + 240
        while True:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=1):
                    return
            except (urllib.error.URLError, OSError):
                assert time.monotonic() < deadline, "mlflow server does not start"
                time.sleep(0.2)

    def stop(self) -> None:
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def server(tmp_path: Path, migrated_database: Path) -> Iterator[Server]:
    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copy(migrated_database, folder / "mlflow.db")
    server = Server(folder)
    yield server
    server.stop()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_server_that_comes_late_gets_everything(
    server: Server,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A busy machine's server takes its time; how soon it is given up is tested elsewhere.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "120")
    monkeypatch.setattr(tracker_module, "SERVER_SECONDS", 240.0)
    config = TrackingConfig(uri=server.uri)
    outputs = tmp_path / "models" / "demo"
    with open_tracker(config, root=tmp_path, dataset="demo", stage="train", outputs=outputs) as t:
        # Away at first: wait for the one warning, as a long training would.
        t.started("train", ["seed-9"], {"early": True}, 0)
        deadline = time.monotonic() + 240
        while not caplog.messages and time.monotonic() < deadline:
            t.epoch(1, {"seed-9": {"valid/mae": float("nan"), "train/task": float("inf")}})
            time.sleep(0.1)
        server.start()
        train(t, outputs)
    assert len(caplog.messages) == 1
    assert server.uri in caplog.messages[0]
    assert journals(tmp_path) == []
    store = connect(resolve_destination(config, tmp_path), "dhmd")
    (runs,) = store.find({"dataset": "demo"}, "FINISHED")
    assert sorted(runs) == ["", "seed-1", "seed-2", "seed-9"]
    metrics = store._client.get_run(runs["seed-2"]).data.metrics
    assert metrics["valid/mae"] == pytest.approx(1 / 3)
