"""The training loop: members train together, each with its own schedule and best weights.

Within an epoch there is no synchronisation with the device. The best weights are selected on the
validation split; the trainer has no access to the labels of the test split.

Legend: E members, N utterances, B utterances of a batch, P entries of all parameters, O outputs.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dhmd.data.aligned.corpus import Array
from dhmd.models.batch import EnsembleBatch
from dhmd.models.learner import Learner
from dhmd.models.members import Members
from dhmd.training.batches import EpochPlanner, PlannedBatch, VideoPlanner
from dhmd.training.checkpoint import read_checkpoint, write_tensors
from dhmd.training.config import TrainConfig
from dhmd.training.device import tf32_products
from dhmd.training.device_corpus import DeviceCorpus
from dhmd.training.graphed import GraphedStep
from dhmd.training.observer import NULL_OBSERVER, Observer
from dhmd.training.optimiser import MemberAdam

_log = logging.getLogger(__name__)

# Names of the validation scores. The first one selects the best weights.
REGRESSION_SCORES = ("mae", "corr")
CLASSIFICATION_SCORES = ("loss", "accuracy")

PRETRAINING = "pretraining"  # the phase of `Learner.pretraining_epochs`

History = list[tuple[str, int, str, float]]


@dataclass
class Progress:
    """The progress of a training, as JSON values. The lists have one value per member.

    Attributes:
        rates: current learning rates.
        best, best_epoch: best validation scores, and the epochs of the best weights.
        waited: epochs since the best one.
        plateau: epochs since the best one or the last reduction of the learning rate.
        stopped: whether a member has stopped.
        diverged: the epochs in which members diverged; None for the others.
        epoch: the last finished epoch.
        mode: see `Learner.mode`.
        history: rows of member, epoch, metric and value.
    """

    rates: list[float]
    best: list[float]
    best_epoch: list[int]
    waited: list[int]
    plateau: list[int]
    stopped: list[bool]
    diverged: list[int | None]
    epoch: int = 0
    mode: str = ""
    history: History = field(default_factory=list)

    @staticmethod
    def start(num_members: int, lr: float) -> Progress:
        """Return the progress before the first epoch."""
        return Progress(
            rates=[lr] * num_members,
            best=[math.inf] * num_members,
            best_epoch=[0] * num_members,
            waited=[0] * num_members,
            plateau=[0] * num_members,
            stopped=[False] * num_members,
            diverged=[None] * num_members,
        )

    def update(self, member: int, score: float, train: TrainConfig) -> bool:
        """Update a member's schedule; return whether the validation score is its best so far."""
        if score < self.best[member]:
            self.best[member], self.best_epoch[member] = score, self.epoch
            self.waited[member] = self.plateau[member] = 0
            return True
        self.waited[member] += 1
        self.plateau[member] += 1
        if self.plateau[member] > train.plateau_patience:
            self.rates[member] *= train.plateau_factor
            self.plateau[member] = 0
        if self.waited[member] >= train.early_stop:
            self.stopped[member] = True
        return False


class Trainer:
    """Trains a learner.

    Args:
        names: the members' names, for the history and the observer.
        train: section `train`; for pretraining, with the values of section `pretrain`.
        train_rows, valid_rows: indices of the splits' utterances.
        checkpoint: the file to resume from; it is replaced after every epoch.
        train_mask_EN: 1 where a member trains on an utterance, otherwise 0; None: all members
            train on all of `train_rows`.
        warmup: epochs over which the learning rate of parameters with a warm-up rises from 0.
        cuda_graph: whether steps on a GPU are captured as CUDA graphs.
    """

    def __init__(
        self,
        learner: Learner,
        members: Members,
        corpus: DeviceCorpus,
        *,
        names: Sequence[str],
        train: TrainConfig,
        train_rows: Array,
        valid_rows: Array,
        checkpoint: Path,
        train_mask_EN: Array | None = None,
        observer: Observer = NULL_OBSERVER,
        warmup: float = 0.0,
        cuda_graph: bool = False,
    ) -> None:
        self.learner, self.members, self.corpus = learner, members, corpus
        self.names, self.settings, self.warmup = list(names), train, warmup
        self.observer, self.checkpoint, self.cuda_graph = observer, checkpoint, cuda_graph
        self.optimiser = MemberAdam(
            learner,
            members.count,
            weight_decay=train.weight_decay,
            clip_value=train.clip_value,
            group=learner.parameter_group,
            phases=learner.phases,
        )
        if train_mask_EN is None:
            train_mask_EN = np.ones((members.count, len(corpus.videos_N)), np.float32)
        sizes = {"batch_size": train.batch_size, "accumulate": train.accumulate}
        self.planner: EpochPlanner
        if learner.batch_by == "video":
            videos, steps = corpus.videos_N, corpus.steps(train_rows)
            self.planner = VideoPlanner(
                train_rows, videos, steps, train_mask_EN, members.order, **sizes
            )
        else:
            buckets = corpus.buckets(train_rows, train.buckets, train.batch_size)
            self.planner = EpochPlanner(buckets, train_mask_EN, members.order, **sizes)
        self.valid_rows = valid_rows
        self.average_P = self.optimiser.values_P.clone()
        self.best_P = self.optimiser.values_P.clone()
        self.best_buffers = learner.member_buffers()
        self.progress = Progress.start(members.count, train.lr)
        self._graphs: dict[tuple[int, ...], GraphedStep] = {}
        if train.precision == "tf32" and members.device.type == "cpu":
            _log.warning("train.precision is tf32, which a CPU does not support: float32 is used")
        learner.eval()

    def run(self) -> Progress:
        """Train until every member has stopped; the learner has the best weights at the end."""
        self._resume()
        progress, pretraining = self.progress, self.learner.pretraining_epochs
        while progress.epoch < pretraining + self.settings.epochs and not all(progress.stopped):
            if progress.epoch == pretraining > 0:
                self.optimiser.reset()
                self.average_P.copy_(self.optimiser.values_P)
            progress.epoch += 1
            self.learner.skip = frozenset(np.flatnonzero(progress.stopped).tolist())
            losses = self.train_epoch(progress.epoch)
            with self._averaged_weights():
                scores = self.validation_scores()
            rows = self._update_progress(losses, scores)
            self._save()
            self.observer.on_epoch(progress.epoch, rows)
        self.learner.skip = frozenset()
        self.optimiser.values_P.copy_(self.best_P)
        self.learner.load_member_buffers(self.best_buffers)
        return progress

    @contextmanager
    def _averaged_weights(self) -> Iterator[None]:
        """Use the averaged weights instead of the latest ones within a block."""
        latest_P = self.optimiser.values_P.clone()
        self.optimiser.values_P.copy_(self.average_P)
        try:
            yield
        finally:
            self.optimiser.values_P.copy_(latest_P)

    def _set_rates(self, warmup: float = 1.0) -> None:
        rates = [
            0.0 if stopped else rate
            for rate, stopped in zip(self.progress.rates, self.progress.stopped, strict=True)
        ]
        self.optimiser.set_rates(torch.tensor(rates, device=self.members.device), warmup)

    def train_epoch(self, number: int) -> dict[str, list[float]]:
        """Train for one epoch and return the mean losses by name, one value per member."""
        learner, pretraining = self.learner, number <= self.learner.pretraining_epochs
        learner.train()
        updates = self.planner.epoch(number)
        phases = (PRETRAINING,) if pretraining else learner.phases
        if learner.alternate == "epoch":
            passes = [(phase, update) for phase in phases for update in updates]
        else:
            passes = [(phase, update) for update in updates for phase in phases]
        epoch = number if pretraining else number - learner.pretraining_epochs
        sums: dict[str, Tensor] = {}
        self._set_rates()
        for count, (phase, update) in enumerate(passes, start=1):
            epochs_done = number - 1 + count / len(passes)
            if epochs_done - 1 / len(passes) < self.warmup:
                self._set_rates(min(1.0, epochs_done / self.warmup))
            self.optimiser.zero_grad()
            for planned in update:
                for name, value in self.backward(planned, epoch=epoch, phase=phase).items():
                    key = name if phase == phases[-1] else f"{phase}_{name}"
                    sums[key] = sums.get(key, torch.zeros_like(value)) + value
            self.optimiser.step(None if pretraining else phase)
            self.average_P.lerp_(self.optimiser.values_P, 1 - self.settings.average)
        learner.eval()
        names = list(sums)
        table = (torch.stack([sums[name] for name in names]) / len(updates)).tolist()
        return dict(zip(names, table, strict=True))

    def backward(
        self, planned: PlannedBatch, *, epoch: int = 0, phase: str = ""
    ) -> dict[str, Tensor]:
        """Add the gradients of a batch and return its weighted losses, detached."""
        device = self.members.device
        # This does not wait for the device: CUDA copies the pageable memory first.
        rows_EB = torch.from_numpy(planned.rows_EB).to(device, non_blocking=True)
        weight_EB = torch.from_numpy(planned.weight_EB).to(device, non_blocking=True)
        gradients = partial(self._gradients, steps=planned.steps, epoch=epoch, phase=phase)
        if device.type != "cuda" or not (self.cuda_graph and self.learner.capturable):
            return gradients(rows_EB, weight_EB)
        if planned.steps not in self._graphs:
            self._graphs[planned.steps] = GraphedStep(
                gradients, self.members, self.optimiser.grads_P, rows_EB, weight_EB
            )
        return self._graphs[planned.steps](rows_EB, weight_EB)

    def _gradients(
        self, rows_EB: Tensor, weight_EB: Tensor, *, steps: tuple[int, ...], epoch: int, phase: str
    ) -> dict[str, Tensor]:
        self.members.begin_step()
        batch = self.corpus.batch(rows_EB, weight_EB, steps, epoch=epoch, phase=phase)
        if self.settings.modality_dropout > 0 and len(batch.features) > 1:
            batch = batch.without(self._dropped_modalities(batch.present_EMB))
        precision, device = self.settings.precision, self.members.device
        with tf32_products(precision, device):
            if precision == "bfloat16":
                with torch.autocast(device.type, torch.bfloat16):
                    losses = self.learner.losses(batch)
            else:
                losses = self.learner.losses(batch)
            losses["total"].sum().backward()  # type: ignore[no-untyped-call]
        return {name: value.detach() for name, value in losses.items()}

    def _dropped_modalities(self, present_EMB: Tensor) -> Tensor:
        """Sample modalities to drop: each with the configured probability, but never all."""
        shape = present_EMB.shape[1:]
        keep = self.members.keep(*shape, rate=self.settings.modality_dropout)
        survives = (present_EMB & keep).any(1, keepdim=True)
        return ~keep & survives

    def validation_scores(self) -> dict[str, list[float]]:
        """Return the two validation scores by name, one value per member.

        The correlation is 0 where it is undefined.
        """
        rows, outputs = [], []
        for batch_rows, output in predictions(
            self.learner, self.members, self.corpus, self.valid_rows, self.settings.buckets
        ):
            rows.append(batch_rows)
            outputs.append(output)
        output_ENO, labels_N = torch.cat(outputs, dim=1), self.corpus.labels_N[np.concatenate(rows)]
        task = self.learner.task
        loss = task.loss(output_ENO, labels_N).mean(-1)
        if task.classes is None:
            centred = output_ENO[..., 0] - output_ENO[..., 0].mean(-1, keepdim=True)
            centred_labels = labels_N - labels_N.mean()
            norm = centred.norm(dim=-1) * centred_labels.norm()
            score, names = (centred @ centred_labels) / norm.clamp_min(1e-12), REGRESSION_SCORES
        else:
            score, names = task.correct(output_ENO, labels_N).mean(-1), CLASSIFICATION_SCORES
        values: list[list[float]] = torch.stack([loss, score]).tolist()
        return dict(zip(names, values, strict=True))

    def _update_progress(
        self, losses: dict[str, list[float]], scores: dict[str, list[float]]
    ) -> dict[str, dict[str, float]]:
        """Update progress and best weights; return the values of the members in training."""
        progress = self.progress
        first_scores, *_ = scores.values()
        improved, rows = [False] * len(first_scores), {}
        for member, score in enumerate(first_scores):
            if progress.stopped[member]:
                continue
            name, rate = self.names[member], progress.rates[member]
            if not (math.isfinite(score) and math.isfinite(losses["total"][member])):
                progress.stopped[member] = True
                progress.diverged[member] = progress.epoch
                _log.warning(
                    "%s diverged in epoch %d at learning rate %g (training loss %g, validation "
                    "score %g) and stops; the other seeds continue",
                    *(name, progress.epoch, rate, losses["total"][member], score),
                )
                continue
            row = {f"train/{key}": value[member] for key, value in losses.items()}
            row |= {f"valid/{key}": value[member] for key, value in scores.items()}
            row["lr"] = rate
            rows[name] = row
            progress.history.extend((name, progress.epoch, *item) for item in row.items())
            if progress.epoch > self.learner.pretraining_epochs:
                improved[member] = progress.update(member, score, self.settings)
        improved_E = torch.tensor(improved, device=self.members.device)
        improved_P = self.optimiser.member_entries(improved_E)
        torch.where(improved_P, self.average_P, self.best_P, out=self.best_P)
        for key, latest in self.learner.member_buffers().items():
            self.best_buffers[key][improved_E] = latest[improved_E]
        return rows

    def _save(self) -> None:
        self.progress.mode = self.learner.mode
        tensors = {f"optimiser.{k}": v for k, v in self.optimiser.state().items()}
        tensors |= {f"streams.{k}": v for k, v in self.members.state().items()}
        tensors |= {f"buffers.{k}": v for k, v in self.learner.member_buffers().items()}
        tensors |= {f"best_buffers.{k}": v for k, v in self.best_buffers.items()}
        tensors |= {"best": self.best_P, "average": self.average_P}
        write_tensors(self.checkpoint, tensors, vars(self.progress))

    def _resume(self) -> None:
        saved = read_checkpoint(self.checkpoint)
        if saved is None:
            return
        tensors, notes = saved
        groups: dict[str, dict[str, Any]] = {
            name: {} for name in ("optimiser", "streams", "buffers", "best_buffers")
        }
        for name, tensor in tensors.items():
            group, _, rest = name.partition(".")
            if rest:
                groups[group][rest] = (
                    tensor.to(self.members.device) if "buffers" in group else tensor
                )
        self.optimiser.restore(groups["optimiser"])
        self.members.restore(groups["streams"])
        self.learner.load_member_buffers(groups["buffers"])
        self.best_buffers = groups["best_buffers"]
        self.best_P.copy_(tensors["best"])
        self.average_P.copy_(tensors["average"])
        notes["history"] = [tuple(row) for row in notes["history"]]
        self.progress = Progress(**notes)
        self.learner.mode = self.progress.mode


@torch.no_grad()
def predictions(
    learner: Learner, members: Members, corpus: DeviceCorpus, rows: Array, num_buckets: int
) -> Iterator[tuple[Array, Tensor]]:
    """Yield `(rows [B], outputs [E, B, O])` of the given rows, in evaluation mode."""
    for batch_rows, batch in evaluation(learner, members, corpus, rows, num_buckets):
        yield batch_rows, learner.predict(batch)


def evaluation(
    learner: Learner, members: Members, corpus: DeviceCorpus, rows: Array, num_buckets: int
) -> Iterator[tuple[Array, EnsembleBatch]]:
    """Yield `(rows [B], batch)` of the given rows; all members get the same utterances."""
    learner.eval()
    for planned in corpus.evaluation(rows, num_buckets, learner.batch_by):
        shape = (members.count, planned.rows_EB.shape[1])
        rows_EB = torch.from_numpy(planned.rows_EB).to(members.device).expand(shape)
        weight_EB = torch.ones(shape, device=members.device)
        yield planned.rows_EB[0], corpus.batch(rows_EB, weight_EB, planned.steps)
