"""What every stage does around its work."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dhmd
from dhmd.base.errors import DhmdError
from stages import _entry
from stages._entry import Stage

ROOT = Path(__file__).parents[2]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder whose code is its own, as far as the stage can see."""
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(dhmd, "__file__", str(tmp_path / "dhmd" / "__init__.py"))
    for name in ("_die_with_parent", "_listen_no_more"):  # the test's own process goes on
        monkeypatch.setattr(_entry, name, lambda: None)
    for variable in ("CUBLAS_WORKSPACE_CONFIG", "OMP_WAIT_POLICY", "OMP_NUM_THREADS"):
        monkeypatch.setenv(variable, "unset")
        monkeypatch.delenv(variable)
    return tmp_path


def test_it_hands_over_settings_and_places(here: Path) -> None:
    seen: list[Stage] = []
    assert _entry._status("align", seen.append, ["demo"]) == 0
    (stage,) = seen
    assert (stage.name, stage.dataset, stage.settings.recipe.name) == ("align", "demo", "demo")
    assert stage.root == here
    assert stage.raw == Path("data/raw/demo")
    assert stage.aligned == Path("data/aligned/demo.h5")
    assert stage.pretrained == Path("pretrained/demo")
    assert stage.models == Path("models/demo")
    assert stage.ablations == Path("ablations/demo")
    assert stage.metrics == Path("metrics/demo")
    assert stage.report == Path("reports/demo")


def test_interrupted_work_is_kept_in_the_users_repository(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Stage] = []
    assert _entry._status("train", seen.append, ["demo"]) == 0
    monkeypatch.setenv("DVC_ROOT", "/elsewhere")
    assert seen[0].trainings == Path("/elsewhere/.dhmd/trainings")


def test_environment_is_set_before_the_work(here: Path) -> None:
    text = (here / "params.yaml").read_text("utf-8").replace("  threads:", "  threads: 3")
    (here / "params.yaml").write_text(text)
    seen: list[str | None] = []

    def work(stage: Stage) -> None:
        names = ("CUBLAS_WORKSPACE_CONFIG", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")
        seen.extend(os.environ.get(name) for name in names)

    assert _entry._status("train", work, ["demo"]) == 0
    assert seen == [":4096:8", "PASSIVE", "3"]


def test_a_mistake_is_one_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def work(stage: Stage) -> None:
        raise DhmdError("the file x is damaged")

    assert _entry._status("align", work, ["demo"]) == 1
    assert capsys.readouterr().err == "stage align: the file x is damaged\n"
    assert _entry._status("align", work, []) == 1
    assert capsys.readouterr().err == "stage align: usage: python -m stages.align DATASET\n"
    assert _entry._status("align", work, ["dmo"]) == 1
    assert "did you mean demo?" in capsys.readouterr().err

    def interrupted(stage: Stage) -> None:
        raise KeyboardInterrupt

    assert _entry._status("align", interrupted, ["demo"]) == 130
    assert capsys.readouterr().err == "stage align: interrupted\n"


def test_code_from_elsewhere_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _entry._status("align", lambda stage: None, ["demo"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"stage align: dhmd was imported from {ROOT}, but the stage runs in ")
    assert len(said.splitlines()) == 1


def test_a_second_one_beside_it_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = here / ".dhmd" / "locks" / "train-demo.lock"
    lock.parent.mkdir(parents=True)
    with open(lock, "a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert _entry._status("train", lambda stage: None, ["demo"]) == 1
        assert "train of demo is already running in this folder" in capsys.readouterr().err
        assert _entry._status("ablate", lambda stage: None, ["demo"]) == 0
    assert _entry._status("train", lambda stage: None, ["demo"]) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal on a parent's death")
def test_it_ends_when_its_parent_is_killed() -> None:
    child = (
        "import time; from stages import _entry; _entry._die_with_parent(); "
        "print('ready', flush=True); time.sleep(60)"
    )
    parent = (
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', sys.argv[1]]); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent, child],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        started = time.monotonic()
        process.send_signal(signal.SIGKILL)
        # Both ends of the pipe are closed only when the child is gone too.
        assert process.stdout.read() == b""
        assert time.monotonic() - started < 30


LOSES = """
import sys
from stages import _entry

class Slow:
    def __del__(self):
        sum(range(60_000))

_entry._die_with_parent()
try:
    print("ready", flush=True)
    while True:
        Slow()  # an exception in here is lost
        sum(range(60_000))
except KeyboardInterrupt:
    print("heard", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_an_unlucky_moment_is_heard_all_the_same(number: signal.Signals) -> None:
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", LOSES],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.send_signal(number)
            assert process.communicate(timeout=60) == (b"heard\n", b"")


LATE = """
import atexit, time
from stages import _entry

def tidy_up():
    print("ready", flush=True)
    time.sleep(60)

atexit.register(tidy_up)
_entry._refuse_foreign_code = lambda: None
_entry.run("align", lambda stage: None)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_after_the_work_ends_it_without_words(here: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LATE, "demo"],
        cwd=here,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.communicate(timeout=60) == (b"", b"")
    assert process.returncode == -number


COMPLAINS = """
import atexit
from stages import _entry

def stopped(*_):
    print("a library was stopped in the middle")
    atexit.register(print, "and another one")
    return 130

_entry._status = stopped
_entry.run("align", None)
"""


def test_nothing_is_said_after_an_interruption() -> None:
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", COMPLAINS]
    done = subprocess.run(command, cwd=ROOT, env=buffered, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal on a parent's death")
def test_it_ends_when_its_parent_was_killed_before_it_could_ask_to_be_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not _entry._orphaned()
    monkeypatch.setattr(_entry, "PARENT", 12_345_678)
    assert _entry._orphaned()
    # Started by DVC, and nobody's child from the first moment on; process 1 here is not DVC.
    monkeypatch.setattr(_entry, "PARENT", 1)
    monkeypatch.setattr(os, "getppid", lambda: 1)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    assert not _entry._orphaned()
    monkeypatch.setenv("DVC_STAGE", "train@demo")
    first = Path("/proc/1/cmdline").read_bytes()
    assert _entry._orphaned() == (b"dvc" not in first and b"python" not in first)
