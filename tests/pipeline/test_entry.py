"""The code around the work of a stage: settings, errors, locks, signals, environments."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dhmd
from dhmd.base.errors import DhmdError
from dhmd.base.files import try_lock
from stages import _entry
from stages._entry import Stage, run_stage

ROOT = Path(__file__).parents[2]


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a working folder that looks as if dhmd had been imported from it."""
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setattr(dhmd, "__file__", str(tmp_path / "dhmd" / "__init__.py"))
    monkeypatch.setattr(_entry, "_handle_signals", lambda name: None)
    for variable in ("CUBLAS_WORKSPACE_CONFIG", "OMP_WAIT_POLICY", "OMP_NUM_THREADS"):
        monkeypatch.setenv(variable, "unset")
        monkeypatch.delenv(variable)
    return tmp_path


def test_a_stage_gets_settings_and_paths(
    working_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stages: list[Stage] = []
    assert run_stage("align", stages.append, ["demo"]) == 0
    (stage,) = stages
    assert (stage.name, stage.dataset, stage.settings.recipe.name) == ("align", "demo", "demo")
    assert stage.root == working_folder
    assert stage.raw == Path("data/raw/demo")
    assert stage.aligned == Path("data/aligned/demo.h5")
    assert stage.pretrained == Path("pretrained/demo")
    assert stage.models == Path("models/demo")
    assert stage.ablations == Path("ablations/demo")
    assert stage.metrics == Path("metrics/demo")
    assert stage.report == Path("reports/demo")
    # A temporary experiment stores trainings in the user's repository.
    monkeypatch.setenv("DVC_ROOT", "/elsewhere")
    stage = Stage("align", "demo", stage.settings)
    assert stage.trainings == Path("/elsewhere/.dhmd/trainings")


def test_the_environment_is_set_before_the_work(working_folder: Path) -> None:
    text = (working_folder / "params.yaml").read_text("utf-8").replace("  threads:", "  threads: 3")
    (working_folder / "params.yaml").write_text(text)
    values: list[str | None] = []

    def work(stage: Stage) -> None:
        names = ("CUBLAS_WORKSPACE_CONFIG", "OMP_WAIT_POLICY", "OMP_NUM_THREADS")
        values.extend(os.environ.get(name) for name in names)

    assert run_stage("train", work, ["demo"]) == 0
    assert values == [":4096:8", "PASSIVE", "3"]


def test_an_error_is_one_line(working_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def work(stage: Stage) -> None:
        raise DhmdError("the file x is damaged")

    assert run_stage("align", work, ["demo"]) == 1
    assert capsys.readouterr().err == "stage align: the file x is damaged\n"
    assert run_stage("align", work, []) == 1
    assert capsys.readouterr().err == "stage align: usage: python -m stages.align DATASET\n"
    assert run_stage("align", work, ["dmo"]) == 1
    assert "did you mean demo?" in capsys.readouterr().err


def test_code_from_elsewhere_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_stage("align", lambda stage: None, ["demo"]) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"stage align: dhmd was imported from {ROOT}, but the stage runs in ")
    assert len(message.splitlines()) == 1


def test_a_second_process_of_a_stage_is_refused(
    working_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (working_folder / ".dhmd" / "locks").mkdir(parents=True)
    lock = try_lock(working_folder / ".dhmd" / "locks" / "train-demo.lock")
    assert lock is not None
    assert run_stage("train", lambda stage: None, ["demo"]) == 1
    assert "another process runs stage train of demo in this folder" in capsys.readouterr().err
    assert run_stage("ablate", lambda stage: None, ["demo"]) == 0
    lock.release()
    for _ in range(2):
        assert run_stage("train", lambda stage: None, ["demo"]) == 0


WAITING_STAGE = """
import time
from stages import _entry
_entry._handle_signals("train")
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_stage_with_one_line(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITING_STAGE],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.communicate(timeout=60) == (b"", b"stage train: interrupted\n")
    assert process.returncode == 130


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal on a parent's death")
def test_a_stage_ends_when_its_parent_is_killed() -> None:
    parent = (
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-c', sys.argv[1]]); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent, WAITING_STAGE],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        started = time.monotonic()
        process.send_signal(signal.SIGKILL)
        # The pipe is closed only when the child has ended, too.
        assert process.stdout.read() == b""
        assert time.monotonic() - started < 30


def test_a_stage_whose_parent_was_killed_earlier_ends_at_once() -> None:
    code = "import stages; stages.PARENT = 12_345_678\n" + WAITING_STAGE
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False
    )
    assert (process.returncode, process.stdout) == (130, b"")


def stage_without_environment(folder: Path, python: str, **variables: str) -> str:
    """Return the error message of `python -m stages.train demo` with another Python."""
    process = subprocess.run(
        [python, "-m", "stages.train", "demo"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 1
    assert len(process.stderr.splitlines()) == 1, process.stderr
    return process.stderr


def test_the_python_of_another_environment_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "stages").symlink_to(ROOT / "stages")
    (tmp_path / "dhmd").symlink_to(ROOT / "dhmd")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    bare = str(tmp_path / "bare" / "bin" / "python")
    message = stage_without_environment(tmp_path, bare)
    assert message.startswith(f"stages: {bare} has no package numpy: run `source .venv/bin/act")
    (tmp_path / ".venv").mkdir()
    for python in (bare, sys.executable):
        message = stage_without_environment(tmp_path, python)
        assert "is not the Python of this project's environment .venv" in message
    # A temporary experiment runs in a copy without .venv.
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "stages").symlink_to(ROOT / "stages")
    message = stage_without_environment(tmp_path / "copy", bare, DVC_ROOT=str(tmp_path))
    assert "is not the Python of this project's environment .venv" in message
