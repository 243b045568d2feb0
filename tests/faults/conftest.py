"""The short and the long form of the tests, and the uninterrupted run to compare results to."""

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
        # A script started pytest with `&`: all child processes would ignore Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    folder = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(folder):
            item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture(scope="session")
def long(pytestconfig: pytest.Config) -> bool:
    """Return whether the tests run in their long form."""
    return bool(pytestconfig.getoption("--run-slow"))


@dataclass(frozen=True)
class Reference:
    """An uninterrupted run of the pipeline.

    Attributes:
        project: its folder.
        seconds: duration by stage.
        contents: sha256 by stage and file.
    """

    project: Project
    seconds: dict[str, float]
    contents: dict[str, dict[str, str]]

    def copy_before(self, folder: Path, stage: str, *, tracked: bool = False) -> Project:
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
    """Run the pipeline without tracking, once for all processes that run tests in parallel.

    In the short form, stages whose duration is not needed share a process.
    """
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    times = folder / "faults" / "seconds.json"
    with FileLock(folder / "faults.lock"):
        if times.exists():
            project = Project(times.parent / "work tree")
        else:
            project = Project.create(times.parent / "work tree")
            seconds = {}
            train = STAGES.index("train")
            groups = [STAGES[:train], ("train",), STAGES[train + 1 :]]
            for stages in [(stage,) for stage in STAGES] if long else groups:
                start = time.monotonic()
                project.run_stages(*stages)
                seconds[stages[0]] = time.monotonic() - start
            assert project.leftovers() == []
            times.write_text(json.dumps(seconds))
    contents = {stage: project.contents(stage) for stage in OUTPUTS}
    return Reference(project, json.loads(times.read_text()), contents)
