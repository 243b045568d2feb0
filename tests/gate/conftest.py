"""A repository with one commit, for the tests of the gate."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.gate.fakes import SAME, commit_all, new_repository, write_metrics, write_params


@pytest.fixture(scope="session")
def _template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("template")
    new_repository(root)
    write_params(root)
    write_metrics(root, SAME)
    commit_all(root, "base")
    return root


@pytest.fixture
def repository(tmp_path: Path, _template: Path) -> Path:
    """Create a repository with one commit, which has metrics of demo with five seeds."""
    return Path(shutil.copytree(_template, tmp_path / "a clone ü"))
