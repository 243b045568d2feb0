from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dhmd.tracking import database as database_module
from dhmd.tracking import uploader
from dhmd.tracking.destination import resolve_destination
from dhmd.tracking.journal import Journal
from dhmd.tracking.store import MlflowStore
from dhmd.tracking.uploader import Trainer, Upload, carry
from tests.tracking.conftest import CONFIG
from tests.tracking.fakes import training


@dataclass
class Rig:
    """An uploader in a thread, and the trainer's ends of its pipes."""

    workspace: Path
    journal: Journal
    pipe: int
    told: list[tuple[str, object]] = field(default_factory=list)
    result: list[int] = field(default_factory=list)
    thread: threading.Thread | None = None

    def append(self, *kinds: str, end: str | None = "FINISHED") -> None:
        for event in training("k1", end=end):
            if event["event"] in kinds:
                self.journal.append(**{k: v for k, v in event.items() if k != "time"})

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.told]

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, self.told
            time.sleep(0.02)

    def end(self, word: bytes = b"") -> int:
        os.write(self.pipe, word)
        os.close(self.pipe)
        assert self.thread is not None
        self.thread.join(20)
        return self.result[0]


@pytest.fixture
def rig(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(uploader, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(database_module, "LOCK_SECONDS", 0.1)
    read, write = os.pipe()
    rig = Rig(workspace, Journal(workspace, "train", "demo"), write)
    destination = resolve_destination(CONFIG, workspace)

    def emit(kind: str, value: object) -> None:
        rig.told.append((kind, value))

    upload = Upload(rig.journal.path, workspace, destination, "dhmd", emit)
    rig.thread = threading.Thread(
        target=lambda: rig.result.append(carry(upload, Trainer(read), emit)), daemon=True
    )
    rig.thread.start()
    yield rig
    rig.thread.join(20)
    os.close(read)


def parent(store: MlflowStore) -> object:
    (runs,) = store.find({"dataset": "demo"})
    return store._client.get_run(runs[""])


def test_it_follows_the_training_and_ends_with_it(rig: Rig, store: MlflowStore) -> None:
    rig.append("open", "started")
    rig.wait_for(lambda: len(store.running()) == 3)
    rig.append("epoch", "finished", "ended")
    assert rig.end(b"FINISHED") == 0
    assert rig.told[-1] == ("done", True)
    assert "trouble" not in rig.kinds()
    assert not rig.journal.path.exists()
    run = parent(store)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["train/task"] == (12 + 22) / 2


def test_a_pipe_that_closes_without_a_word_means_killed(rig: Rig, store: MlflowStore) -> None:
    rig.append("open", "started", "epoch")
    assert rig.end() == 0
    assert parent(store).info.status == "KILLED"
    assert parent(store).data.tags["ended"] == "killed after epoch 2"


def test_the_trainers_word_counts_where_its_journal_could_not_be_ended(
    rig: Rig, store: MlflowStore
) -> None:
    rig.append("open", "started")
    assert rig.end(b"FAILED") == 0
    assert parent(store).info.status == "FAILED"


def test_a_lock_is_trouble_until_it_goes(rig: Rig, store: MlflowStore) -> None:
    rig.append("open")
    rig.wait_for(lambda: ("progress", "event") in rig.told)
    other = sqlite3.connect(rig.workspace / "mlflow.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    rig.append("started", "epoch")
    rig.wait_for(lambda: "trouble" in rig.kinds())
    other.execute("ROLLBACK")
    other.close()
    rig.append("finished", "ended")
    assert rig.end(b"FINISHED") == 0
    assert parent(store).info.status == "FINISHED"


def test_a_lock_that_stays_leaves_the_whole_journal(rig: Rig, store: MlflowStore) -> None:
    rig.append("open")
    rig.wait_for(lambda: ("progress", "event") in rig.told)
    other = sqlite3.connect(rig.workspace / "mlflow.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    rig.append("started", "epoch", "finished", "ended")
    assert rig.end(b"FINISHED") == 1
    kind, sentence = rig.told[-1]
    assert kind == "trouble"
    assert "database is locked" in str(sentence)
    assert len(rig.journal.path.read_text().splitlines()) == 6
    other.execute("ROLLBACK")
    other.close()


def test_a_damaged_journal_ends_the_upload(rig: Rig, store: MlflowStore) -> None:
    rig.append("open")
    with open(rig.journal.path, "ab") as stream:
        stream.write(b"garbage\n")
    rig.wait_for(lambda: bool(rig.result))
    assert rig.result == [1]
    assert "is damaged at byte" in str(rig.told[-1][1])
    os.close(rig.pipe)
