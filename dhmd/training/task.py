"""Tasks: ensemble members that train together in one process, described by a JSON file.

    python -m dhmd.training.run_task TASK.json...

runs tasks on any machine that can read and write their paths. Each task resumes at its last
finished epoch, writes its members to the store (store.py), and then writes `done.json` beside its
file. While it runs, it appends finished epochs and log messages to `events.jsonl` beside its file,
one JSON object per line. The exit status is 0 if all tasks are done. It is 3 for bad input or a
full disk, with one sentence on stderr.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout

import dhmd
from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import json_sha256, write_text
from dhmd.base.machine import end_with_parent
from dhmd.data.aligned import read_corpus
from dhmd.data.aligned.corpus import Corpus
from dhmd.data.text.encoder import TextEncoder, load_encoder
from dhmd.models.learner import Learner
from dhmd.models.members import Members
from dhmd.models.registry import CorpusInfo, build
from dhmd.training.checkpoint import CHECKPOINT
from dhmd.training.configuration import Configuration
from dhmd.training.device import torch_session
from dhmd.training.device_corpus import (
    DeviceCorpus,
    DeviceTokens,
    Normalisation,
    max_lengths,
    task_of,
)
from dhmd.training.finetuning import FinetunedModel
from dhmd.training.observer import LogObserver, ManyObservers, Observer, TrainingInfo
from dhmd.training.outputs import collect_details, missing_modality_predictions
from dhmd.training.pretraining import PretrainedEncoders, pretrain_modality
from dhmd.training.store import Store, TrainedMember, member_name, trained_members
from dhmd.training.trainer import Trainer

TASK = "task.json"
EVENTS = "events.jsonl"
DONE = "done.json"
LOG = "log.txt"
STATUS = "status.txt"
EXIT_ERROR, EXIT_INTERRUPTED = 3, 130  # exit statuses of `run_task`

# Executors start `run_task` with this command, and with CODE on PYTHONPATH. -P keeps Python from
# importing modules of the working folder.
COMMAND = (sys.executable, "-P", "-m", "dhmd.training.run_task")
CODE = str(Path(dhmd.__file__).resolve().parents[1])  # the folder of the package dhmd

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Task:
    """Trains a stack of variants, or pretrains the encoder of one modality, for a set of seeds.

    Attributes:
        configurations: configurations by variant name; the full model has the empty name. All have
            the same structure (`Configuration.structure`) and seeds.
        aligned: the aligned features file.
        fold: the fold of the corpus; None is its first.
        store: the store of finished trainings, which also has a directory for the task.
        keys: the members' keys in the store, by member name.
        modality: the modality whose encoder is pretrained; None trains the variants.
        pretrained: the folder of the pretrained encoders and teachers.
        encoder: the text encoder that is fine-tuned; None if there is none.
    """

    configurations: Mapping[str, Configuration]
    aligned: Path
    fold: str | None
    store: Store
    keys: Mapping[str, str]
    modality: str | None = None
    pretrained: Path | None = None
    encoder: TextEncoder | None = None

    @property
    def first_configuration(self) -> Configuration:
        """The configuration of the first variant; all have the same structure."""
        return next(iter(self.configurations.values()))

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.first_configuration.train.seeds

    @property
    def members(self) -> list[str]:
        """The names of the members: `seed-1`, or `mult/seed-1` for a variant or a modality."""
        return [
            member_name(self.modality or variant, seed)
            for variant in self.configurations
            for seed in self.seeds
        ]

    @cached_property
    def folder(self) -> Path:
        """The task's directory, named by a hash of its members' keys."""
        return self.store.tasks / json_sha256([self.keys[name] for name in self.members])[:16]

    @property
    def missing(self) -> list[str]:
        """The members that the store does not have yet."""
        return [name for name in self.members if self.keys[name] not in self.store]

    @property
    def label(self) -> str:
        """The name of the task in messages."""
        names = ", ".join(filter(None, [self.modality, *self.configurations]))
        seeds = ", ".join(map(str, self.seeds))
        return f"{names}: " * bool(names) + f"seed{'s' * (len(self.seeds) > 1)} {seeds}"

    def restricted_to(self, keys: Set[str]) -> Task:
        """Return the task without the variants and seeds that have no member with these keys."""
        members = [
            (variant, seed)
            for variant in self.configurations
            for seed in self.seeds
            if self.keys[member_name(self.modality or variant, seed)] in keys
        ]
        seeds = [seed for seed in self.seeds if seed in {seed for _, seed in members}]
        configurations = {
            variant: with_seeds(self.configurations[variant], seeds) for variant, _ in members
        }
        return replace(self, configurations=configurations)

    def write(self) -> Path:
        """Write the task's JSON file into its directory and return its path.

        Raises:
            DhmdError: the disk is full or the folder cannot be written.
        """
        content = {
            "configurations": {
                name: replace(configuration, compute=configuration.compute.for_task()).as_json()
                for name, configuration in self.configurations.items()
            },
            "modality": self.modality,
            "aligned": str(self.aligned.resolve()),
            "fold": self.fold,
            "pretrained": None if self.pretrained is None else str(self.pretrained.resolve()),
            "encoder": None if self.encoder is None else str(self.encoder.files.folder.resolve()),
            "store": str(self.store.folder.resolve()),
            "keys": {name: self.keys[name] for name in self.members},
        }
        path = self.folder / TASK
        write_text(path, json.dumps(content, indent=1) + "\n")
        return path

    @staticmethod
    def read(path: Path) -> Task:
        """Read a task from the JSON file that `write` wrote.

        Raises:
            DhmdError: the file is missing or is not a task, or the encoder cannot be loaded.
        """
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            pretrained, encoder = content["pretrained"], content["encoder"]
            return Task(
                configurations={
                    name: Configuration.from_json(configuration, str(path))
                    for name, configuration in content["configurations"].items()
                },
                modality=content["modality"],
                aligned=Path(content["aligned"]),
                fold=content["fold"],
                pretrained=None if pretrained is None else Path(pretrained),
                encoder=None if encoder is None else load_encoder(encoder, path.parent),
                store=Store(Path(content["store"])),
                keys=content["keys"],
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DhmdError(f"{path} is not a training task: {first_line(error)}") from error


def with_seeds(configuration: Configuration, seeds: Sequence[int]) -> Configuration:
    """Return the configuration with other seeds."""
    return replace(configuration, train=replace(configuration.train, seeds=tuple(seeds)))


def run_task(task: Task, observer: Observer, corpus: Corpus | None = None) -> None:
    """Train the members of a task and store them.

    If another process runs the same task, wait for it and use its results.

    Args:
        corpus: the task's corpus; None to read it.

    Raises:
        DhmdError: bad input or a full disk; the checkpoint stays.
    """
    with _locked(task):
        if not task.missing:
            return
        with torch_session(task.first_configuration.compute) as device:
            corpus = corpus or read_corpus(task.aligned, fold=task.fold)
            checkpoint = task.folder / CHECKPOINT
            if task.modality is None:
                trained = train_stack(task, corpus, device, observer, checkpoint)
            else:
                trained = pretrain_modality(
                    task.first_configuration, task.modality, corpus, device, observer, checkpoint
                )
            for name, member in trained.items():
                task.store.write(task.keys[name], member)
        write_text(task.folder / DONE, json.dumps(dict(task.keys)) + "\n")


def train_stack(
    task: Task, corpus: Corpus, device: torch.device, observer: Observer, checkpoint: Path
) -> dict[str, TrainedMember]:
    """Train the task's variants over its seeds and return the trained members by name.

    Raises:
        DhmdError: the pretrained weights or the encoder do not fit the task.
    """
    first, seeds, configurations = (
        task.first_configuration,
        task.seeds,
        task.configurations.values(),
    )
    data = DeviceCorpus.of(corpus, first.modalities, device)
    members = Members(list(seeds) * len(configurations), device)
    learner: Learner = build(
        first.architecture,
        members,
        task_of(corpus),
        {name: len(corpus.feature_names[name]) for name in first.modalities},
        config=first.model,
        loss_weights=[(each.decouple, each.kd) for each in configurations for _ in seeds],
        corpus=CorpusInfo(len(corpus.index("train")), max_lengths(corpus, first.modalities)),
    )
    assert task.pretrained is not None
    pretrained = PretrainedEncoders.read(task.pretrained, corpus, first)
    pretrained.apply(learner, first, corpus, data, copies=len(configurations))
    if task.encoder is not None:
        assert corpus.tokens is not None  # see check_tokens
        assert first.finetune is not None
        data.tokens = DeviceTokens(corpus.tokens, device)
        learner = FinetunedModel(
            learner,
            members,
            task.encoder,
            first.modalities.index("text"),
            Normalisation.of(corpus, "text"),
            learning_rate=first.finetune.lr / first.train.lr,
            gradient_checkpointing=first.finetune.gradient_checkpointing,
        )
    progress = Trainer(
        learner,
        members,
        data,
        names=task.members,
        train=first.train,
        train_rows=corpus.index("train"),
        valid_rows=corpus.index("valid"),
        observer=observer,
        checkpoint=checkpoint,
        warmup=0.0 if first.finetune is None else first.finetune.warmup,
        cuda_graph=first.compute.cuda_graph,
    ).run()
    arrays = collect_details(learner, members, data, np.arange(len(corpus.ids)))
    missing = missing_modality_predictions(learner, members, data, corpus.index("test"))
    arrays |= {f"missing/{name}": value for name, value in missing.items()}
    return trained_members(task.members, learner.member_tensors(), arrays, progress)


@contextmanager
def _locked(task: Task) -> Iterator[None]:
    """Lock the task's directory inside the block."""
    path = task.folder.with_suffix(".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _log.info("%s: another process runs the same task; waiting for it", task.label)
            lock.acquire()
    except OSError as error:
        raise DhmdError(f"cannot write {path}: {first_line(error)}") from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # before the release: a waiting process creates a new file
        lock.release()


class _Events(logging.Handler, Observer):
    """Appends epochs and log messages to a file, which the parent process reads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def _append(self, event: Mapping[str, object]) -> None:
        try:
            with open(self._path, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(event) + "\n")
        except OSError as error:
            raise DhmdError(f"cannot write {self._path}: {first_line(error)}") from error

    def on_epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        self._append({"epoch": epoch, "rows": rows})

    def emit(self, record: logging.LogRecord) -> None:
        self._append({"log": record.name, "level": record.levelno, "message": record.getMessage()})


def main(paths: list[str], parent: int | None = None) -> int:
    """Run the tasks of JSON files one after the other.

    Args:
        parent: the id of the parent process, whose end also ends this process.

    Returns:
        The exit status.
    """
    if parent is not None:
        # Ctrl-C reaches every process of a terminal; the parent handles it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        end_with_parent(signal.SIGKILL)
        if os.getppid() != parent:
            return EXIT_INTERRUPTED  # the parent ended before the line above
    logger = logging.getLogger("dhmd")
    logger.setLevel(logging.INFO)
    try:
        for path in map(Path, paths):
            task, events = Task.read(path), _Events(path.with_name(EVENTS))
            observer = ManyObservers(events, LogObserver())
            observer.on_start(TrainingInfo(task.label, task.members))
            logger.addHandler(events)
            run_task(task, observer)
            logger.removeHandler(events)
    except DhmdError as error:
        print(error, file=sys.stderr)
        return EXIT_ERROR
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return 0
