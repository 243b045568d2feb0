"""How many workers there are, and what each gets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dhmd.data.aligned import read_corpus
from dhmd.training import workers
from dhmd.training.tasks import Task, pretraining_group, training_group
from dhmd.training.workers import chosen_workers, shares
from tests.training.bench import Bench
from tests.training.corpora import TINY, tiny_configuration

CPU = torch.device("cpu")


def chosen(bench: Bench, *, workers: int | None, threads: int | None = 1, **own: Any) -> int:
    train = replace(TINY.train, workers=workers, threads=threads)
    given = {"device": CPU, "members": 5, "work": 1_000_000, "worth": 15_000, **own}
    return chosen_workers(train, read_corpus(bench.cache()), **given)


def test_as_many_as_cores_members_and_memory_allow(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "usable_cores", lambda: 8)
    monkeypatch.setattr(workers, "installed_memory", lambda: 100 << 30)
    assert chosen(bench, workers=None) == 5
    assert chosen(bench, workers=None, members=30) == 8
    assert chosen(bench, workers=None, members=30, threads=None) == 8
    assert chosen(bench, workers=None, threads=3) == 2
    assert chosen(bench, workers=None, work=14_999) == 1
    assert chosen(bench, workers=None, device=torch.device("cuda")) == 1
    monkeypatch.setattr(workers, "installed_memory", lambda: 4 << 30)
    assert chosen(bench, workers=None) == 3
    monkeypatch.setattr(workers, "installed_memory", lambda: 1 << 20)
    assert chosen(bench, workers=None) == 1
    monkeypatch.setattr(workers, "installed_memory", lambda: None)
    assert chosen(bench, workers=None) == 5
    # What a user writes down counts, as far as there is something to share.
    assert chosen(bench, workers=3, work=0) == 3
    assert chosen(bench, workers=9) == 5
    assert chosen(bench, workers=1) == 1
    assert chosen(bench, workers=3, device=torch.device("cuda")) == 1


def test_shares_are_even_and_in_order() -> None:
    assert shares([1, 2, 3, 4, 5], 2) == [[1, 2, 3], [4, 5]]
    assert shares([1, 2, 3, 4, 5], 3) == [[1, 2], [3, 4], [5]]
    assert shares([1, 2], 4) == [[1], [2]]
    assert shares([1, 2], 1) == [[1, 2]]


def of(task: Task) -> tuple[list[str], list[tuple[int, ...]]]:
    return task.variants, [each.train.seeds for each in task.configurations]


def test_a_stack_is_shared_by_seeds_and_then_by_variants() -> None:
    five = tiny_configuration({"train": {"seeds": (1, 2, 3, 4, 5)}})
    group = training_group({"a": five, "b": five}, Path("p"), 2, with_withheld=True)
    assert [of(task) for task in group.tasks] == [
        (["a", "b"], [(1, 2, 3), (1, 2, 3)]),
        (["a", "b"], [(4, 5), (4, 5)]),
    ]
    assert group.names == [f"{name}/seed-{seed}" for name in "ab" for seed in range(1, 6)]
    group = training_group({"a": TINY, "b": TINY, "c": TINY}, Path("p"), 4, with_withheld=False)
    assert [of(task) for task in group.tasks] == [
        (["a", "b"], [(1,), (1,)]),
        (["a", "b"], [(2,), (2,)]),
        (["c"], [(1,)]),
        (["c"], [(2,)]),
    ]
    group = pretraining_group(five, "audio", 2)
    assert [each.train.seeds for task in group.tasks for each in task.configurations] == [
        (1, 2, 3),
        (4, 5),
    ]
    assert group.names[0] == "audio/seed-1"


def test_a_task_survives_json() -> None:
    (task, _) = training_group({"a": TINY}, Path("p"), 2, with_withheld=True).tasks
    assert Task.from_json(task.as_json()) == task
    (task, _) = pretraining_group(TINY, "text", 2).tasks
    assert Task.from_json(task.as_json()) == task
