"""The short and the long form, progress on the terminal, and the counts of what was tried.

The long form writes its counts to the file that `--counts` names; `python -m tests.faults` runs it
in three processes and puts theirs together.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.faults.project import OUTPUTS, STAGES, Project

Tell = Callable[[str], None]


@dataclass
class Counts:
    """What was tried, and how it came out: area -> what -> how often."""

    found: dict[str, dict[str, int]] = field(default_factory=dict)

    def add(self, area: str, what: str, number: int = 1) -> None:
        area_counts = self.found.setdefault(area, {})
        area_counts[what] = area_counts.get(what, 0) + number


_OUTCOMES: dict[str, str] = {}  # a test's id -> passed, failed or skipped
_SECONDS: dict[str, float] = {}  # a test's id -> how long it took, with what was set up for it
_KEY = pytest.StashKey[Counts]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_KEY] = Counts()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # Begun with `&` by a script: every child would be deaf to Ctrl-C too.
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _SECONDS[report.nodeid] = _SECONDS.get(report.nodeid, 0.0) + report.duration
    if report.when == "call" or report.outcome != "passed":
        _OUTCOMES[report.nodeid] = report.outcome


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what became of each test, and what was tried."""
    counts_file = session.config.getoption("--counts")
    if counts_file is None:
        return
    here = Path(__file__).parent
    tests: dict[str, list[str]] = {"passed": [], "failed": [], "skipped": [], "not run": []}
    seconds = {}
    for item in session.items:
        if item.path.is_relative_to(here):
            name = item.nodeid.removeprefix("tests/faults/")
            tests[_OUTCOMES.get(item.nodeid, "not run")].append(name)
            seconds[name] = round(_SECONDS.get(item.nodeid, 0.0), 1)
    summary = {"tests": tests, "seconds": seconds, "counts": session.config.stash[_KEY].found}
    Path(counts_file).write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Stages and a thousand children: on a busy machine that takes long."""
    here = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(scope="session")
def long(pytestconfig: pytest.Config) -> bool:
    """Whether this is the long form."""
    return bool(pytestconfig.getoption("--run-slow"))


@pytest.fixture(scope="session")
def counts(pytestconfig: pytest.Config) -> Counts:
    return pytestconfig.stash[_KEY]


@pytest.fixture
def tell(pytestconfig: pytest.Config, long: bool, request: pytest.FixtureRequest) -> Tell:
    """Say how far the long form has got."""
    terminal = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    capture = pytestconfig.pluginmanager.get_plugin("capturemanager")

    def say(sentence: str) -> None:
        if long and terminal is not None and capture is not None:
            with capture.global_and_fixture_disabled():
                terminal.write_line(f"{time.strftime('%H:%M:%S')} {sentence}")
                terminal.flush()

    return say


@dataclass(frozen=True)
class Reference:
    """A pipeline that nothing happened to: what every disturbed one must end with."""

    project: Project
    seconds: dict[str, float]
    contents: dict[str, dict[str, str]]

    def upto(self, folder: Path, stage: str) -> Project:
        """A copy in which everything before `stage` is done."""
        project = self.project.copy(folder)
        for name in STAGES[STAGES.index(stage) :]:
            project.remove_outputs(name)
        project.remove_trainings()
        return project


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory, long: bool) -> Reference:
    """The undisturbed pipeline; its trainings are tracked in the long form only."""
    project = Project.create(tmp_path_factory.mktemp("faults") / "work tree")
    if not long:
        project.edit(
            "params.yaml", ("  enabled: true\n  # Tracking", "  enabled: false\n  # Tracking")
        )
    seconds = {}
    for stage in STAGES:
        began = time.monotonic()
        project.run(*project.stage(stage))
        seconds[stage] = time.monotonic() - began
    assert project.leftovers() == []
    return Reference(project, seconds, {stage: project.contents(stage) for stage in OUTPUTS})
