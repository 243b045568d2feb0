"""Learners with one parameter per member, whose training can be computed by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dhmd.models.batch import EnsembleBatch
from dhmd.models.learner import Learner
from dhmd.models.members import Members
from dhmd.models.task import Task
from dhmd.training.checkpoint import CHECKPOINT
from dhmd.training.config import TrainConfig
from dhmd.training.device_corpus import DeviceCorpus
from dhmd.training.observer import NOBODY, Observer
from dhmd.training.trainer import Trainer

CPU = torch.device("cpu")
ROWS = 16


class Walker(Learner):
    """Predicts its parameter, which each update moves by the learning rate.

    Args:
        direction: per member, +1 or −1: the direction of the updates.
        spoil: a term to add to the loss (NaN, say), from the parameters.
    """

    def __init__(
        self, direction: Sequence[float], spoil: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        self.task = Task()
        self.direction_E = torch.tensor(direction)
        self.place_E = nn.Parameter(torch.zeros(len(direction)))
        self.spoil = spoil or torch.zeros_like
        self.calls = 0

    def predict(self, batch: EnsembleBatch) -> Tensor:
        return self.place_E[:, None, None].expand(-1, batch.labels_EB.shape[1], 1)

    def losses(self, batch: EnsembleBatch) -> dict[str, Tensor]:
        self.calls += 1
        total = -self.place_E * self.direction_E + self.spoil(self.place_E)
        return {"total": total, "task": total * 2}


class Watcher(Observer):
    """Stores all events."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.begun: list[tuple[str, tuple[str, ...], int]] = []
        self.epochs: list[tuple[int, dict[str, dict[str, float]]]] = []
        self.outputs: list[Path] = []
        self.stop_after = stop_after

    def started(
        self,
        stage: str,
        members: Sequence[str],
        parameters: Mapping[str, object],
        resumed_epoch: int,
    ) -> None:
        self.begun.append((stage, tuple(members), resumed_epoch))

    def epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        self.epochs.append((epoch, {name: dict(row) for name, row in rows.items()}))
        if len(self.epochs) == self.stop_after:
            raise KeyboardInterrupt

    def finished(self, outputs: Path) -> None:
        self.outputs.append(outputs)


def schedule(**changes: Any) -> TrainConfig:
    settings = {
        "epochs": 12,
        "batch_size": ROWS,
        "lr": 0.1,
        "plateau_patience": 1,
        "early_stop": 4,
        "clip_value": 1.0,
        "average": 0.0,
        "buckets": 1,
    }
    return TrainConfig(**{**settings, **changes})


def trainer_of(
    learner: Walker, label: float, folder: Path, observer: Observer = NOBODY, **plan: Any
) -> Trainer:
    """Build a trainer on sixteen train and four validation utterances, all with one label and step.

    Members are `seed-1`, `seed-2`, …; `folder` is where the trainer saves its progress.
    """
    count, members = ROWS + 4, range(1, len(learner.direction_E) + 1)
    lengths = {"text": np.ones(count, dtype=np.int64)}
    values = {"text": np.ones((count, 1), np.float32)}
    folder.mkdir()
    return Trainer(
        learner,
        Members(members, CPU),
        DeviceCorpus(lengths, values, np.full(count, label), CPU, together=True),
        names=[f"seed-{member}" for member in members],
        train=schedule(**plan),
        train_rows=np.arange(ROWS),
        valid_rows=np.arange(ROWS, count),
        observer=observer,
        checkpoint=folder / CHECKPOINT,
    )
