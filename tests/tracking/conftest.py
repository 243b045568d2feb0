"""One migrated database a session, copied for each test; an environment without surprises."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dhmd.tracking.config import TrackingConfig
from dhmd.tracking.destination import resolve_destination
from dhmd.tracking.store import MlflowStore, connect

CONFIG = TrackingConfig()


@pytest.fixture(autouse=True)
def clean_environment() -> Iterator[None]:
    before = dict(os.environ)
    for name in before:
        if name.startswith(("MLFLOW_", "DVC_")):
            del os.environ[name]
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    yield
    # The store sets variables of its own, too: they must not reach the next test.
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database that MLflow set up, with no run in it."""
    folder = tmp_path_factory.mktemp("migrated")
    connect(resolve_destination(CONFIG, folder, {}), CONFIG.experiment)
    return folder / "mlflow.db"


@pytest.fixture
def workspace(tmp_path: Path, migrated_database: Path) -> Path:
    """A root folder whose tracking database is ready."""
    shutil.copy(migrated_database, tmp_path / "mlflow.db")
    return tmp_path


@pytest.fixture
def store(workspace: Path) -> MlflowStore:
    return connect(resolve_destination(CONFIG, workspace), CONFIG.experiment)
