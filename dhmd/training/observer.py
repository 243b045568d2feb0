"""Observers receive the events of a training, for logs and for tracking."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm


@dataclass(frozen=True)
class TrainingInfo:
    """Description of a training that starts.

    Attributes:
        stage: the name of the stage.
        members: the names of the ensemble members: `seed-1`, or `no_distillation/seed-1` if the
            member trains a variant.
        parameters: the settings, by section of params.yaml; values may be nested.
        resumed_epoch: the last epoch of the latest checkpoint; 0 if there is none.
    """

    stage: str
    members: Sequence[str]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    resumed_epoch: int = 0


class Observer:
    """Base class of the receivers of a training's events; ignores all events."""

    def on_start(self, training: TrainingInfo) -> None:
        """Called before the first epoch."""

    def on_epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        """Called after an epoch.

        An ablation trains variants of different structure one after the other, so an epoch may be
        reported more than once, with other members.

        Args:
            rows: values by member and metric (`train/task`, `valid/mae`), for the members that
                still train; they may be NaN. In pretraining, member `text/seed-1` is the encoder
                of modality `text`.
        """

    def on_finish(self, outputs: Path) -> None:
        """Called after the training wrote its outputs to the folder `outputs`."""


NULL_OBSERVER = Observer()  # ignores all events


class ManyObservers(Observer):
    """Forwards every event to several observers, in order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def on_start(self, training: TrainingInfo) -> None:
        for observer in self._observers:
            observer.on_start(training)

    def on_epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        for observer in self._observers:
            observer.on_epoch(epoch, rows)

    def on_finish(self, outputs: Path) -> None:
        for observer in self._observers:
            observer.on_finish(outputs)


# The log shows the first metric of each group that the rows have.
LOSS_NAMES = ("train/total", "train/loss", "train/task")
SCORE_NAMES = ("valid/mae", "valid/f1", "valid/f1_weighted", "valid/accuracy")


def _to_stderr(line: str) -> None:
    # tqdm.write does not break a progress bar on the same terminal.
    tqdm.write(line, file=sys.stderr)


class LogObserver(Observer):
    """Writes one line per epoch: epoch, mean train loss, mean validation score, seeds, seconds."""

    def __init__(self, write: Callable[[str], None] = _to_stderr) -> None:
        self._write = write
        self._stage = "training"
        self._variants: list[str] = []
        self._seeds = 0
        self._epoch_start = time.monotonic()

    def on_start(self, training: TrainingInfo) -> None:
        self._stage, self._epoch_start = training.stage, time.monotonic()
        self._variants, self._seeds = _variants(training.members), _num_seeds(training.members)
        if training.resumed_epoch:
            self._write(f"{training.stage}: resumed after epoch {training.resumed_epoch}")

    def on_epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        now = time.monotonic()
        columns = [f"{self._stage}: epoch {epoch:3d}"]
        columns += _mean_of(LOSS_NAMES, rows) + _mean_of(SCORE_NAMES, rows)
        columns += [self._members(list(rows)), f"{now - self._epoch_start:.1f} s"]
        self._write("  ".join(columns))
        self._epoch_start = now

    def _members(self, members: Sequence[str]) -> str:
        """Describe the members: `variant 1 of 2, 5 seeds`, `text, 5 seeds`, `3 of 5 seeds`."""
        variants, seeds = _variants(members), _num_seeds(members)
        text = f"{seeds} of {self._seeds} seeds" if seeds < self._seeds else f"{seeds} seeds"
        if seeds == self._seeds == 1:
            text = "1 seed"
        if len(self._variants) > 1 and set(variants) <= set(self._variants):
            numbers = sorted(self._variants.index(variant) + 1 for variant in variants)
            names = f"variant{'s' * (len(numbers) > 1)} {_ranges(numbers)}"
            return f"{names} of {len(self._variants)}, {text}"
        return ", ".join([*filter(None, variants), text])


def _variants(members: Sequence[str]) -> list[str]:
    """Return the variants or modalities in members' names, in order; "" is the full model."""
    return list(dict.fromkeys(member.rpartition("/")[0] for member in members))


def _num_seeds(members: Sequence[str]) -> int:
    return len({member.rpartition("/")[2] for member in members})


def _ranges(numbers: Sequence[int]) -> str:
    """Format sorted numbers as `1, 3-5`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _mean_of(names: Sequence[str], rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return `name mean` for the first of the metrics that any row has; [] if there is none.

    The mean is over finite values.
    """
    for name in names:
        values = [row[name] for row in rows.values() if name in row]
        if values:
            finite = [value for value in values if math.isfinite(value)]
            mean = sum(finite) / len(finite) if finite else math.nan
            return [f"{name} {mean:.4f}"]
    return []
