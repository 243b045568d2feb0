"""Observers: the order of events, and the lines of the log."""

from __future__ import annotations

import math
import re
from pathlib import Path
from unittest.mock import Mock, call

import pytest

from dhmd.training.observer import LogObserver, ManyObservers, Observer, TrainingInfo

TRAINING = TrainingInfo("train", ["seed-1", "seed-2"], {"a": 1}, resumed_epoch=3)
ROWS = {"seed-1": {"valid/mae": 1.0}}


def send_events(observer: Observer) -> None:
    observer.on_start(TRAINING)
    observer.on_epoch(4, ROWS)
    observer.on_finish(Path("models/demo"))


def test_events_reach_all_observers_in_order() -> None:
    mock = Mock()
    send_events(ManyObservers(mock.first, Observer(), mock.second))
    assert mock.mock_calls == [
        call.first.on_start(TRAINING),
        call.second.on_start(TRAINING),
        call.first.on_epoch(4, ROWS),
        call.second.on_epoch(4, ROWS),
        call.first.on_finish(Path("models/demo")),
        call.second.on_finish(Path("models/demo")),
    ]


def test_the_log_has_one_line_per_epoch() -> None:
    lines: list[str] = []
    observer = LogObserver(lines.append)
    observer.on_start(TrainingInfo("train", ["seed-1", "seed-2", "seed-3"]))
    observer.on_epoch(
        7,
        {
            "seed-1": {"train/task": 1.0, "valid/mae": 0.5, "valid/corr": 0.1},
            "seed-3": {"train/task": 2.0, "valid/mae": math.nan},
        },
    )
    (line,) = lines
    pattern = r"train: epoch   7  train/task 1\.5000  valid/mae 0\.5000  2 of 3 seeds  \d+\.\d s"
    assert re.fullmatch(pattern, line)


@pytest.mark.parametrize(
    ("members", "rows", "text"),
    [
        (["seed-1", "seed-2"], ["seed-1", "seed-2"], "2 seeds"),
        (["seed-4"], ["seed-4"], "1 seed"),
        (["seed-1", "seed-2"], ["text/seed-1", "text/seed-2"], "text, 2 seeds"),
        (["a/seed-1", "b/seed-1", "c/seed-1"], ["b/seed-1"], "variant 2 of 3, 1 seed"),
        (
            [f"{name}/seed-{seed}" for name in "abc" for seed in (1, 2)],
            ["a/seed-1", "c/seed-1"],
            "variants 1, 3 of 3, 1 of 2 seeds",
        ),
        (
            [f"{name}/seed-{seed}" for name in "abcd" for seed in (1, 2)],
            [f"{name}/seed-{seed}" for name in "acd" for seed in (1, 2)],
            "variants 1, 3-4 of 4, 2 seeds",
        ),
    ],
)
def test_the_log_names_variants_and_seeds(members: list[str], rows: list[str], text: str) -> None:
    lines: list[str] = []
    observer = LogObserver(lines.append)
    observer.on_start(TrainingInfo("ablate", members))
    observer.on_epoch(1, {name: {} for name in rows})
    assert f"  {text}  " in lines[0]


def test_the_log_names_the_resumed_epoch() -> None:
    lines: list[str] = []
    send_events(LogObserver(lines.append))
    assert lines[0] == "train: resumed after epoch 3"
    assert len(lines) == 2


def test_a_mean_without_finite_values_is_nan() -> None:
    lines: list[str] = []
    observer = LogObserver(lines.append)
    observer.on_epoch(1, {"seed-1": {"train/total": math.inf}})
    assert "train/total nan" in lines[0]


def test_the_log_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    send_events(LogObserver())
    captured = capsys.readouterr()
    assert captured.out == ""
    assert len(captured.err.splitlines()) == 2
