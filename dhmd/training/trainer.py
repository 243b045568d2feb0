"""The loop: E members train side by side, each with its own schedule, stopping and best weights.

Nothing syncs with the host within an epoch. Selection is on the validation split; the test split is
not in reach here.

Legend: E members, N utterances, B utterances of a batch, P entries of all parameters.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dhmd.data.aligned.corpus import Array
from dhmd.models.batch import Batch
from dhmd.models.stacked.members import Members
from dhmd.training.batches import EpochPlanner, PlannedBatch, evaluation_batches
from dhmd.training.checkpoint import CheckpointDirectory
from dhmd.training.config import TrainConfig
from dhmd.training.device_corpus import DeviceCorpus
from dhmd.training.graphed import GraphedStep
from dhmd.training.learner import Learner, as_module
from dhmd.training.observer import Observer
from dhmd.training.optimiser import MemberAdam

EVALUATION_BATCH = 64

_log = logging.getLogger(__name__)

# The validation scores by whether the task is a regression; the first one selects.
SCORES = {True: ("mae", "corr"), False: ("loss", "accuracy")}

History = list[tuple[str, int, str, float]]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast: the numbers of `train`, or of `pretrain`."""

    epochs: int
    batch_size: int
    accumulate: int
    lr: float
    weight_decay: float
    plateau_patience: int
    plateau_factor: float
    early_stop: int
    clip_value: float
    modality_dropout: float
    average: float
    buckets: int
    cuda_graph: bool


def schedule_of(train: TrainConfig) -> Schedule:
    """The numbers of section `train` that the trainer needs."""
    return Schedule(
        epochs=train.epochs,
        batch_size=train.batch_size,
        accumulate=train.accumulate,
        lr=train.lr,
        weight_decay=train.weight_decay,
        plateau_patience=train.plateau_patience,
        plateau_factor=train.plateau_factor,
        early_stop=train.early_stop,
        clip_value=train.clip_value,
        modality_dropout=train.modality_dropout,
        average=train.average,
        buckets=train.buckets,
        cuda_graph=train.cuda_graph,
    )


@dataclass
class Progress:
    """Where each member stands; plain lists, so that it can be saved as JSON."""

    rates: list[float]
    best: list[float]
    best_epoch: list[int]
    waited: list[int]
    plateau: list[int]
    stopped: list[bool]
    diverged: list[int | None]
    epoch: int = 0
    history: History = field(default_factory=list)

    @staticmethod
    def start(members: int, lr: float) -> Progress:
        """Before the first epoch."""
        return Progress(
            rates=[lr] * members,
            best=[math.inf] * members,
            best_epoch=[0] * members,
            waited=[0] * members,
            plateau=[0] * members,
            stopped=[False] * members,
            diverged=[None] * members,
        )

    def judge(self, member: int, score: float, schedule: Schedule) -> bool:
        """Take a validation score into account; true when it is the member's best so far."""
        if score < self.best[member]:
            self.best[member], self.best_epoch[member] = score, self.epoch
            self.waited[member] = self.plateau[member] = 0
            return True
        self.waited[member] += 1
        self.plateau[member] += 1
        if self.plateau[member] > schedule.plateau_patience:
            self.rates[member] *= schedule.plateau_factor
            self.plateau[member] = 0
        if self.waited[member] >= schedule.early_stop:
            self.stopped[member] = True
        return False


class Trainer:
    """Trains a learner.

    Args:
        names: one a member, for history and observer.
        train_rows, valid_rows: `[·]` rows of the corpus.
        uses_EN: `[E, N]`, 1 where a member trains on an utterance.
        state: where checkpoints are written, under the name `part`.
        factor, ramped: see MemberAdam.
        warmup: epochs over which the rate of ramped parameters rises from 0.
    """

    def __init__(
        self,
        learner: Learner,
        members: Members,
        corpus: DeviceCorpus,
        *,
        names: Sequence[str],
        schedule: Schedule,
        train_rows: Array,
        valid_rows: Array,
        uses_EN: Array,
        observer: Observer,
        state: CheckpointDirectory,
        part: str,
        factor: Callable[[str], float] = lambda _: 1.0,
        ramped: Callable[[str], bool] = lambda _: False,
        warmup: float = 0.0,
    ) -> None:
        self.learner, self.members, self.corpus = learner, members, corpus
        self.names, self.schedule = list(names), schedule
        self.observer, self.state, self.part = observer, state, part
        self.optimiser = MemberAdam(
            as_module(learner),
            members.count,
            weight_decay=schedule.weight_decay,
            clip_value=schedule.clip_value,
            factor=factor,
            ramped=ramped,
        )
        self.warmup = warmup
        self.planner = EpochPlanner(
            corpus.buckets(train_rows, schedule.buckets, schedule.batch_size),
            uses_EN,
            members.order,
            batch_size=schedule.batch_size,
            accumulate=schedule.accumulate,
        )
        self.valid_rows = valid_rows
        self.average_P = self.optimiser.values_P.clone()
        self.best_P = self.optimiser.values_P.clone()
        self.progress = Progress.start(members.count, schedule.lr)
        self._graphs: dict[tuple[int, ...], GraphedStep] = {}

    def run(self) -> Progress:
        """Train until every member has stopped; leaves each member's best weights in place."""
        self._resume()
        progress, schedule = self.progress, self.schedule
        while progress.epoch < schedule.epochs and not all(progress.stopped):
            progress.epoch += 1
            losses = self.train_epoch(progress.epoch)
            with self._averaged():
                scores = self.validation_scores()
            rows = self._judge(losses, scores)
            self._save()
            self.observer.epoch(progress.epoch, rows)
        self.optimiser.values_P.copy_(self.best_P)
        return progress

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The averaged weights in place of the latest, for the time of a look at them."""
        latest_P = self.optimiser.values_P.clone()
        self.optimiser.values_P.copy_(self.average_P)
        try:
            yield
        finally:
            self.optimiser.values_P.copy_(latest_P)

    def _set_rates(self, ramp: float = 1.0) -> None:
        live = [
            0.0 if stopped else rate
            for rate, stopped in zip(self.progress.rates, self.progress.stopped, strict=True)
        ]
        self.optimiser.set_rates(torch.tensor(live, device=self.members.device), ramp)

    def train_epoch(self, number: int) -> dict[str, list[float]]:
        """One epoch; the mean of every loss by name, one a member."""
        self.members.training = True
        updates = self.planner.epoch(number)
        sums: dict[str, Tensor] = {}
        self._set_rates()
        for count, update in enumerate(updates, start=1):
            epochs = number - 1 + count / len(updates)
            if epochs - 1 / len(updates) < self.warmup:
                self._set_rates(min(1.0, epochs / self.warmup))
            self.optimiser.zero_grad()
            for planned in update:
                for name, value in self.backward(planned).items():
                    sums[name] = sums.get(name, torch.zeros_like(value)) + value
            self.optimiser.step()
            self.average_P.lerp_(self.optimiser.values_P, 1 - self.schedule.average)
        self.members.training = False
        names = list(sums)
        table = (torch.stack([sums[name] for name in names]) / len(updates)).tolist()
        return dict(zip(names, table, strict=True))

    def backward(self, planned: PlannedBatch) -> dict[str, Tensor]:
        """Add a batch's gradients; its share of the update's losses, detached."""
        device = self.members.device
        rows_EB = torch.from_numpy(planned.rows_EB).to(device)
        weight_EB = torch.from_numpy(planned.weight_EB).to(device)
        if device.type != "cuda" or not self.schedule.cuda_graph:
            return self._gradients(rows_EB, weight_EB, planned.steps)
        if planned.steps not in self._graphs:
            self._graphs[planned.steps] = GraphedStep(
                partial(self._gradients, steps=planned.steps),
                self.members,
                self.optimiser.grads_P,
                rows_EB,
                weight_EB,
            )
        return self._graphs[planned.steps](rows_EB, weight_EB)

    def _gradients(
        self, rows_EB: Tensor, weight_EB: Tensor, steps: tuple[int, ...]
    ) -> dict[str, Tensor]:
        self.members.begin_step()
        batch = self.corpus.batch(rows_EB, weight_EB, steps)
        if self.schedule.modality_dropout > 0 and len(batch.features) > 1:
            batch = batch.without(self._dropped(batch.present_EMB))
        losses = self.learner.losses(batch)
        losses["total"].sum().backward()  # type: ignore[no-untyped-call]
        return {name: value.detach() for name, value in losses.items()}

    def _dropped(self, present_EMB: Tensor) -> Tensor:
        """Which modalities to take away: each with the configured chance, never all of them."""
        shape = present_EMB.shape[1:]
        keep = self.members.keep(*shape, rate=self.schedule.modality_dropout)
        survives = (present_EMB & keep).any(1, keepdim=True)
        return ~keep & survives

    def validation_scores(self) -> dict[str, list[float]]:
        """The task loss, which selects (`mae`, or `loss` of classes), and a companion, by name.

        The companion is `corr` (0 where undefined: it only goes to the history) or `accuracy`.
        """
        rows, outputs = [], []
        for some, output in predictions(
            self.learner, self.members, self.corpus, self.valid_rows, self.schedule.buckets
        ):
            rows.append(some)
            outputs.append(output)
        output_ENO, labels_N = torch.cat(outputs, dim=1), self.corpus.labels_N[np.concatenate(rows)]
        task = self.learner.task
        loss = task.loss(output_ENO, labels_N).mean(-1)
        if task.classes is None:
            centred = output_ENO[..., 0] - output_ENO[..., 0].mean(-1, keepdim=True)
            wanted = labels_N - labels_N.mean()
            spread = centred.norm(dim=-1) * wanted.norm()
            other = (centred @ wanted) / spread.clamp_min(1e-12)
        else:
            other = (output_ENO.argmax(-1) == labels_N).float().mean(-1)
        table: list[list[float]] = torch.stack([loss, other]).tolist()
        return dict(zip(SCORES[task.classes is None], table, strict=True))

    def _judge(
        self, losses: dict[str, list[float]], scores: dict[str, list[float]]
    ) -> dict[str, dict[str, float]]:
        """Update every live member's place; the epoch's numbers, by member."""
        progress = self.progress
        selecting, *_ = scores.values()
        improved, rows = [False] * len(selecting), {}
        for member, score in enumerate(selecting):
            if progress.stopped[member]:
                continue
            name, rate = self.names[member], progress.rates[member]
            if not (math.isfinite(score) and math.isfinite(losses["total"][member])):
                progress.stopped[member] = True
                progress.diverged[member] = progress.epoch
                _log.warning(
                    "%s diverged in epoch %d at learning rate %g (training loss %g, validation "
                    "score %g): it stops here, the others go on",
                    *(name, progress.epoch, rate, losses["total"][member], score),
                )
                continue
            numbers = {f"train/{key}": value[member] for key, value in losses.items()}
            numbers |= {f"valid/{key}": value[member] for key, value in scores.items()}
            numbers["lr"] = rate
            rows[name] = numbers
            progress.history.extend(
                (name, progress.epoch, key, value) for key, value in numbers.items()
            )
            improved[member] = progress.judge(member, score, self.schedule)
        better = self.optimiser.of_member(torch.tensor(improved, device=self.members.device))
        torch.where(better, self.average_P, self.best_P, out=self.best_P)
        return rows

    def _save(self) -> None:
        tensors = {f"optimiser.{k}": v for k, v in self.optimiser.state().items()}
        tensors |= {f"streams.{k}": v for k, v in self.members.state().items()}
        tensors |= {"best": self.best_P, "average": self.average_P}
        self.state.save(self.part, tensors, vars(self.progress))

    def _resume(self) -> None:
        saved = self.state.load(self.part)
        if saved is None:
            return
        tensors, notes = saved
        groups: dict[str, dict[str, Any]] = {"optimiser": {}, "streams": {}}
        for name, tensor in tensors.items():
            group, _, rest = name.partition(".")
            if rest:
                groups[group][rest] = tensor
        self.optimiser.restore(groups["optimiser"])
        self.members.restore(groups["streams"])
        self.best_P.copy_(tensors["best"])
        self.average_P.copy_(tensors["average"])
        notes["history"] = [tuple(row) for row in notes["history"]]
        self.progress = Progress(**notes)


@torch.no_grad()
def predictions(
    learner: Learner, members: Members, corpus: DeviceCorpus, rows: Array, buckets: int
) -> Iterator[tuple[Array, Tensor]]:
    """Yield `(rows [B], outputs [E, B, O])` over the given rows, in batches of similar length."""
    groups = corpus.buckets(rows, buckets, EVALUATION_BATCH)
    for planned in evaluation_batches(groups, EVALUATION_BATCH):
        yield planned.rows_EB[0], learner.predict(shared_batch(corpus, members, planned))


def shared_batch(corpus: DeviceCorpus, members: Members, planned: PlannedBatch) -> Batch:
    """An evaluation batch: the same utterances for every member."""
    shape = (members.count, planned.rows_EB.shape[1])
    rows_EB = torch.from_numpy(planned.rows_EB).to(members.device).expand(shape)
    weight_EB = torch.ones(shape, device=members.device)
    return corpus.batch(rows_EB, weight_EB, planned.steps)
