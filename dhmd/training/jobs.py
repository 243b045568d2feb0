"""Training jobs: from a configuration and an aligned features file to an output folder.

They do not depend on DVC. A job trains the members that the store of finished trainings (store.py)
does not have yet, and assembles its output folder from the store. An interrupted job resumes when
it is called again with the same arguments. On a CPU, long jobs use several processes: set
`compute.workers` to 1 if you run several jobs at once.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dhmd.base.errors import DhmdError
from dhmd.base.files import atomic_folder, file_sha256
from dhmd.data.aligned import read_corpus
from dhmd.data.aligned.corpus import Corpus
from dhmd.data.text.encoder import TextEncoder
from dhmd.training.checkpoint import CHECKPOINT, read_checkpoint, write_tensors
from dhmd.training.configuration import Configuration
from dhmd.training.device import torch_session, visible_gpus
from dhmd.training.executors import run_tasks
from dhmd.training.finetuning import check_tokens, save_encoder
from dhmd.training.history import selected_scores, write_history
from dhmd.training.observer import NULL_OBSERVER, Observer, TrainingInfo
from dhmd.training.outputs import FILE, write_outputs
from dhmd.training.planning import (
    MIN_PARALLEL_WORK,
    choose_workers,
    group_by_structure,
    max_members,
    split_evenly,
)
from dhmd.training.pretraining import PretrainedEncoders
from dhmd.training.store import Store, TrainedMember, member_name, training_key
from dhmd.training.task import Task, with_seeds
from dhmd.training.weights import Description, weights_file

# If this environment variable names a file, jobs add the paths of their tasks' JSON files to it
# instead of training. A sweep then runs the tasks of all experiments, and the jobs once more.
PLAN = "DHMD_PLAN"

_log = logging.getLogger(__name__)


def pretrain_job(
    configuration: Configuration,
    aligned: Path,
    output: Path,
    store: Path,
    observer: Observer = NULL_OBSERVER,
    *,
    fold: str | None = None,
) -> None:
    """Pretrain each modality's encoder and cross-fit the teachers (method section 1).

    Every seed trains one member on the whole train split, and one per fold on all other folds. The
    teachers are the predictions of the latter for the fold that they were not trained on.

    Raises:
        DhmdError: bad input; nothing is written.
    """
    configuration = configuration.for_pretraining()
    with torch_session(configuration.compute) as device:
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
        trained = {name: job.members(name, train.seeds, keys) for name in modalities}
        with atomic_folder(output) as folder:
            _write_model(folder, configuration, job.corpus, trained)
    scores = [f"{name} {_summary(members)[1]}" for name, members in trained.items()]
    job.finish(output, f"validation {'; '.join(scores)}")


def train_job(
    configuration: Configuration,
    aligned: Path,
    pretrained: Path,
    output: Path,
    store: Path,
    observer: Observer = NULL_OBSERVER,
    *,
    fold: str | None = None,
    encoder: TextEncoder | None = None,
) -> None:
    """Train the model over all seeds and write its model folder, `output`.

    Args:
        encoder: the text encoder to fine-tune, if the configuration has `finetune`.

    Raises:
        DhmdError: bad input, or pretrained encoders of another configuration; nothing is written.
    """
    with torch_session(configuration.compute) as device:
        job = _Job("train", aligned, fold, device, observer, Store(store), pretrained, encoder)
        job.train_variants({"": configuration}, output)


def ablate_job(
    variants: Mapping[str, Configuration],
    aligned: Path,
    pretrained: Path,
    output: Path,
    store: Path,
    observer: Observer = NULL_OBSERVER,
    *,
    fold: str | None = None,
    encoder: TextEncoder | None = None,
) -> None:
    """Train every variant over its seeds and write one model folder per variant into `output`.

    Variants that differ only in loss weights or edges train together as one stack.

    Raises:
        DhmdError: bad input; nothing is written. Finished variants stay in the store.
    """
    if not variants:
        with atomic_folder(output):
            return
    with torch_session(next(iter(variants.values())).compute) as device:
        job = _Job("ablate", aligned, fold, device, observer, Store(store), pretrained, encoder)
        job.train_variants(variants, output)


@dataclass
class _Job:
    """The inputs of a job, and the code that all jobs share."""

    stage: str
    aligned: Path
    fold: str | None
    device: torch.device
    observer: Observer
    store: Store
    pretrained: Path | None = None
    encoder: TextEncoder | None = None

    def __post_init__(self) -> None:
        self.corpus = read_corpus(self.aligned, fold=self.fold)
        self._aligned_sha256 = file_sha256(self.aligned)
        self._tasks: list[Task] = []

    def task(
        self, configurations: Mapping[str, Configuration], keys: Mapping[str, str], **options: Any
    ) -> Task:
        """Return a task on the job's data; `options` are further arguments of `Task`."""
        return Task(
            configurations=configurations,
            keys=keys,
            aligned=self.aligned,
            fold=self.fold,
            store=self.store,
            **options,
        )

    def key(self, configuration: Configuration, seed: int, **inputs: object) -> str:
        """Return the key of one member in the store."""
        inputs |= {"aligned": self._aligned_sha256, "fold": self.corpus.fold}
        return training_key(configuration, seed, self.device, **inputs)

    def workers(self, configurations: Sequence[Configuration], epochs: int) -> int:
        """Return the number of processes that train these configurations."""
        if self.encoder is not None and any(each.trains_encoder for each in configurations):
            # An encoder takes much memory, and its matrix products use all cores.
            return max(1, len(visible_gpus())) if self.device.type == "cuda" else 1
        members = sum(len(each.train.seeds) for each in configurations)
        work = members * epochs * len(self.corpus.index("train"))
        min_work = MIN_PARALLEL_WORK["train"]
        if self.stage == "pretrain":
            work *= configurations[0].pretrain.folds + 1
            min_work = MIN_PARALLEL_WORK["pretrain"]
        return choose_workers(
            configurations[0].compute,
            self.corpus,
            self.device,
            num_members=members,
            enough_work=work >= min_work,
        )

    def members(
        self, prefix: str, seeds: Sequence[int], keys: Mapping[str, str]
    ) -> list[TrainedMember]:
        """Read the members of one variant or modality from the store."""
        return [self.store.read(keys[member_name(prefix, seed)]) for seed in seeds]

    def train_variants(self, variants: Mapping[str, Configuration], output: Path) -> None:
        """Train variants and write the model folder of each, by its name, into `output`."""
        keys = self._keys(variants)
        first = next(iter(variants.values()))
        workers = self.workers(list(variants.values()), first.train.epochs)
        limit = max_members(first, self.corpus, self.device)
        groups = [
            self._split({name: variants[name] for name in names}, keys, workers)
            for names in group_by_structure(variants, limit)
        ]
        self.run(groups, list(keys), first, workers)
        summaries = {}
        with atomic_folder(output) as folder:
            for name, configuration in variants.items():
                members = self.members(name, configuration.train.seeds, keys)
                encoder = self._encoder_of(configuration)
                (folder / name).mkdir(exist_ok=True)
                _write_model(folder / name, configuration, self.corpus, {"": members}, encoder)
                summaries[name] = _summary(members)
                if name:
                    _log.info("ablate: %s: validation %s", name, summaries[name][1])
        best = min(summaries, key=lambda name: summaries[name][0])
        text = (
            f"the best of {len(variants)} variants on validation is {best},"
            if best
            else "validation"
        )
        self.finish(output, f"{text} {summaries[best][1]}")

    def _keys(self, variants: Mapping[str, Configuration]) -> dict[str, str]:
        """Return the keys of all variants and seeds by member name."""
        assert self.pretrained is not None
        keys = {}
        pretrained: dict[object, PretrainedEncoders] = {}  # by modalities and seeds
        for variant, configuration in variants.items():
            inputs = (configuration.modalities, configuration.train.seeds)
            if inputs not in pretrained:
                pretrained[inputs] = PretrainedEncoders.read(
                    self.pretrained, self.corpus, configuration
                )
            encoder = self._encoder_of(configuration)
            for index, seed in enumerate(configuration.train.seeds):
                keys[member_name(variant, seed)] = self.key(
                    configuration,
                    seed,
                    pretrained=pretrained[inputs].sha256(index),
                    encoder=None if encoder is None else encoder.digest,
                )
        return keys

    def _encoder_of(self, configuration: Configuration) -> TextEncoder | None:
        """Return the text encoder that is fine-tuned with a variant; None if there is none.

        Raises:
            DhmdError: the job has no encoder, or the aligned features file is for another one.
        """
        if not configuration.trains_encoder:
            return None
        if self.encoder is None:
            raise DhmdError("features.text is finetune, which needs a text encoder: pass `encoder`")
        check_tokens(self.corpus, self.encoder)
        return self.encoder

    def _split(
        self, variants: Mapping[str, Configuration], keys: Mapping[str, str], num_workers: int
    ) -> list[Task]:
        """Split a stack into tasks: by seeds, and also by variants if there are few seeds.

        With a text encoder there is one task per variant and seed: the encoders of several members
        do not fit into the memory of most machines, and one is enough to use all cores.
        """
        first = next(iter(variants.values()))
        encoder, all_seeds = self._encoder_of(first), first.train.seeds
        count = len(variants) * len(all_seeds) if encoder is not None else num_workers
        return [
            self.task(
                {name: with_seeds(variants[name], seeds) for name in names},
                keys,
                pretrained=self.pretrained,
                encoder=encoder,
            )
            for names in split_evenly(list(variants), max(1, count // len(all_seeds)))
            for seeds in split_evenly(all_seeds, count)
        ]

    def run(
        self,
        groups: Sequence[Sequence[Task]],
        names: Sequence[str],
        configuration: Configuration,
        num_workers: int,
    ) -> None:
        """Train the members that the store does not have.

        Args:
            groups: the tasks; the members of a group are reported to the observer together.
            names: the members' names.
            num_workers: the number of processes.
        """
        tasks = [task for group in groups for task in group]
        missing = unfinished_tasks(groups)
        self._tasks = tasks + [task for group in missing for task in group]
        if missing and (plan := os.environ.get(PLAN)):
            paths = [[str(task.write().resolve()) for task in group] for group in missing]
            with open(plan, "a", encoding="utf-8") as stream:
                stream.write("".join(json.dumps(group) + "\n" for group in paths))
            raise DhmdError("the sweep trains these members with those of the other experiments")
        epoch = _resumed_epoch(self._tasks)
        self.observer.on_start(TrainingInfo(self.stage, names, configuration.as_json(), epoch))
        members = sum(len(task.members) for task in tasks)
        stored = members - sum(len(task.missing) for task in tasks)
        if stored:
            _log.info(
                "%s: %d of %d trainings are already in %s",
                *(self.stage, stored, members, self.store.folder),
            )
        run_tasks(
            missing,
            self.observer,
            compute=configuration.compute,
            device=self.device,
            num_processes=num_workers,
            corpus=self.corpus,
        )

    def finish(self, output: Path, scores: str) -> None:
        """Remove the tasks' directories and old trainings, and report the end of the job."""
        for task in self._tasks:
            shutil.rmtree(task.folder, ignore_errors=True)
        self.store.prune()
        self.observer.on_finish(output)
        _log.info("%s: %s, written to %s", self.stage, scores, output)


def unfinished_tasks(groups: Sequence[Sequence[Task]]) -> list[list[Task]]:
    """Return the tasks without members that are finished or belong to an earlier task.

    An interrupted task is not changed, so that it resumes from its checkpoint.
    """
    claimed: set[str] = set()  # keys of earlier tasks
    remaining: list[list[Task]] = []
    for group in groups:
        remaining.append([])
        for task in group:
            keys = {task.keys[name] for name in task.members}
            if missing := {task.keys[name] for name in task.missing} - claimed:
                unchanged = task.folder.is_dir() and not keys & claimed
                remaining[-1].append(task if unchanged else task.restricted_to(missing))
                claimed |= keys
    return [group for group in remaining if group]


def _resumed_epoch(tasks: Sequence[Task]) -> int:
    """Return the epoch of the latest checkpoint; 0 if there is none."""
    checkpoints = [path for task in tasks for path in task.folder.glob(CHECKPOINT)]
    if not checkpoints:
        return 0
    saved = read_checkpoint(max(checkpoints, key=lambda path: path.stat().st_mtime_ns))
    return int(saved[1]["epoch"]) if saved else 0


def _write_model(
    folder: Path,
    configuration: Configuration,
    corpus: Corpus,
    trained: Mapping[str, Sequence[TrainedMember]],
    encoder: TextEncoder | None = None,
) -> None:
    """Write a model folder: weights per seed, outputs, history and model.json.

    Args:
        trained: one member per seed, by modality if they are pretrained encoders; a model has the
            empty name.
    """
    seeds, by_seed = configuration.train.seeds, list(zip(*trained.values(), strict=True))
    for seed, members in zip(seeds, by_seed, strict=True):
        weights = {
            f"{modality}.{name}" if modality else name: value
            for modality, member in zip(trained, members, strict=True)
            for name, value in member.parameters.items()
        }
        write_tensors(weights_file(folder, seed), weights)
    arrays = {
        name: np.stack(
            [
                members[0].arrays[name]
                if "" in trained
                else np.stack([member.arrays[name] for member in members], axis=1)
                for members in by_seed
            ]
        )
        for name in by_seed[0][0].arrays
    }
    write_outputs(
        folder / FILE, corpus, seeds=seeds, modalities=configuration.modalities, arrays=arrays
    )
    write_history(
        folder,
        {
            f"{modality}/" if modality else "": {
                seed: member.history for seed, member in zip(seeds, members, strict=True)
            }
            for modality, members in trained.items()
        },
    )
    if encoder is not None:
        save_encoder(folder, encoder)
    Description.of(corpus, configuration).write(folder)


def _summary(members: Sequence[TrainedMember]) -> tuple[float, str]:
    """Return the first validation score, and a text with all of them, as means over the seeds."""
    scores = [selected for member in members if (selected := selected_scores(member.history))]
    means = {
        name.removeprefix("valid/"): math.fsum(each[name] for each in scores) / len(scores)
        for name in (scores[0] if scores else ())
    }
    items = [f"{name} {mean:.4f}" for name, mean in means.items()]
    if len(scores) < len(members):
        items.append(f"{len(members) - len(scores)} diverged")
    count = "1 seed" if len(members) == 1 else f"{len(members)} seeds"
    return next(iter(means.values()), math.inf), f"{', '.join(items)} ({count})"
