"""The two sides of the training benchmarks: all seeds of an engine, and one plain model.

Both train on the same utterances with the same settings: an update by Adam per batch, gradients
clipped by value, the same dropout rates. The plain model's batches are padded to full length.
"""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from benchmarks.measure import RESULTS, Time
from dhmd.data.aligned.corpus import Array
from dhmd.models import dhmd as plain_engine
from dhmd.models.batch import Batch, EnsembleBatch
from dhmd.models.config import (
    DecoupleConfig,
    DictionaryConfig,
    DistillationConfig,
    DropoutConfig,
    ModelConfig,
)
from dhmd.models.ensemble import Ensemble
from dhmd.models.learner import Learner
from dhmd.models.members import Members
from dhmd.models.stacked.dhmd import DHMD, LossWeights
from dhmd.models.stacked.export import plain_state
from dhmd.models.task import Task
from dhmd.training.batches import PlannedBatch
from dhmd.training.checkpoint import CHECKPOINT
from dhmd.training.compute import ComputeConfig
from dhmd.training.config import TrainConfig
from dhmd.training.device import torch_session
from dhmd.training.device_corpus import DeviceCorpus
from dhmd.training.trainer import Trainer

LR, CLIP, BETA = 1e-4, 0.6, 0.95
PHASES = ("forward", "losses", "backward", "optimiser")


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of a corpus and of its model, as in DMD's public configuration.

    Attributes:
        inputs: the number of features of each modality.
        steps: the padded length of an utterance.
        batch: the number of utterances in a batch.
        num_codes: the number of dictionary codes.
    """

    name: str
    model: ModelConfig
    inputs: dict[str, int]
    steps: int
    batch: int = 16
    num_codes: int = 512

    @property
    def kd(self) -> DistillationConfig:
        return DistillationConfig(dictionary=DictionaryConfig(codes=self.num_codes))


MOSI = Shape(
    name="MOSI",
    inputs={"text": 768, "audio": 5, "vision": 20},
    steps=50,
    model=ModelConfig(
        width=50,
        heads=10,
        layers=4,
        kernels={"text": 5, "audio": 5, "vision": 5},
        dropout=DropoutConfig(
            attention={"text": 0.3, "audio": 0.2, "vision": 0.0},
            layer=0.1,
            embedding=0.2,
            input={"text": 0.5},
            output=0.5,
        ),
    ),
)
MOSEI = Shape(
    name="MOSEI",
    inputs={"text": 768, "audio": 74, "vision": 35},
    steps=50,
    model=ModelConfig(
        width=30,
        heads=6,
        layers=4,
        kernels={"text": 5, "audio": 1, "vision": 3},
        dropout=DropoutConfig(
            attention={"text": 0.4},
            layer=0.1,
            embedding=0.0,
            input={"text": 0.3},
            output=0.5,
        ),
    ),
)
TINY = Shape(
    name="tiny",
    inputs={"text": 6, "audio": 3, "vision": 4},
    steps=6,
    batch=4,
    num_codes=8,
    model=ModelConfig(width=8, heads=2, layers=1),
)


def random_corpus(
    shape: Shape, num_utterances: int, device: torch.device, *, full: bool = True
) -> DeviceCorpus:
    """Build a corpus of random numbers.

    Args:
        full: whether every utterance has full length; else 12.5 of 50 steps on average, as in MOSI.
    """
    rng = np.random.default_rng(0)
    words = np.full(num_utterances, shape.steps, np.int64)
    if not full:
        words = np.clip(rng.gamma(2.0, shape.steps / 8, num_utterances), 1, shape.steps).astype(
            np.int64
        )
    values = {
        name: rng.standard_normal((int(words.sum()), width)).astype(np.float32)
        for name, width in shape.inputs.items()
    }
    labels = rng.uniform(-3, 3, num_utterances).round(1)
    lengths = dict.fromkeys(shape.inputs, words)
    return DeviceCorpus(lengths, values, labels, device, same_steps=True)


def with_teachers(corpus: DeviceCorpus, num_members: int) -> DeviceCorpus:
    """Add the out-of-fold predictions that distillation needs, at random; return the corpus."""
    generator = torch.Generator().manual_seed(0)
    modalities, count = corpus.lengths_MN.shape
    predictions = torch.randn(1, modalities, count, 1, generator=generator)
    corpus.teachers_EMNO = predictions.expand(num_members, -1, -1, -1).to(corpus.device)
    return corpus


class FullBatches(Ensemble):
    """Members of the plain model, with batches without padding rows, as a CUDA graph needs."""

    def losses(self, batch: EnsembleBatch) -> dict[str, Tensor]:
        return cast(dict[str, Tensor], self._run("losses", batch))


class EnsembleRun:
    """Training of E seeds at once by the pipeline's trainer."""

    def __init__(
        self,
        shape: Shape,
        corpus: DeviceCorpus,
        seeds: int | list[int],
        *,
        folder: Path,
        rows: Array | None = None,
        cuda_graph: bool = False,
        num_buckets: int = 4,
        engine: Literal["stacked", "plain"] = "stacked",
    ) -> None:
        seeds = list(range(1, seeds + 1)) if isinstance(seeds, int) else seeds
        self.shape, self.corpus = shape, with_teachers(corpus, len(seeds))
        self.device = corpus.device
        self.members = Members(seeds, self.device)
        inputs = shape.inputs
        settings = {"decouple": DecoupleConfig(), "kd": shape.kd}
        self.model: Learner
        if engine == "plain":
            create = partial(plain_engine.DHMD, inputs, Task(), shape.model, **settings)
            self.model = FullBatches(self.members, Task(), create, name="plain DHMD")
        else:
            weights = LossWeights.of([(DecoupleConfig(), shape.kd)] * len(seeds), self.device)
            self.model = DHMD(
                self.members, Task(), inputs, config=shape.model, loss_weights=weights, **settings
            )
        self.rows = np.arange(corpus.lengths_MN.shape[1]) if rows is None else rows
        self.trainer = Trainer(
            self.model,
            self.members,
            corpus,
            names=[f"seed-{seed}" for seed in self.members.seeds],
            train=TrainConfig(
                batch_size=shape.batch, lr=LR, clip_value=CLIP, average=BETA, buckets=num_buckets
            ),
            train_rows=self.rows,
            valid_rows=self.rows[:1],
            checkpoint=folder / CHECKPOINT,
            cuda_graph=cuda_graph,
        )
        self.trainer.optimiser.set_rates(torch.full((len(seeds),), LR, device=self.device))
        self.model.train()
        self.epochs = 0

    def planned_batch(self) -> PlannedBatch:
        """Return a full-length batch of the first utterances, the same for every seed."""
        rows = np.tile(self.rows[: self.shape.batch], (self.members.count, 1))
        weight = np.full(rows.shape, 1 / rows.shape[1], np.float32)
        return PlannedBatch((self.shape.steps,) * len(self.shape.inputs), rows, weight)

    def step(self) -> Tensor:
        """Make one update, wait until it is done, and return the total losses `[E]`."""
        total = self.update()
        synchronise(self.device)
        return total

    def update(self) -> Tensor:
        """Make one update from one full-length batch, as the trainer does."""
        trainer = self.trainer
        trainer.optimiser.zero_grad()
        losses = trainer.backward(self.planned_batch())
        trainer.optimiser.step()
        trainer.average_P.lerp_(trainer.optimiser.values_P, 1 - BETA)
        return losses["total"]

    def phases(self) -> dict[str, float]:
        """Return the seconds of each phase of an update, without a CUDA graph."""
        trainer, planned = self.trainer, self.planned_batch()
        times: list[Time] = []

        def mark(*_: object) -> None:
            synchronise(self.device)
            times.append(Time.now())

        trainer.optimiser.zero_grad()
        rows = torch.from_numpy(planned.rows_EB).to(self.device)
        weight = torch.from_numpy(planned.weight_EB).to(self.device)
        self.members.begin_step()
        mark()
        batch = self.corpus.batch(rows, weight, planned.steps)
        hook = self.model.register_forward_hook(mark)
        total = self.model.losses(batch)["total"].sum()
        hook.remove()
        mark()
        total.backward()
        mark()
        trainer.optimiser.step()
        trainer.average_P.lerp_(trainer.optimiser.values_P, 1 - BETA)
        mark()
        return durations(times)

    def epoch(self) -> None:
        """Train all seeds for one epoch, with length buckets and trimmed batches."""
        self.epochs += 1
        self.trainer.train_epoch(self.epochs)
        self.model.train()
        synchronise(self.device)


class PlainRun:
    """Training of one seed of the plain model, on the same utterances padded to full length."""

    def __init__(self, fast: EnsembleRun) -> None:
        self.shape, self.corpus, self.rows = fast.shape, fast.corpus, fast.rows
        self.device = fast.device
        torch.manual_seed(0)
        self.model = plain_engine.DHMD(
            self.shape.inputs,
            Task(),
            self.shape.model,
            decouple=DecoupleConfig(),
            kd=self.shape.kd,
        ).to(self.device)
        first = {name: p.detach()[0] for name, p in fast.model.named_parameters()}
        self.model.load_state_dict(plain_state(first, tuple(self.shape.inputs)))
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=LR)
        self.batch = self.padded(self.rows[: self.shape.batch])

    def padded(self, rows: Array) -> Batch:
        """Return a batch of utterances at full length."""
        rows_EB = torch.from_numpy(rows[None]).to(self.device)
        weight = torch.full(rows_EB.shape, 1 / rows_EB.shape[1], device=self.device)
        steps = (self.shape.steps,) * len(self.shape.inputs)
        teachers = self.corpus.teachers_EMNO
        assert teachers is not None
        self.corpus.teachers_EMNO = teachers[:1]
        batch = self.corpus.batch(rows_EB, weight, steps).of_member(0)
        self.corpus.teachers_EMNO = teachers
        return batch

    def _update(self, batch: Batch) -> Tensor:
        self.optimiser.zero_grad()
        total = self.model.losses(batch)["total"]
        total.backward()
        torch.nn.utils.clip_grad_value_(self.model.parameters(), CLIP)
        self.optimiser.step()
        return total.detach()

    def step(self) -> Tensor:
        """Make one update and return its total loss."""
        total = self._update(self.batch)
        synchronise(self.device)
        return total

    def phases(self) -> dict[str, float]:
        """Return the seconds of each phase of an update."""
        times: list[Time] = []

        def mark() -> None:
            synchronise(self.device)
            times.append(Time.now())

        self.optimiser.zero_grad()
        mark()
        outputs = self.model.outputs
        self.model.outputs = lambda batch: (outputs(batch), mark())[0]  # type: ignore[method-assign]
        total = self.model.losses(self.batch)["total"]
        self.model.outputs = outputs  # type: ignore[method-assign]
        mark()
        total.backward()
        mark()
        torch.nn.utils.clip_grad_value_(self.model.parameters(), CLIP)
        self.optimiser.step()
        mark()
        return durations(times)

    def epoch(self, fraction: float = 1.0) -> None:
        """Train on a fraction of an epoch's batches, in random order."""
        order = np.random.default_rng(0).permutation(self.rows)
        batches = [order[i : i + self.shape.batch] for i in range(0, len(order), self.shape.batch)]
        for rows in batches[: max(1, round(fraction * len(batches)))]:
            self._update(self.padded(rows))
        synchronise(self.device)


def durations(times: list[Time]) -> dict[str, float]:
    """Return the seconds of each phase from the times between them."""
    return {n: (end - start).wall for n, (start, end) in zip(PHASES, pairwise(times), strict=True)}


def largest_difference(fast: EnsembleRun, plain: PlainRun) -> float:
    """Return the largest relative difference between the losses of both sides, without dropout."""
    plain.model.eval()
    fast.model.eval()
    with torch.no_grad():
        expected = plain.model.losses(plain.batch)
        planned = fast.planned_batch()
        rows = torch.from_numpy(planned.rows_EB).to(fast.device)
        weight = torch.from_numpy(planned.weight_EB).to(fast.device)
        losses = fast.model.losses(fast.corpus.batch(rows, weight, planned.steps))
    plain.model.train()
    fast.model.train()
    differences = [abs(losses[k][0] - v) / abs(v).clamp_min(1e-3) for k, v in expected.items()]
    return float(torch.stack(differences).max())


def prepared_device(device: Any, threads: int | None) -> AbstractContextManager[torch.device]:
    """Set threads, determinism and memory as in training jobs, and yield the device."""
    return torch_session(ComputeConfig(device=device, threads=threads))


def add_common_arguments(parser: argparse.ArgumentParser, benchmark: str) -> None:
    """Add the arguments that all benchmarks have: device, threads and the file of the result."""
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, help="number of threads (default: as in training)")
    parser.add_argument("--json", type=Path, default=RESULTS / f"{benchmark}.json")


def device_name(device: torch.device) -> str:
    """Return the name of the device in tables."""
    return torch.cuda.get_device_name() if device.type == "cuda" else "CPU"


def synchronise(device: torch.device) -> None:
    """Wait until the GPU is idle; do nothing on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize()
