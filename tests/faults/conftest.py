"""The short and the long form, and the undisturbed pipeline that others are compared with."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from tests.faults.project import OUTPUTS, STAGES, Project


def pytest_configure() -> None:
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Started with `&` by a script: every child would ignore Ctrl-C, too.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture(scope="session")
def long(pytestconfig: pytest.Config) -> bool:
    """Whether this is the long form."""
    return bool(pytestconfig.getoption("--run-slow"))


@dataclass(frozen=True)
class Reference:
    """The undisturbed pipeline: its folder, and each stage's seconds and files."""

    project: Project
    seconds: dict[str, float]
    contents: dict[str, dict[str, str]]

    def upto(self, folder: Path, stage: str, *, tracked: bool = False) -> Project:
        """Copy the project with the outputs of all stages before `stage`."""
        project = self.project.copy(folder)
        for name in STAGES[STAGES.index(stage) :]:
            project.remove_outputs(name)
        project.remove_trainings()
        if tracked:
            project.track(True)
        return project


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory, long: bool) -> Reference:
    """The undisturbed pipeline, without tracking; processes that run tests in parallel share it.

    In the short form, stages whose time is not needed share a process.
    """
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    times = base / "faults" / "seconds.json"
    with FileLock(base / "faults.lock"):
        if times.exists():
            project = Project(times.parent / "work tree")
        else:
            project = Project.create(times.parent / "work tree")
            seconds = {}
            train = STAGES.index("train")
            together = [STAGES[:train], ("train",), STAGES[train + 1 :]]
            for stages in [(stage,) for stage in STAGES] if long else together:
                began = time.monotonic()
                project.run_stages(*stages)
                seconds[stages[0]] = time.monotonic() - began
            assert project.leftovers() == []
            times.write_text(json.dumps(seconds))
    contents = {stage: project.contents(stage) for stage in OUTPUTS}
    return Reference(project, json.loads(times.read_text()), contents)
