"""`dvc exp run`: every experiment has its own settings and its own code."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest

from dhmd.base.files import try_lock
from dhmd.data.csd import write_sequence
from tests.cluster.engines import wait_until
from tests.pipeline.scratch import Scratch


@pytest.fixture
def scratch(tmp_path: Path) -> Scratch:
    return Scratch(tmp_path)


def test_an_experiment_has_the_values_of_the_command_line(scratch: Scratch) -> None:
    scratch("dvc", "exp", "run", "-S", "train.lr=1e-5", "-S", "kd.lambda=0.5")
    # DVC writes 1e-05 into params.yaml, which is a string in YAML 1.1.
    assert "lr: 1e-05" in (scratch.folder / "params.yaml").read_text("utf-8")
    assert scratch.metrics()["lr"] == 1e-5
    assert scratch.metrics()["lambda"] == 0.5

    output = scratch("dvc", "exp", "run", "-S", "train.lrr=1e-5", fails=True)
    assert "train.lrr" in output or "lrr" in output
    # With +, DVC adds the key, and our own check refuses it.
    output = scratch("dvc", "exp", "run", "-S", "+train.lrr=1e-5", fails=True)
    assert "stage probe: params.yaml: unknown key train.lrr (value 1e-05)" in output
    assert "did you mean train.lr?" in output
    assert "Traceback" not in output


def test_a_queued_experiment_runs_its_own_copy_of_the_code(scratch: Scratch) -> None:
    scratch("dvc", "exp", "run", "--queue", "--name", "queued", "-S", "train.lr=0.25")
    scratch.edit("dhmd/__init__.py", ('__version__ = "0.2.0"', '__version__ = "edited"'))
    scratch.edit("params.yaml", ("lambda: 0.3", "lambda: 0.9"))
    scratch("dvc", "queue", "start")
    wait_until(lambda: "queued" in scratch.experiments(), "the experiment does not end")
    scratch("dvc", "queue", "stop", "--kill")
    metrics = scratch.metrics(scratch.experiments()["queued"])
    assert metrics == {"lr": 0.25, "lambda": 0.3, "code": "0.2.0", "inside": True}


def test_a_killed_pipeline_leaves_no_stage_behind(scratch: Scratch) -> None:
    (scratch.folder / "hold").touch()
    with scratch.start("dvc", "repro") as pipeline:
        wait_until((scratch.folder / "holding").exists, "the stage does not start")
        lock = scratch.folder / ".dhmd" / "locks" / "probe-demo.lock"
        assert try_lock(lock) is None
        pipeline.send_signal(signal.SIGKILL)
        wait_until(lambda: try_lock(lock) is not None, "the stage is still running")
    (scratch.folder / "hold").unlink()
    scratch("dvc", "repro")
    assert scratch.metrics()["inside"] is True


def test_a_temporary_experiment_finds_folders_relative_to_the_repository(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, pipeline=None)
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    recipe = (scratch.folder / "recipes" / "mosi_real.yaml").read_text(encoding="utf-8")
    lines = [line for line in recipe.splitlines() if "sha256:" not in line and "bytes:" not in line]
    (scratch.folder / "recipes" / "mosi_real.yaml").write_text("\n".join(lines) + "\n")
    for line in lines:
        if "path: " in line:
            rows = ("video", np.zeros((2, 1)), np.array([[0.0, 1.0], [1.0, 2.0]]))
            name = line.split()[-1]
            write_sequence(elsewhere / name, root_name="x", entries=[rows], metadata=None)
    scratch.commit("a corpus without pins")
    output = scratch(
        *("dvc", "exp", "run", "--temp", "--name", "elsewhere", "download"),
        *("-S", "datasets=[mosi_real]", "-S", "+data.sources.mosi_real='../else where'"),
    )
    assert "elsewhere" in scratch.experiments(), output
    lock = scratch("git", "show", f"{scratch.experiments()['elsewhere']}:dvc.lock")
    assert "data/raw/mosi_real" in lock
    assert "nfiles: 5" in lock  # four sequences and sources.json
