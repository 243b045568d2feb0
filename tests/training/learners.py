"""A learner whose training can be computed by hand, and an observer that records events."""

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
from dhmd.training.observer import NULL_OBSERVER, Observer, TrainingInfo
from dhmd.training.trainer import Trainer

CPU = torch.device("cpu")
ROWS = 16


class DriftingLearner(Learner):
    """Predicts its only parameter, which each update moves by the learning rate.

    Args:
        direction: +1 or −1 per member, the direction of the updates.
        extra_loss: a function from the parameters to a further term of the loss.
    """

    def __init__(
        self, direction: Sequence[float], extra_loss: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        self.task = Task()
        self.direction_E = torch.tensor(direction)
        self.position_E = nn.Parameter(torch.zeros(len(direction)))
        self.extra_loss = extra_loss or torch.zeros_like

    def predict(self, batch: EnsembleBatch) -> Tensor:
        return self.position_E[:, None, None].expand(-1, batch.labels_EB.shape[1], 1)

    def losses(self, batch: EnsembleBatch) -> dict[str, Tensor]:
        total = -self.position_E * self.direction_E + self.extra_loss(self.position_E)
        return {"total": total, "task": total * 2}


class Recorder(Observer):
    """Stores all events, and interrupts the training after `stop_after` epochs."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.starts: list[tuple[str, tuple[str, ...], int]] = []  # stage, members, resumed epoch
        self.epochs: list[tuple[int, dict[str, dict[str, float]]]] = []
        self.outputs: list[Path] = []
        self.stop_after, self.resumed_epoch = stop_after, 0

    def on_start(self, training: TrainingInfo) -> None:
        self.starts.append((training.stage, tuple(training.members), training.resumed_epoch))
        self.resumed_epoch = training.resumed_epoch

    def on_epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        self.epochs.append((epoch, {name: dict(row) for name, row in rows.items()}))
        if len(self.epochs) == self.stop_after:
            raise KeyboardInterrupt

    def on_finish(self, outputs: Path) -> None:
        self.outputs.append(outputs)


def train_config(**changes: Any) -> TrainConfig:
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
    learner: DriftingLearner,
    label: float,
    folder: Path,
    observer: Observer = NULL_OBSERVER,
    **changes: Any,
) -> Trainer:
    """Build a trainer on 16 train and 4 validation utterances of one step, all with this label.

    Members are `seed-1`, `seed-2`, …; the trainer writes its checkpoint into `folder`.
    """
    count, members = ROWS + 4, range(1, len(learner.direction_E) + 1)
    lengths = {"text": np.ones(count, dtype=np.int64)}
    values = {"text": np.ones((count, 1), np.float32)}
    folder.mkdir()
    return Trainer(
        learner,
        Members(members, CPU),
        DeviceCorpus(lengths, values, np.full(count, label), CPU, same_steps=True),
        names=[f"seed-{member}" for member in members],
        train=train_config(**changes),
        train_rows=np.arange(ROWS),
        valid_rows=np.arange(ROWS, count),
        observer=observer,
        checkpoint=folder / CHECKPOINT,
    )
