"""A small repository, in which a study takes seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from tests.threads import one_thread

__all__ = ["one_thread"]

ROOT = Path(__file__).parents[3]


@pytest.fixture
def small_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a repository with a tiny demo, and make it the working directory."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    path = tmp_path / "recipes" / "demo.yaml"
    recipe = yaml.safe_load(path.read_text("utf-8"))
    recipe["generator"] |= {"n_train": 40, "n_valid": 15, "n_test": 30}
    recipe["train"] |= {"epochs": 1, "batch_size": 32}
    recipe["pretrain"]["epochs"] = 1
    recipe["model"] |= {"width": 4, "heads": 1}
    path.write_text(yaml.safe_dump(recipe), "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path
