"""Learners of one number, whose way through a training can be told in advance."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from dhmd.models.batch import Batch
from dhmd.models.stacked.members import Members
from dhmd.models.task import Task
from dhmd.training.checkpoint import CheckpointDirectory
from dhmd.training.device_corpus import DeviceCorpus
from dhmd.training.trainer import Schedule, Trainer

CPU = torch.device("cpu")
ROWS = 16


class Walker(nn.Module):
    """Predicts one number for all, and moves it a learning rate an update.

    Args:
        direction: a member each, +1 or −1: where the number goes.
        spoil: from epoch and member's number to what is added to the loss (NaN, say).
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

    def predict(self, batch: Batch) -> Tensor:
        return self.place_E[:, None, None].expand(-1, batch.labels_EB.shape[1], 1)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        self.calls += 1
        total = -self.place_E * self.direction_E + self.spoil(self.place_E)
        return {"total": total, "task": total * 2}


class Watcher:
    """Keeps what it is told."""

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


def schedule(**changes: float) -> Schedule:
    values = {
        "epochs": 12,
        "batch_size": ROWS,
        "accumulate": 1,
        "lr": 0.1,
        "weight_decay": 0.0,
        "plateau_patience": 1,
        "plateau_factor": 0.5,
        "early_stop": 4,
        "clip_value": 1.0,
        "modality_dropout": 0.0,
        "average": 0.0,
        "buckets": 1,
        "cuda_graph": False,
        **changes,
    }
    return Schedule(**values)  # type: ignore[arg-type]


def one_label(label: float) -> DeviceCorpus:
    """Sixteen utterances to train on and four to select on, all of one label and one step."""
    lengths, count = [np.ones(ROWS + 4, dtype=np.int64)], ROWS + 4
    values = [np.ones((count, 1), np.float32)]
    return DeviceCorpus(lengths, values, np.full(count, label), CPU, together=True)


def trainer_of(
    learner: nn.Module,
    corpus: DeviceCorpus,
    folder: Path,
    *,
    seeds: Sequence[int],
    plan: Schedule,
    observer: Watcher | None = None,
    members: Members | None = None,
) -> Trainer:
    """A trainer on such a corpus; the place is kept below `folder`."""
    members = members or Members(seeds, CPU)
    folder.mkdir(exist_ok=True)
    return Trainer(
        learner,  # type: ignore[arg-type]
        members,
        corpus,
        names=[f"seed-{seed}" for seed in seeds],
        schedule=plan,
        train_rows=np.arange(ROWS),
        valid_rows=np.arange(ROWS, ROWS + 4),
        uses_EN=np.ones((len(seeds), ROWS + 4), np.float32),
        observer=observer or Watcher(),
        state=CheckpointDirectory(folder),
        part="walk",
    )
