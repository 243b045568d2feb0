from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from dhmd.tracking.facts import this_process
from dhmd.tracking.journal import Journal, journal_folder, journals
from dhmd.tracking.store import MlflowStore
from dhmd.tracking.sweep import mark_dead_runs, upload_left_journals
from tests.tracking.fakes import training


def leave(home: Path, key: str, **options: object) -> Path:
    """A journal as a process leaves it that is gone."""
    path = journal_folder(home) / f"2026-train-demo-{key}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    events = training(key, **options)  # type: ignore[arg-type]
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return path


def statuses(store: MlflowStore) -> dict[str, str]:
    client = store._client
    runs = [client.get_run(found[""]) for found in store.find({"dataset": "demo"})]
    return {run.data.tags["dhmd.key"]: run.info.status for run in runs}


def test_a_killed_trainings_journal_becomes_a_killed_run(
    store: MlflowStore, workspace: Path
) -> None:
    leave(workspace, "k1", end=None)
    leave(workspace, "k2")
    told: list[str] = []
    left = upload_left_journals(store, workspace, shown=None, tell=told.append)
    assert left == ([], [])
    assert journals(workspace) == []
    assert statuses(store) == {"k1": "KILLED", "k2": "FINISHED"}
    assert [line.rpartition(" ")[2] for line in told] == ["(KILLED)", "(FINISHED)"]


def test_a_living_trainings_journal_is_left_alone(store: MlflowStore, workspace: Path) -> None:
    journal = Journal(workspace, "train", "demo")
    header = training("k1")[0]
    journal.append(**{name: header[name] for name in header if name != "time"})
    upload_left_journals(store, workspace, shown=None, tell=print)
    assert journals(workspace) == [journal.path]
    journal.close()


def test_a_journal_for_another_store_waits_for_retry(store: MlflowStore, workspace: Path) -> None:
    path = leave(workspace, "k1", store="http://server")
    left = upload_left_journals(store, workspace, shown="sqlite:////here", tell=print)
    assert left.elsewhere == [(path, "http://server")]
    assert path.exists()


def test_a_damaged_journal_is_named_and_does_not_stop_the_others(
    store: MlflowStore, workspace: Path
) -> None:
    damaged = leave(workspace, "k1")
    damaged.write_text("{}\n")
    leave(workspace, "k2")
    left = upload_left_journals(store, workspace, shown=None, tell=print)
    assert len(left.problems) == 1
    assert str(damaged) in left.problems[0]
    assert statuses(store) == {"k2": "FINISHED"}
    assert journals(workspace) == [damaged]


def test_a_headless_journal_is_refused(store: MlflowStore, workspace: Path) -> None:
    path = leave(workspace, "k1")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    left = upload_left_journals(store, workspace, shown=None, tell=print)
    assert len(left.problems) == 1
    assert path.name in left.problems[0]


@pytest.mark.parametrize("alive", [True, False])
def test_a_running_run_without_process_and_journal_is_marked(
    store: MlflowStore, workspace: Path, alive: bool
) -> None:
    child = subprocess.Popen(["sleep", "60"])
    start = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[19]
    tag = str(replace(this_process(), pid=child.pid, start=start))
    store.create("train demo", {"dhmd.key": "k9", "dhmd.process": tag}, 1, None)
    store.create("somebody's own run", {}, 1, None)
    try:
        if not alive:
            child.kill()
            child.wait()
        assert mark_dead_runs(store, workspace) == ([] if alive else ["train demo"])
        names = {run.name for run in store.running()}
        assert ("train demo" in names) == alive
        assert "somebody's own run" in names
    finally:
        child.kill()
        child.wait()
