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


class Watcher:
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


def one_label(label: float) -> DeviceCorpus:
    """Make sixteen train and four validation utterances, all with one label and one step."""
    count = ROWS + 4
    lengths = {"text": np.ones(count, dtype=np.int64)}
    values = {"text": np.ones((count, 1), np.float32)}
    return DeviceCorpus(lengths, values, np.full(count, label), CPU, together=True)


def trainer_of(
    learner: Learner,
    corpus: DeviceCorpus,
    folder: Path,
    *,
    seeds: Sequence[int],
    plan: TrainConfig,
    observer: Watcher | None = None,
    members: Members | None = None,
) -> Trainer:
    """Build a trainer on such a corpus; it saves its progress in `folder`."""
    members = members or Members(seeds, CPU)
    folder.mkdir(exist_ok=True)
    return Trainer(
        learner,
        members,
        corpus,
        names=[f"seed-{seed}" for seed in seeds],
        train=plan,
        train_rows=np.arange(ROWS),
        valid_rows=np.arange(ROWS, ROWS + 4),
        uses_EN=np.ones((len(seeds), ROWS + 4), np.float32),
        observer=observer or Watcher(),
        checkpoint=folder / CHECKPOINT,
    )
