"""Training jobs: pure functions of configuration, aligned features file and seeds to a folder.

They know nothing of DVC and run anywhere. Each job lists the members that it needs, trains those
that the store of finished trainings does not have (store.py), and assembles its output folder from
the store. An interrupted job resumes when it is called again with the same arguments. On a CPU
several processes share a longer job (`train.workers`); a caller that runs several jobs at once
should set that to 1.
"""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dhmd.base.artefacts import write_description
from dhmd.base.errors import DhmdError
from dhmd.base.files import file_sha256, whole_folder
from dhmd.data.aligned import read_corpus
from dhmd.data.aligned.corpus import Array, Corpus
from dhmd.data.text.encoder import Encoder
from dhmd.training.checkpoint import CheckpointDirectory
from dhmd.training.configuration import Configuration, flat
from dhmd.training.device import prepared
from dhmd.training.execute import run_tasks
from dhmd.training.finetuning import check_tokens, save_encoder
from dhmd.training.history import HISTORY, selected_scores, write_history
from dhmd.training.input import describe
from dhmd.training.observer import Observer
from dhmd.training.outputs import FILE, Arrays, write_outputs
from dhmd.training.planning import WORTH, choose_workers, most_members, split_evenly, stacks
from dhmd.training.stack import Pretrained
from dhmd.training.store import Store, TrainedMember, training_key
from dhmd.training.task import Task, member_name, with_seeds
from dhmd.training.weights import save_weights

_log = logging.getLogger(__name__)


def pretrain_job(
    configuration: Configuration,
    aligned: Path,
    output: Path,
    *,
    fold: str | None,
    observer: Observer,
    store: Path,
) -> None:
    """Pretrain each modality's encoder and cross-fit the teachers (method section 1).

    Every seed has one member trained on the whole train split, and one per fold of the train
    videos that leaves the fold out: the left-out utterances' predictions are the teachers' targets.

    Raises:
        DhmdError: bad input; nothing is written.
    """
    configuration = configuration.for_pretraining()
    with prepared(configuration.train) as device:
        job = _Job("pretrain", aligned, fold, device, observer, Store(store))
        train, modalities = configuration.train, configuration.modalities
        workers = job.workers([configuration] * len(modalities), configuration.pretrain.epochs)
        keys = {
            member_name(modality, seed): job.key(
                replace(configuration, modalities=(modality,)), seed, pretrains=modality
            )
            for modality in modalities
            for seed in train.seeds
        }
        groups = [
            [
                job.task({"": with_seeds(configuration, seeds)}, keys, modality=modality)
                for seeds in split_evenly(train.seeds, workers)
            ]
            for modality in modalities
        ]
        names = [member_name("", seed) for seed in train.seeds]
        job.run(groups, names, configuration, workers)
        found = {name: job.members(name, train.seeds, keys) for name in modalities}
        with whole_folder(output) as folder:
            _write_pretrained(folder, configuration, job.corpus, found)
    scores = [f"{name} {_summary(members)[1]}" for name, members in found.items()]
    job.finish(output, f"validation {'; '.join(scores)}")


def train_job(
    configuration: Configuration,
    aligned: Path,
    pretrained: Path,
    output: Path,
    *,
    fold: str | None,
    observer: Observer,
    store: Path,
    encoder: Encoder | None = None,
) -> None:
    """Train the model over all seeds; write weights, predictions and history to `output`.

    Args:
        encoder: the text encoder that is trained along, if the configuration wants one.

    Raises:
        DhmdError: bad input, or pretrained encoders of another configuration; nothing is written.
    """
    with prepared(configuration.train) as device:
        job = _Job("train", aligned, fold, device, observer, Store(store), pretrained, encoder)
        keys = job.train({"": configuration})
        members = job.members("", configuration.train.seeds, keys)
        with whole_folder(output) as folder:
            _write_model(folder, configuration, job.corpus, members, encoder)
    job.finish(output, f"validation {_summary(members)[1]}")


def ablate_job(
    variants: Mapping[str, Configuration],
    aligned: Path,
    pretrained: Path,
    output: Path,
    *,
    fold: str | None,
    observer: Observer,
    store: Path,
    encoder: Encoder | None = None,
) -> None:
    """Train every variant over its seeds; write one model folder per variant below `output`.

    Variants that differ in loss weights or edges alone train together as one stack.

    Raises:
        DhmdError: bad input; nothing is written. Variants that are done stay in the store.
    """
    if not variants:
        with whole_folder(output):
            return
    first = next(iter(variants.values()))
    with prepared(first.train) as device:
        job = _Job("ablate", aligned, fold, device, observer, Store(store), pretrained, encoder)
        keys = job.train(variants)
        summaries = {}
        with whole_folder(output) as folder:
            for name, configuration in variants.items():
                members = job.members(name, configuration.train.seeds, keys)
                (folder / name).mkdir()
                _write_model(folder / name, configuration, job.corpus, members, encoder)
                summaries[name] = _summary(members)
                _log.info("ablate: %s: validation %s", name, summaries[name][1])
    best = min(summaries, key=lambda name: summaries[name][0])
    job.finish(output, f"best of {len(variants)} on validation is {best}, {summaries[best][1]}")


@dataclass
class _Job:
    """What the three jobs have in common: their inputs, and how tasks are made and run."""

    stage: str
    aligned: Path
    fold: str | None
    device: torch.device
    observer: Observer
    store: Store
    pretrained: Path | None = None
    encoder: Encoder | None = None

    def __post_init__(self) -> None:
        self.corpus = read_corpus(self.aligned, fold=self.fold)
        self._aligned_sha256 = file_sha256(self.aligned)
        self._tasks: list[Task] = []

    def task(
        self, configurations: Mapping[str, Configuration], keys: Mapping[str, str], **more: Any
    ) -> Task:
        """A task on the job's data."""
        return Task(
            configurations=configurations,
            keys=keys,
            aligned=self.aligned,
            fold=self.fold,
            store=self.store,
            **more,
        )

    def key(self, configuration: Configuration, seed: int, **inputs: object) -> str:
        """The key of one member in the store."""
        inputs |= {"aligned": self._aligned_sha256, "fold": self.corpus.fold}
        return training_key(configuration, seed, self.device, **inputs)

    def workers(self, configurations: Sequence[Configuration], epochs: int) -> int:
        """How many processes train the seeds of these configurations."""
        if self.encoder is not None and any(each.trains_encoder for each in configurations):
            return 1  # its products are large enough to keep cores busy, and it fills the memory
        train = configurations[0].train
        members = sum(len(each.train.seeds) for each in configurations)
        work = members * epochs * len(self.corpus.index("train"))
        worth = WORTH["train"]
        if self.stage == "pretrain":
            work *= configurations[0].pretrain.folds + 1
            worth = WORTH["pretrain"]
        return choose_workers(
            train, self.corpus, self.device, members=members, work=work, worth=worth
        )

    def members(
        self, prefix: str, seeds: Sequence[int], keys: Mapping[str, str]
    ) -> list[TrainedMember]:
        """Read the seeds' members of one variant or modality from the store."""
        return [self.store.read(keys[member_name(prefix, seed)]) for seed in seeds]

    def train(self, variants: Mapping[str, Configuration]) -> dict[str, str]:
        """Train variants over their seeds; return the members' keys in the store by name."""
        keys = self._keys(variants)
        first = next(iter(variants.values()))
        workers = self.workers(list(variants.values()), first.train.epochs)
        most = most_members(first, self.corpus, self.device)
        groups = [
            self._split({name: variants[name] for name in names}, keys, workers)
            for names in stacks(variants, most)
        ]
        self.run(groups, list(keys), first, workers)
        return keys

    def _keys(self, variants: Mapping[str, Configuration]) -> dict[str, str]:
        """The key of every variant's and seed's member, by member name."""
        assert self.pretrained is not None
        keys = {}
        starts: dict[object, Pretrained] = {}
        for variant, own in variants.items():
            which = (own.modalities, own.train.seeds)
            if which not in starts:
                starts[which] = Pretrained.read(self.pretrained, self.corpus, own)
            encoder = self._encoder_of(own)
            for index, seed in enumerate(own.train.seeds):
                keys[member_name(variant, seed)] = self.key(
                    own,
                    seed,
                    pretrained=starts[which].sha256(index),
                    encoder=None if encoder is None else encoder.digest,
                    missing_modality_test=self.stage == "train",
                )
        return keys

    def _encoder_of(self, configuration: Configuration) -> Encoder | None:
        """The encoder that is trained along with a variant.

        Raises:
            DhmdError: one is wanted and not given, or the aligned file was made for another.
        """
        if not configuration.trains_encoder:
            return None
        if self.encoder is None:
            raise DhmdError("features.text is finetune, but no encoder was given to train along")
        check_tokens(self.corpus, self.encoder)
        return self.encoder

    def _split(
        self, variants: Mapping[str, Configuration], keys: Mapping[str, str], workers: int
    ) -> list[Task]:
        """Split a stack into tasks: by seeds, and by variants where seeds are few.

        With an encoder one task per variant and seed: an encoder per member would fill the memory
        of most machines, and its products are large enough to keep a processor busy alone.
        """
        first = next(iter(variants.values()))
        encoder, seeds = self._encoder_of(first), first.train.seeds
        each = len(variants) * len(seeds) if encoder is not None else workers
        return [
            self.task(
                {name: with_seeds(variants[name], some) for name in names},
                keys,
                pretrained=self.pretrained,
                encoder=encoder,
                missing_modality_test=self.stage == "train",
            )
            for names in split_evenly(list(variants), max(1, each // len(seeds)))
            for some in split_evenly(seeds, each)
        ]

    def run(
        self,
        groups: Sequence[Sequence[Task]],
        names: Sequence[str],
        configuration: Configuration,
        workers: int,
    ) -> None:
        """Run what the store does not have, so that it has all members."""
        tasks = [task for group in groups for task in group]
        missing = [list(filter(None, map(_without_finished, group))) for group in groups]
        self._tasks = tasks + [task for group in missing for task in group]
        parameters = flat(configuration.as_json())
        self.observer.started(self.stage, names, parameters, _resumed_epoch(self._tasks))
        members = sum(len(task.members) for task in tasks)
        stored = members - sum(len(task.missing) for task in tasks)
        if stored:
            _log.info(
                "%s: %d of %d trainings are in %s already",
                *(self.stage, stored, members, self.store.folder),
            )
        run_tasks(
            [group for group in missing if group],
            self.observer,
            processes=workers,
            corpus=self.corpus,
        )

    def finish(self, output: Path, scores: str) -> None:
        """Remove the tasks' directories and old trainings, and report the end."""
        for task in self._tasks:
            shutil.rmtree(task.folder, ignore_errors=True)
        self.store.prune()
        self.observer.finished(output)
        _log.info("%s: %s, written to %s", self.stage, scores, output)


def _without_finished(task: Task) -> Task | None:
    """The task with what is left to train, or None if that is nothing.

    A task that was interrupted stays as it is, so that it resumes from its checkpoint.
    """
    if not task.missing:
        return None
    return task if task.folder.is_dir() else task.reduced()


def _resumed_epoch(tasks: Sequence[Task]) -> int:
    """The epoch of the checkpoint that was written last; 0 if there is none."""
    found = [path for task in tasks for path in task.folder.glob("checkpoint.safetensors")]
    if not found:
        return 0
    last = max(found, key=lambda path: path.stat().st_mtime_ns)
    saved = CheckpointDirectory(last.parent).load(last.stem)
    return int(saved[1]["epoch"]) if saved else 0


def _write_pretrained(
    folder: Path,
    configuration: Configuration,
    corpus: Corpus,
    found: Mapping[str, Sequence[TrainedMember]],
) -> None:
    """Write the folder that training starts from; `found` has the seeds' members by modality."""
    weights = [
        {
            f"{modality}.{name}": value
            for modality, member in zip(found, members, strict=True)
            for name, value in member.parameters.items()
        }
        for members in zip(*found.values(), strict=True)
    ]
    arrays = {
        name: np.stack([_stacked(members, name) for members in found.values()], axis=2)
        for name in ("prediction", "teacher")
    }
    histories = [(f"{modality}/", members) for modality, members in found.items()]
    _write(folder, configuration, corpus, weights, arrays, histories)


def _write_model(
    folder: Path,
    configuration: Configuration,
    corpus: Corpus,
    members: Sequence[TrainedMember],
    encoder: Encoder | None,
) -> None:
    """Write the model folder of one variant, from its seeds' members."""
    weights = [member.parameters for member in members]
    arrays = {name: _stacked(members, name) for name in members[0].arrays}
    along = encoder if configuration.trains_encoder else None
    _write(folder, configuration, corpus, weights, arrays, [("", members)], along)


def _stacked(members: Sequence[TrainedMember], name: str) -> Array:
    return np.stack([member.arrays[name] for member in members])


def _write(
    folder: Path,
    configuration: Configuration,
    corpus: Corpus,
    weights: Sequence[Mapping[str, Tensor]],
    arrays: Arrays,
    histories: Sequence[tuple[str, Sequence[TrainedMember]]],
    encoder: Encoder | None = None,
) -> None:
    """Write a model folder: weights per seed, outputs, history and model.json."""
    seeds = configuration.train.seeds
    files = save_weights(folder, dict(zip(seeds, weights, strict=True)))
    write_outputs(
        folder / FILE, corpus, seeds=seeds, modalities=configuration.modalities, arrays=arrays
    )
    blocks = [
        (prefix, {seed: member.history for seed, member in zip(seeds, members, strict=True)})
        for prefix, members in histories
    ]
    write_history(folder, blocks)
    files |= {name: file_sha256(folder / name) for name in (FILE, HISTORY)}
    if encoder is not None:
        files |= save_encoder(folder, encoder)
    write_description(folder, describe(corpus, configuration).as_json(files))


def _summary(members: Sequence[TrainedMember]) -> tuple[float, str]:
    """The seeds' mean validation scores at their selected epochs: the selecting one, and a text."""
    scores = [found for member in members if (found := selected_scores(member.history))]
    means = {
        name.removeprefix("valid/"): math.fsum(each[name] for each in scores) / len(scores)
        for name in (scores[0] if scores else ())
    }
    words = [f"{name} {mean:.4f}" for name, mean in means.items()]
    if len(scores) < len(members):
        words.append(f"{len(members) - len(scores)} diverged")
    count = "1 seed" if len(members) == 1 else f"{len(members)} seeds"
    return next(iter(means.values()), math.inf), f"{', '.join(words)} ({count})"
