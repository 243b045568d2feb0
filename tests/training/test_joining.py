"""Events of several processes in one order."""

from __future__ import annotations

from dhmd.training.joining import EpochJoin
from tests.training.learners import Watcher


def joins() -> tuple[Watcher, EpochJoin]:
    watcher = Watcher()
    return watcher, EpochJoin(watcher, ["a", "b", "c"], 2)


def told(watcher: Watcher) -> list[tuple[int, list[str]]]:
    return [(epoch, list(rows)) for epoch, rows in watcher.epochs]


def test_an_epoch_is_told_once_all_have_done_it() -> None:
    watcher, join = joins()
    join.epoch(0, 1, {"a": {"lr": 1.0}, "c": {"lr": 3.0}})
    join.epoch(0, 2, {"a": {}, "c": {}})
    assert watcher.epochs == []
    join.epoch(1, 1, {"b": {"lr": 2.0}})
    assert watcher.epochs == [(1, {"a": {"lr": 1.0}, "b": {"lr": 2.0}, "c": {"lr": 3.0}})]
    assert list(watcher.epochs[0][1]) == ["a", "b", "c"]
    join.epoch(1, 2, {"b": {}})
    assert told(watcher)[1:] == [(2, ["a", "b", "c"])]


def test_who_has_ended_is_not_waited_for() -> None:
    watcher, join = joins()
    join.epoch(1, 1, {"b": {}})
    join.ended(1)
    for epoch in (1, 2, 3):
        join.epoch(0, epoch, {"a": {}})
    assert told(watcher) == [(1, ["a", "b"]), (2, ["a"]), (3, ["a"])]
    join.ended(0)


def test_what_was_resumed_later_goes_on_from_its_own_epoch() -> None:
    watcher, join = joins()
    join.epoch(0, 6, {"a": {}})
    join.epoch(1, 5, {"b": {}})
    assert told(watcher) == [(5, ["b"])]
    join.epoch(1, 6, {"b": {}})
    assert told(watcher) == [(5, ["b"]), (6, ["a", "b"])]


def test_an_interrupted_training_tells_what_it_knows() -> None:
    watcher, join = joins()
    join.epoch(0, 1, {"a": {}})
    join.epoch(0, 2, {"a": {}})
    join.interrupted()
    assert told(watcher) == [(1, ["a"]), (2, ["a"])]
