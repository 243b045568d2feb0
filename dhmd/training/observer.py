"""Observers receive the events of a training, for logs and tracking."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm


class Observer:
    """Receives the events of a training and cannot change it; this one ignores them.

    An ensemble member is named `seed-1`, or `no_distillation/seed-1` if it trains a variant. One
    observer may see several trainings one after another: an ablation has one per model shape.
    """

    def started(
        self,
        stage: str,
        members: Sequence[str],
        parameters: Mapping[str, object],
        resumed_epoch: int,
    ) -> None:
        """Called before the first epoch.

        Args:
            parameters: the settings of the training; may be nested.
            resumed_epoch: the last epoch of the latest checkpoint; 0 if there is none.
        """

    def epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        """Called after an epoch.

        Args:
            rows: values by member and metric (`train/task`, `valid/mae`), for the members that
                still train. `text/seed-1` pretrains the encoder of modality `text`.
                Values may be NaN.
        """

    def finished(self, outputs: Path) -> None:
        """Called after the training wrote its outputs to the folder `outputs`."""


NOBODY = Observer()


class ManyObservers(Observer):
    """Passes every event to several observers, in their order."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def started(
        self,
        stage: str,
        members: Sequence[str],
        parameters: Mapping[str, object],
        resumed_epoch: int,
    ) -> None:
        for observer in self._observers:
            observer.started(stage, members, parameters, resumed_epoch)

    def epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        for observer in self._observers:
            observer.epoch(epoch, rows)

    def finished(self, outputs: Path) -> None:
        for observer in self._observers:
            observer.finished(outputs)


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
        self._variants: list[str] = []  # of all members, in their order
        self._seeds = 0
        self._then = time.monotonic()

    def started(
        self,
        stage: str,
        members: Sequence[str],
        parameters: Mapping[str, object],
        resumed_epoch: int,
    ) -> None:
        self._stage, self._then = stage, time.monotonic()
        self._variants = list(dict.fromkeys(map(_variant, members)))
        self._seeds = len({member.rpartition("/")[2] for member in members})
        if resumed_epoch:
            self._write(f"{stage}: resumed after epoch {resumed_epoch}")

    def epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        now = time.monotonic()
        words = [f"{self._stage}: epoch {epoch:3d}"]
        words += _mean_of(LOSS_NAMES, rows) + _mean_of(SCORE_NAMES, rows)
        words += [self._members(rows), f"{now - self._then:.1f} s"]
        self._write("  ".join(words))
        self._then = now

    def _members(self, rows: Mapping[str, object]) -> str:
        """Describe the members: `variant 1 of 2, 5 seeds`, `text, 5 seeds`, `3 of 5 seeds`."""
        training = list(dict.fromkeys(map(_variant, rows)))
        seeds = len({member.rpartition("/")[2] for member in rows})
        words = f"{seeds} of {self._seeds} seeds" if seeds < self._seeds else f"{seeds} seeds"
        if seeds == self._seeds == 1:
            words = "1 seed"
        if len(self._variants) > 1 and set(training) <= set(self._variants):
            numbers = sorted(self._variants.index(variant) + 1 for variant in training)
            names = f"variant{'s' * (len(numbers) > 1)} {_ranges(numbers)}"
            return f"{names} of {len(self._variants)}, {words}"
        return ", ".join([*filter(None, training), words])


def _variant(member: str) -> str:
    """Return the variant or modality in a member's name; empty for the full model."""
    return member.rpartition("/")[0]


def _ranges(numbers: Sequence[int]) -> str:
    """Format sorted numbers as `1, 3-5`."""
    words: list[list[int]] = []
    for number in numbers:
        if words and number == words[-1][-1] + 1:
            words[-1].append(number)
        else:
            words.append([number])
    return ", ".join(f"{w[0]}-{w[-1]}" if len(w) > 1 else str(w[0]) for w in words)


def _mean_of(names: Sequence[str], rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Format the first of `names` that any row has as `name mean`, over its finite values."""
    for name in names:
        values = [row[name] for row in rows.values() if name in row]
        if values:
            finite = [value for value in values if math.isfinite(value)]
            mean = sum(finite) / len(finite) if finite else math.nan
            return [f"{name} {mean:.4f}"]
    return []
