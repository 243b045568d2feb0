from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dhmd.cli import main as dhmd
from dhmd.tracking import TrackingConfig, open_test_log, open_tracker
from dhmd.tracking.destination import resolve_destination
from dhmd.tracking.facts import outputs_md5
from dhmd.tracking.journal import Journal, journals, read_events
from dhmd.tracking.store import MlflowStore, connect
from dhmd.training.observer import Observer, SilentObserver
from tests.tracking.conftest import CONFIG

REPOSITORY = Path(__file__).parents[2]
SEEDS = ["seed-1", "seed-2"]


def train(observer: Observer, outputs: Path, epochs: int = 3) -> None:
    observer.started("train", SEEDS, {"kd": {"lambda": 0.5}}, 0)
    for epoch in range(1, epochs + 1):
        observer.epoch(epoch, {seed: {"valid/mae": 1 / epoch} for seed in SEEDS})
    outputs.mkdir(parents=True, exist_ok=True)
    (outputs / "model.json").write_text("{}")
    observer.finished(outputs)


def runs(store: MlflowStore) -> dict[str, object]:
    (found,) = store.find({"dataset": "demo"})
    return {member: store._client.get_run(run) for member, run in found.items()}


def test_a_training_and_its_test_metrics_reach_mlflow(
    workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outputs = workspace / "models" / "demo"
    with open_tracker(CONFIG, root=workspace, dataset="demo", stage="train", outputs=outputs) as t:
        train(t, outputs)
    with open_test_log(CONFIG, root=workspace, dataset="demo") as record:
        record("train", outputs, {"seed-1": {"mae": 1.0}, "seed-2": {"mae": 3.0}})
    assert caplog.records == []
    assert journals(workspace) == []
    store = connect(resolve_destination(CONFIG, workspace), "dhmd")
    found = runs(store)
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert found[""].data.tags["output_md5"] == outputs_md5(outputs)
    assert found[""].data.metrics["test/mae"] == 2.0
    assert found["seed-2"].data.metrics["test/mae"] == 3.0
    assert found["seed-2"].data.metrics["valid/mae"] == pytest.approx(1 / 3)
    assert found["seed-2"].data.params["kd.lambda"] == "0.5"


def test_a_server_that_is_away_costs_one_warning_and_retry_uploads(
    workspace: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    away = TrackingConfig(uri="http://me:hunter2@127.0.0.1:9")
    outputs = workspace / "models" / "demo"
    with open_tracker(away, root=workspace, dataset="demo", stage="train", outputs=outputs) as t:
        train(t, outputs)
    (warning,) = caplog.messages
    (journal,) = journals(workspace)
    assert str(journal) in warning
    assert "dhmd track --retry" in warning
    assert "hunter2" not in warning + journal.read_text()

    (workspace / "params.yaml").write_text((REPOSITORY / "params.yaml").read_text())
    monkeypatch.chdir(workspace)
    assert dhmd(["track"]) == 0
    assert "was kept for http://127.0.0.1:9" in capsys.readouterr().out
    assert dhmd(["track", "--retry"]) == 0
    assert "uploaded train demo" in capsys.readouterr().out
    assert journals(workspace) == []
    found = runs(connect(resolve_destination(CONFIG, workspace), "dhmd"))
    assert found["seed-1"].info.status == "FINISHED"
    assert len(found) == 3


SCRIPT = """
import sys, time
from pathlib import Path
from dhmd.tracking import TrackingConfig, open_tracker
root = Path(sys.argv[1])
with open_tracker(TrackingConfig(), root=root, dataset=sys.argv[2], stage="train",
                  outputs=root / "models") as tracker:
    tracker.started("train", ["seed-1"], {"a": 1}, 0)
    tracker.epoch(1, {"seed-1": {"valid/mae": 1.0}})
    print("ready", flush=True)
    time.sleep(60)
"""


def test_killed_trainings_are_marked_without_anybodys_help(workspace: Path) -> None:
    trainers = {}
    for number in (signal.SIGKILL, signal.SIGINT):
        trainers[number] = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(workspace), number.name],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            start_new_session=True,
        )
    for number, trainer in trainers.items():
        assert trainer.stdout is not None
        with trainer.stdout:
            assert trainer.stdout.readline() == b"ready\n"
        os.killpg(trainer.pid, number)  # as a terminal's Ctrl-C: all of the trainer's group
        trainer.wait(10)
    deadline = time.monotonic() + 170
    while journals(workspace):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    store = connect(resolve_destination(CONFIG, workspace), "dhmd")
    assert store.running() == []
    killed = store.find({"stage": "train"}, "KILLED")
    assert len(killed) == 2
    assert all(sorted(runs) == ["", "seed-1"] for runs in killed)


def test_disabled_tracking_needs_no_mlflow_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    off = TrackingConfig(enabled=False)
    with open_tracker(off, root=tmp_path, dataset="d", stage="train", outputs=tmp_path) as t:
        assert isinstance(t, SilentObserver)
    with open_test_log(off, root=tmp_path, dataset="d") as record:
        record("train", tmp_path, {})
    assert list(tmp_path.iterdir()) == []


def test_mlflow_missing_costs_one_warning_and_keeps_the_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    outputs = tmp_path / "models"
    with open_tracker(CONFIG, root=tmp_path, dataset="d", stage="train", outputs=outputs) as t:
        train(t, outputs)
    (warning,) = caplog.messages
    assert "mlflow is not installed" in warning
    events, _ = read_events(journals(tmp_path)[0])
    assert [event["event"] for event in events] == [
        "open",
        "started",
        *["epoch"] * 3,
        "finished",
        "ended",
    ]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("bad\nluck"), "FAILED"),
        (KeyboardInterrupt(), "KILLED"),
        (SystemExit(1), "KILLED"),
    ],
)
def test_an_exception_passes_through_and_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: str
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)

    def fail() -> None:
        tracker = open_tracker(CONFIG, root=tmp_path, dataset="d", stage="train", outputs=tmp_path)
        with tracker as observer:
            observer.started("train", SEEDS, {}, 0)
            raise error

    with pytest.raises(type(error)):
        fail()
    events, _ = read_events(journals(tmp_path)[0])
    assert (events[-1]["event"], events[-1]["status"]) == ("ended", status)
    assert events[-1]["tags"] == ({"ended": "bad luck"} if status == "FAILED" else {})


def test_a_folder_that_cannot_be_written_costs_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ".dhmd").write_text("a file where the folder should be")
    outputs = tmp_path / "models"
    with open_tracker(CONFIG, root=tmp_path, dataset="d", stage="train", outputs=outputs) as t:
        train(t, outputs)
    assert len(caplog.messages) == 1
    assert "no run is recorded" in caplog.messages[0]


def test_a_full_disk_costs_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    outputs = tmp_path / "models"
    with open_tracker(CONFIG, root=tmp_path, dataset="d", stage="train", outputs=outputs) as t:
        caplog.clear()
        t._warned = False  # type: ignore[attr-defined]
        os.close(t._journal._descriptor)  # type: ignore[attr-defined]
        t._journal._descriptor = os.open("/dev/full", os.O_WRONLY)  # type: ignore[attr-defined]
        train(t, outputs)
    assert len(caplog.messages) == 1
    assert "No space left on device" in caplog.messages[0]


def test_a_disk_that_is_full_from_the_beginning_costs_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A disk without a free block may have a free name: the journal is there, and takes no line."""

    def full(self: Journal, event: str, **fields: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "append", full)
    outputs = tmp_path / "models"
    with open_tracker(CONFIG, root=tmp_path, dataset="d", stage="train", outputs=outputs) as t:
        train(t, outputs)
    assert len(caplog.messages) == 1
    assert "No space left on device" in caplog.messages[0]
    assert journals(tmp_path) == []


def test_a_temporary_copy_records_in_the_users_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "x"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("DVC_EXP_NAME", "lobar-hull")
    with open_tracker(CONFIG, root=copy, dataset="d", stage="train", outputs=copy / "m") as t:
        train(t, copy / "m")
    (journal,) = journals(tmp_path)
    events, _ = read_events(journal)
    assert events[0]["tags"]["DVC_EXP_NAME"] == "lobar-hull"
    assert events[-1]["tags"]["experiments"] == "lobar-hull"
    assert journals(copy) == []


def test_observing_costs_the_training_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the trainer itself pays for 5 seeds and 40 epochs; the upload goes on beside it.
    monkeypatch.setitem(sys.modules, "mlflow", None)
    rows = {f"seed-{seed}": {f"train/loss{i}": 0.5 for i in range(12)} for seed in range(5)}
    with open_tracker(CONFIG, root=tmp_path, dataset="d", stage="train", outputs=tmp_path) as t:
        t.started("train", list(rows), {f"p{i}": i for i in range(100)}, 0)
        began = time.process_time()
        for epoch in range(40):
            t.epoch(epoch, rows)
        assert time.process_time() - began < 0.4
