from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhmd.tracking.replay import METRICS_PER_CALL, Replay, StoreError, replay_file
from tests.tracking.fakes import FakeStore, training


def feed(store: FakeStore, events: Iterable[dict[str, Any]]) -> list[str]:
    told: list[str] = []
    replay = Replay(store, told.append)
    for event in events:
        replay.feed(event)
    replay.flush()
    return told


def test_a_training_is_a_parent_run_with_a_child_a_seed() -> None:
    store = FakeStore()
    feed(store, training(tags={"machine": "m"}))
    parent, child = store.named("train demo"), store.named("seed-2")
    assert child.parent is not None
    assert store.runs[child.parent] is parent
    assert parent.name.startswith("train demo · 19")
    assert {run.status for run in store.runs.values()} == {"FINISHED"}
    assert child.tags["seed"] == "2"
    assert child.tags["machine"] == parent.tags["machine"] == "m"
    assert parent.tags["output_md5"] == "md5-k1.dir"
    assert (child.ended, parent.ended) == (9000, 9500)
    assert parent.parameters == {"kd.lambda": "0.5"}
    assert child.parameters == {"kd.lambda": "0.5", "seed": "2"}


def test_metrics_go_to_the_child_and_their_mean_to_the_parent() -> None:
    store = FakeStore()
    feed(store, training())
    task = {(p.step, p.time, p.value) for p in store.named("seed-2").points if "task" in p.name}
    assert task == {(1, 1500, 21.0), (2, 2000, 22.0)}
    parent = store.named("train demo")
    assert parent.last("train/task") == (12 + 22) / 2
    assert parent.last("run/live_members") == 2
    assert parent.last("run/epoch_seconds") == 0.5


def test_variants_are_named_and_not_averaged_over_each_other() -> None:
    store = FakeStore()
    feed(store, training(stage="ablate", members=["uniform/seed-1", "late_fusion/seed-1"]))
    child = store.named("uniform/seed-1")
    assert (child.tags["variant"], child.tags["seed"]) == ("uniform", "1")
    # The parameters of the full model would be wrong on a variant's run.
    assert child.parameters == {"variant": "uniform", "seed": "1"}
    assert store.named("ablate demo").points == set()


def test_a_part_of_a_members_training_is_a_prefix_of_its_metrics() -> None:
    store = FakeStore()
    events = training(stage="pretrain", epochs=())
    for time, part in ((2000, "text"), (3000, "audio")):
        rows = {f"{part}/seed-{seed}": {"valid/mae": float(seed)} for seed in (1, 2)}
        events.insert(-2, {"event": "epoch", "time": time, "epoch": 1, "rows": rows})
    events.insert(-2, {"event": "epoch", "time": 4000, "epoch": 1, "rows": {"foreign": {"x": 1.0}}})
    feed(store, events)
    assert len(store.runs) == 3
    names = {point.name: point.value for point in store.named("seed-2").points}
    assert names == {"text/valid/mae": 2.0, "audio/valid/mae": 2.0}
    parent = store.named("pretrain demo")
    assert parent.last("text/valid/mae") == 1.5
    assert parent.last("audio/run/live_members") == 2
    assert parent.last("audio/run/epoch_seconds") == 1.0
    assert not any("x" in point.name.split("/") for point in parent.points)


def test_several_trainings_of_one_stage_share_the_parent() -> None:
    store = FakeStore()
    first = training(stage="ablate", members=["a/seed-1"], end=None)
    second = training(stage="ablate", members=["b/seed-1"])
    feed(store, [*first, {"event": "finished", "time": 5000}, *second[1:]])
    assert len(store.runs) == 3
    assert store.named("a/seed-1").ended == 5000
    assert store.named("ablate demo").ended == 9500


def test_the_experiments_name_is_in_the_runs() -> None:
    store = FakeStore()
    feed(store, training(tags={"DVC_EXP_NAME": "lobar-hull"}))
    assert store.named("train demo · lobar-hull · ")


def test_a_journal_without_an_end_is_a_killed_run(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    lines = [json.dumps(event) for event in training(epochs=(1, 2, 3), end=None)]
    path.write_text("\n".join(lines) + '\n{"event": "epo')
    store = FakeStore()
    assert replay_file(store, path, print).endswith("(KILLED)")
    assert {run.status for run in store.runs.values()} == {"KILLED"}
    parent = store.named("train demo")
    assert parent.tags["ended"] == "killed after epoch 3"
    assert parent.ended == 2500
    assert store.named("seed-1").last("train/task") == 13


def test_no_run_appears_for_a_training_that_never_started(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(training()[0]) + "\n")
    store = FakeStore()
    replay_file(store, path, print)
    assert store.runs == {}


@given(failures=st.lists(st.integers(0, 25), max_size=4))
def test_an_upload_that_breaks_off_anywhere_gives_the_same_runs(failures: list[int]) -> None:
    whole, broken = FakeStore(), FakeStore()
    feed(whole, training())
    for failure in failures:  # each time a new process that starts from the first line
        broken.fail_at = failure
        try:
            feed(broken, training())
        except StoreError:
            continue
    broken.fail_at = None
    feed(broken, training())
    assert broken.runs == whole.runs


def test_feeding_again_what_failed_loses_nothing() -> None:
    whole, store = FakeStore(), FakeStore()
    feed(whole, training())
    replay = Replay(store, print)
    for number, event in enumerate(training()):
        store.fail_at = number % 4
        until_it_works(lambda event=event: replay.feed(event))
        until_it_works(replay.flush)
    assert store.runs == whole.runs


def until_it_works(action: Callable[[], None]) -> None:
    for _ in range(3):
        try:
            action()
            return
        except StoreError:
            continue
    raise AssertionError("it never worked")


def test_no_call_carries_more_than_mlflow_takes() -> None:
    store = FakeStore()
    event = training()[2]
    event["rows"] = {"seed-1": {f"m{number}": 1.0 for number in range(2500)}}
    feed(store, [*training()[:2], event])
    assert store.largest == METRICS_PER_CALL
    assert len(store.named("seed-1").points) == 2500


def killed_store(tmp_path: Path, key: str = "k1") -> FakeStore:
    store = FakeStore()
    path = tmp_path / "x.jsonl"
    killed = training(key, epochs=(1, 2), end=None, tags={"dhmd.process": "old"})
    path.write_text("".join(json.dumps(event) + "\n" for event in killed))
    replay_file(store, path, print)
    return store


def test_a_resumed_training_goes_on_in_the_killed_ones_runs(tmp_path: Path) -> None:
    store = killed_store(tmp_path)
    tags = {"dhmd.process": "new"}
    events = training("k2", epochs=(3, 4), resumed=2, tags=tags)
    feed(store, events)
    feed(store, events)
    assert len(store.runs) == 3
    parent, child = store.named("train demo"), store.named("seed-1")
    assert {point.step for point in child.points} == {1, 2, 3, 4}
    assert (parent.status, child.status) == ("FINISHED", "FINISHED")
    assert parent.tags["resumed_after_epoch"] == "2"
    assert parent.tags["ended"] == ""
    assert child.tags["dhmd.process"] == "new"


def test_a_training_killed_while_it_wrote_its_outputs_is_finished_later(tmp_path: Path) -> None:
    store = killed_store(tmp_path)
    feed(store, training("k2", epochs=(), resumed=2))
    assert len(store.runs) == 3
    assert {run.status for run in store.runs.values()} == {"FINISHED"}
    assert store.named("train demo").tags["output_md5"] == "md5-k2.dir"


def test_a_training_killed_twice_says_after_which_epoch(tmp_path: Path) -> None:
    store = killed_store(tmp_path)
    again = training("k2", epochs=(), resumed=2)[:2]
    feed(store, [*again, {"event": "ended", "time": 5000, "status": "KILLED", "tags": {}}])
    assert len(store.runs) == 3
    assert store.named("train demo").tags["ended"] == "killed after epoch 2"


@pytest.mark.parametrize(
    "options", [{}, {"members": ["seed-1"], "resumed": 2}, {"stage": "pretrain", "resumed": 2}]
)
def test_a_fresh_start_or_another_training_is_another_run(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    store = killed_store(tmp_path)
    feed(store, training("k2", **options))
    parents = [run for run in store.runs.values() if run.parent is None]
    assert [run.status for run in parents] == ["KILLED", "FINISHED"]


class TestTestMetrics:
    def rows(self, md5: str = "md5-k1.dir", **rows: dict[str, float]) -> list[dict[str, Any]]:
        named = {name.replace("_", "-"): row for name, row in rows.items()}
        test = {"event": "test", "time": 20_000, "stage": "train", "md5": md5, "rows": named}
        header = training("other", stage="evaluate")[0]
        return [header, test, {"event": "ended", "time": 21_000, "status": "FINISHED", "tags": {}}]

    def test_they_join_the_run_with_those_outputs(self) -> None:
        store = FakeStore()
        feed(store, training("k1"))
        feed(store, training("k2"))
        feed(store, self.rows(seed_1={"mae": 1.0}, seed_2={"mae": 2.0}))
        first, second = [run for run in store.runs.values() if run.parent is None]
        assert first.last("test/mae") == 1.5
        assert first.last("test/mae_std") == pytest.approx(math.sqrt(0.5))
        assert not any("test" in point.name for point in second.points)
        children = [run for run in store.runs.values() if run.name == "seed-2"]
        assert children[0].last("test/mae") == 2.0
        assert {run.status for run in store.runs.values()} == {"FINISHED"}

    def test_an_undefined_metric_is_not_averaged_over(self) -> None:
        store = FakeStore()
        feed(store, training("k1"))
        feed(store, self.rows(seed_1={"corr": math.nan}, seed_2={"corr": 0.5}))
        parent = store.named("train demo")
        assert math.isnan(parent.last("test/corr"))
        assert not any(point.name == "test/corr_std" for point in parent.points)

    def test_without_such_a_run_it_is_said_and_nothing_is_made(self) -> None:
        store = FakeStore()
        feed(store, training("k1"))
        before = len(store.runs)
        (told,) = feed(store, self.rows("another.dir", seed_1={"mae": 1.0}))
        assert "belong to no run" in told
        assert len(store.runs) == before
