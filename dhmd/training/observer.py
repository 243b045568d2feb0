"""Who watches a training: the one door between the trainer and logs, tracking and clusters."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tqdm import tqdm


class Observer(Protocol):
    """Told what happens in a training, and never able to change it.

    A member is named `seed-1`, or `no_distillation/seed-1` where it trains a variant. One observer
    may see several trainings one after another (an ablation has one a shape of model).
    """

    def started(
        self,
        stage: str,
        members: Sequence[str],
        parameters: Mapping[str, object],
        resumed_epoch: int,
    ) -> None:
        """Before the first epoch; `resumed_epoch` epochs are done already (0: none; where a stage
        trains several parts one after another or at once, of the one that was saved last).

        `parameters` may nest; they are what distinguishes this training from another.
        """

    def epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        """After an epoch: member -> metric name (`train/task`, `valid/mae`) -> value.

        Only members that still train have a row, and `text/seed-1` is the part `text` of the
        training of `seed-1`. Values may be NaN.
        """

    def finished(self, outputs: Path) -> None:
        """After the training wrote its artefacts to the folder `outputs`."""


class SilentObserver:
    """Sees everything and says nothing."""

    def started(
        self,
        stage: str,
        members: Sequence[str],
        parameters: Mapping[str, object],
        resumed_epoch: int,
    ) -> None:
        """Nothing to do."""

    def epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        """Nothing to do."""

    def finished(self, outputs: Path) -> None:
        """Nothing to do."""


class ManyObservers:
    """Tells several observers, in their order."""

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
    # tqdm.write, so that a progress bar on the same terminal is not torn apart.
    tqdm.write(line, file=sys.stderr)


class LogObserver:
    """One line an epoch: epoch, mean train loss, mean validation score, live members, seconds."""

    def __init__(self, write: Callable[[str], None] = _to_stderr) -> None:
        self._write = write
        self._stage = ""
        self._members = 0
        self._then = time.monotonic()

    def started(
        self,
        stage: str,
        members: Sequence[str],
        parameters: Mapping[str, object],
        resumed_epoch: int,
    ) -> None:
        self._stage, self._members = stage, len(members)
        self._then = time.monotonic()
        if resumed_epoch:
            self._write(f"{stage}: resumed after epoch {resumed_epoch}")

    def epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        now = time.monotonic()
        parts = [f"{self._stage}: epoch {epoch:3d}"]
        parts += _mean_of(LOSS_NAMES, rows) + _mean_of(SCORE_NAMES, rows)
        parts += [f"live {len(rows)}/{self._members}", f"{now - self._then:.1f} s"]
        self._write("  ".join(parts))
        self._then = now

    def finished(self, outputs: Path) -> None:
        self._write(f"{self._stage}: wrote {outputs}")


def _mean_of(names: Sequence[str], rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    """The first of `names` that any row has, as `name mean` over its finite values."""
    for name in names:
        values = [row[name] for row in rows.values() if name in row]
        if values:
            finite = [value for value in values if math.isfinite(value)]
            mean = sum(finite) / len(finite) if finite else math.nan
            return [f"{name} {mean:.4f}"]
    return []
