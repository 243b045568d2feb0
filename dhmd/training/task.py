"""Tasks: ensemble members that train side by side in one process, described by a JSON file.

    python -m dhmd.training.run_task TASK.json...

runs tasks on any machine that sees their paths. Each task resumes at its last finished epoch,
stores its members (store.py), each whole, and writes `done.json` beside its file. The exit status
is 0 once all tasks are done, and 3 with one sentence on stderr for bad input or a full disk.
Meanwhile finished epochs and log messages are appended to `events.jsonl` beside the task's file,
one JSON object per line.

Legend: V variants, S seeds, E = V · S members, N utterances.
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
from dhmd.data.text.encoder import Encoder, load_encoder
from dhmd.models.learner import Learner
from dhmd.models.members import Members
from dhmd.models.registry import CorpusInfo, build
from dhmd.training.checkpoint import CHECKPOINT
from dhmd.training.configuration import Configuration
from dhmd.training.device import prepared
from dhmd.training.device_corpus import DeviceCorpus, DeviceTokens, Normalisation, longest, task_of
from dhmd.training.finetuning import Finetuned
from dhmd.training.observer import LogObserver, ManyObservers, Observer
from dhmd.training.outputs import collect, missing_modalities
from dhmd.training.pretraining import Pretrained, pretrain_modality
from dhmd.training.store import Store, TrainedMember, member_name, trained_members
from dhmd.training.trainer import Trainer

TASK = "task.json"
EVENTS = "events.jsonl"
DONE = "done.json"
LOG = "log.txt"
STATUS = "status.txt"
REFUSED, INTERRUPTED = 3, 130

# How executors start `run_task` in other processes, with the code of this one on PYTHONPATH,
# whatever the working folder contains.
COMMAND = (sys.executable, "-P", "-m", "dhmd.training.run_task")
CODE = str(Path(dhmd.__file__).resolve().parents[1])

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Task:
    """A stack of variants over some seeds, or the pretraining of one modality over some seeds.

    A task has a directory of its own in the store.

    Attributes:
        configurations: by variant name; the full model has the empty name. All have the same
            structure (`Configuration.structure`) and seeds.
        modality: the modality whose encoder is pretrained; None trains the variants.
        aligned: the aligned features file.
        fold: the fold of the corpus; None is its first.
        pretrained: the folder of the pretrained encoders and teachers.
        encoder: the text encoder that is fine-tuned, if any.
        store: the store of finished trainings.
        keys: the members' keys in the store, by member name.
    """

    configurations: Mapping[str, Configuration]
    aligned: Path
    fold: str | None
    store: Store
    keys: Mapping[str, str]
    modality: str | None = None
    pretrained: Path | None = None
    encoder: Encoder | None = None

    @property
    def first(self) -> Configuration:
        """The first of the configurations, which have the same structure."""
        return next(iter(self.configurations.values()))

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.first.train.seeds

    @property
    def members(self) -> list[str]:
        """The members' names: `seed-1`, or `mult/seed-1` for a variant or a modality."""
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
        """Members that the store does not have yet."""
        return [name for name in self.members if self.keys[name] not in self.store]

    @property
    def label(self) -> str:
        """The description of the task in messages."""
        names = ", ".join(filter(None, [self.modality, *self.configurations]))
        seeds = ", ".join(map(str, self.seeds))
        return f"{names}: " * bool(names) + f"seed{'s' * (len(self.seeds) > 1)} {seeds}"

    def reduced(self, wanted: Set[str]) -> Task:
        """Return the task without variants and seeds that have no member with a wanted key."""
        missing = {name for name in self.members if self.keys[name] in wanted}
        seeds = [
            seed
            for seed in self.seeds
            if any(member_name(self.modality or v, seed) in missing for v in self.configurations)
        ]
        return replace(
            self,
            configurations={
                variant: with_seeds(own, seeds)
                for variant, own in self.configurations.items()
                if any(member_name(self.modality or variant, seed) in missing for seed in seeds)
            },
        )

    def write(self) -> Path:
        """Write the task's JSON file into its directory and return its path.

        Raises:
            DhmdError: the disk is full or the folder cannot be written.
        """
        content = {
            "configurations": {
                name: replace(own, compute=own.compute.in_task()).as_json()
                for name, own in self.configurations.items()
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
        """Read what `write` wrote.

        Raises:
            DhmdError: there is no such file, it is no task, or its encoder cannot be loaded.
        """
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            pretrained, encoder = content["pretrained"], content["encoder"]
            return Task(
                configurations={
                    name: Configuration.from_json(own, str(path))
                    for name, own in content["configurations"].items()
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
    return replace(configuration, train=replace(configuration.train, seeds=tuple(seeds)))


def run_task(task: Task, observer: Observer, corpus: Corpus | None = None) -> None:
    """Train a task's members and store them.

    If another process runs the same task, wait for it and use its results.

    Args:
        corpus: the task's corpus; None to read it.

    Raises:
        DhmdError: bad input or a full disk; the checkpoint is kept.
    """
    with _locked(task):
        if not task.missing:
            return
        with prepared(task.first.compute) as device:
            corpus = corpus or read_corpus(task.aligned, fold=task.fold)
            checkpoint = task.folder / CHECKPOINT
            if task.modality is None:
                trained = train_stack(task, corpus, device, observer, checkpoint)
            else:
                trained = pretrain_modality(
                    task.first, task.modality, corpus, device, observer, checkpoint
                )
            for name, member in trained.items():
                task.store.write(task.keys[name], member)
        write_text(task.folder / DONE, json.dumps(dict(task.keys)) + "\n")


def train_stack(
    task: Task, corpus: Corpus, device: torch.device, observer: Observer, checkpoint: Path
) -> dict[str, TrainedMember]:
    """Train the task's variants over its seeds and return every member by name.

    Raises:
        DhmdError: the pretrained weights or the encoder do not fit the task.
    """
    first, seeds, variants = task.first, task.seeds, task.configurations.values()
    data = DeviceCorpus.of(corpus, first.modalities, device)
    members = Members(list(seeds) * len(variants), device)
    learner: Learner = build(
        first.architecture,
        members,
        task_of(corpus),
        {name: len(corpus.feature_names[name]) for name in first.modalities},
        model=first.model,
        loss_weights=[(own.decouple, own.kd) for own in variants for _ in seeds],
        corpus=CorpusInfo(len(corpus.index("train")), longest(corpus, first.modalities)),
    )
    assert task.pretrained is not None
    pretrained = Pretrained.read(task.pretrained, corpus, first)
    pretrained.use(learner, first, corpus, data, copies=len(variants))
    if task.encoder is not None:
        assert corpus.tokens is not None  # see check_tokens
        assert first.finetune is not None
        data.tokens = DeviceTokens(corpus.tokens, device)
        learner = Finetuned(
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
    arrays = collect(learner, members, data, np.arange(len(corpus.ids)))
    found = missing_modalities(learner, members, data, corpus.index("test"))
    arrays |= {f"missing/{name}": value for name, value in found.items()}
    return trained_members(task.members, learner.member_tensors(), arrays, progress)


@contextmanager
def _locked(task: Task) -> Iterator[None]:
    """Hold the lock of a task's directory."""
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
    """Append epochs and log messages to a file, for the process that started this one."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def _append(self, event: Mapping[str, object]) -> None:
        try:
            with open(self._path, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(event) + "\n")
        except OSError as error:
            raise DhmdError(f"cannot write {self._path}: {first_line(error)}") from error

    def epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        self._append({"epoch": epoch, "rows": rows})

    def emit(self, record: logging.LogRecord) -> None:
        self._append({"log": record.name, "level": record.levelno, "message": record.getMessage()})


def main(paths: list[str], parent: int | None = None) -> int:
    """Run tasks one after the other and return the exit status.

    Args:
        parent: the process whose end also ends this process.
    """
    if parent is not None:
        # Ctrl-C reaches every process of a terminal; the parent handles it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        end_with_parent(signal.SIGKILL)
        if os.getppid() != parent:
            return INTERRUPTED  # the parent ended before the line above
    ours = logging.getLogger("dhmd")
    ours.setLevel(logging.INFO)
    try:
        for path in map(Path, paths):
            task, events = Task.read(path), _Events(path.with_name(EVENTS))
            observer = ManyObservers(events, LogObserver())
            observer.started(task.label, task.members, {}, 0)
            ours.addHandler(events)
            run_task(task, observer)
            ours.removeHandler(events)
    except DhmdError as error:
        print(error, file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0
