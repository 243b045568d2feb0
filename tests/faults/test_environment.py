"""Stages in unusual environments: missing packages, locales, paths, concurrent experiments."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults.conftest import Reference
from tests.faults.project import STAGES, Project, killed_at_end

BLOCK = """
import sys

class WithoutPackages:
    # A finder that does not find these packages, as if they were not installed.

    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("dvc", "mlflow"):
            return None
        return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(WithoutPackages, sys.meta_path)
"""


def test_stages_run_without_mlflow_and_dvc(reference: Reference, tmp_path: Path) -> None:
    project = reference.copy_before(tmp_path / "project", "train", tracked=True)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BLOCK)
    for stage in ("align", "train"):
        project.remove_outputs(stage)
        printed = project(*project.stage(stage), PYTHONPATH=str(tmp_path / "site"))
        assert project.contents(stage) == reference.contents[stage]
    assert printed.count("mlflow is not installed") == 1


@pytest.mark.slow
def test_stages_run_in_the_c_locale(reference: Reference, tmp_path: Path) -> None:
    project = reference.copy_before(tmp_path / "project", "download")
    plain = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for stage in ("download", "align"):
        project(*project.stage(stage), **plain)
        assert project.contents(stage) == reference.contents[stage], stage
    project("dhmd", "config", "check", **plain)


@pytest.mark.slow
def test_the_pipeline_runs_in_a_path_with_spaces_and_other_letters(
    reference: Reference, tmp_path: Path
) -> None:
    project = reference.copy_before(tmp_path / "an der Straße, 実験 'x'", STAGES[0], tracked=True)
    project("dvc", "repro")
    for stage in STAGES:
        assert project.contents(stage) == reference.contents[stage], stage
    assert set(project.run_statuses()) == {"FINISHED"}


@pytest.mark.slow
def test_two_temporary_experiments_run_at_once(reference: Reference, tmp_path: Path) -> None:
    """Use one store of trainings and one tracking database, which does not exist yet."""
    project = reference.copy_before(tmp_path / "experiments", STAGES[0], tracked=True)
    project("git", "commit", "-q", "-a", "-m", "tracked")
    values = ("0.2", "0.6")
    commands = [
        ("dvc", "exp", "run", "--temp", "--name", f"share-{value}", "-S", f"kd.lambda={value}")
        for value in values
    ]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda command: _run_with_retries(project, command), commands))
    metrics = set()
    for value in values:
        refs = project("git", "for-each-ref", "--format=%(refname)", "refs/exps")
        (name,) = [line for line in refs.splitlines() if line.endswith(f"/share-{value}")]
        metrics.add(project("git", "show", f"{name}:metrics/demo/metrics.json"))
    assert len(metrics) == 2
    assert project.leftovers() == []
    assert set(project.run_statuses()) == {"FINISHED"}


def _run_with_retries(project: Project, command: tuple[str, ...]) -> None:
    """Run a DVC command; retry if another command locks DVC for more than three seconds."""
    for _ in range(30):
        with killed_at_end(project.start(*command)) as process:
            printed, _ = process.communicate(timeout=900)
        if process.returncode == 0:
            return
        assert "Unable to acquire lock" in printed, printed
    raise AssertionError(printed)
