"""Training jobs: from a configuration and an aligned features file to an output folder.

They do not depend on DVC. Each job trains the members that the store of finished trainings
(store.py) does not have yet, and assembles its output folder from the store. An interrupted job
resumes when it is called again with the same arguments. On a CPU, longer jobs use several
processes (`compute.workers`); set it to 1 if you run several jobs at once.
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
from dhmd.data.text.encoder import Encoder
from dhmd.training.checkpoint import CHECKPOINT, read_checkpoint, write_tensors
from dhmd.training.configuration import Configuration
from dhmd.training.device import prepared, visible_gpus
from dhmd.training.executors import run_tasks
from dhmd.training.finetuning import check_tokens, save_encoder
from dhmd.training.history import selected_scores, write_history
from dhmd.training.observer import NOBODY, Observer
from dhmd.training.outputs import FILE, write_outputs
from dhmd.training.planning import WORTH, choose_workers, most_members, split_evenly, stacks
from dhmd.training.pretraining import Pretrained
from dhmd.training.store import Store, TrainedMember, member_name, training_key
from dhmd.training.task import Task, with_seeds
from dhmd.training.weights import Description, weights_file

# If this environment variable is set, jobs write the paths of their tasks' JSON files to the file
# that it names, instead of training. A sweep trains them and runs the jobs again.
PLAN = "DHMD_PLAN"

_log = logging.getLogger(__name__)


def pretrain_job(
    configuration: Configuration,
    aligned: Path,
    output: Path,
    store: Path,
    observer: Observer = NOBODY,
    *,
    fold: str | None = None,
) -> None:
    """Pretrain each modality's encoder and cross-fit the teachers (method section 1).

    Every seed trains one member on the whole train split, and one per fold of the train videos
    without that fold. The predictions of the latter for their fold are the teachers.

    Raises:
        DhmdError: bad input; nothing is written.
    """
    configuration = configuration.for_pretraining()
    with prepared(configuration.compute) as device:
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
        with atomic_folder(output) as folder:
            _write(folder, configuration, job.corpus, found)
    scores = [f"{name} {_summary(members)[1]}" for name, members in found.items()]
    job.finish(output, f"validation {'; '.join(scores)}")


def train_job(
    configuration: Configuration,
    aligned: Path,
    pretrained: Path,
    output: Path,
    store: Path,
    observer: Observer = NOBODY,
    *,
    fold: str | None = None,
    encoder: Encoder | None = None,
) -> None:
    """Train the model over all seeds; write weights, predictions and history to `output`.

    Args:
        encoder: the text encoder to fine-tune, if the configuration has `finetune`.

    Raises:
        DhmdError: bad input, or pretrained encoders of another configuration; nothing is written.
    """
    with prepared(configuration.compute) as device:
        job = _Job("train", aligned, fold, device, observer, Store(store), pretrained, encoder)
        job.train_variants({"": configuration}, output)


def ablate_job(
    variants: Mapping[str, Configuration],
    aligned: Path,
    pretrained: Path,
    output: Path,
    store: Path,
    observer: Observer = NOBODY,
    *,
    fold: str | None = None,
    encoder: Encoder | None = None,
) -> None:
    """Train every variant over its seeds; write one model folder per variant below `output`.

    Variants that differ only in loss weights or edges train together as one stack.

    Raises:
        DhmdError: bad input; nothing is written. Finished variants stay in the store.
    """
    if not variants:
        with atomic_folder(output):
            return
    with prepared(next(iter(variants.values())).compute) as device:
        job = _Job("ablate", aligned, fold, device, observer, Store(store), pretrained, encoder)
        job.train_variants(variants, output)


@dataclass
class _Job:
    """Common code of the jobs: inputs, and building and running tasks."""

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
        """Build a task on the job's data."""
        return Task(
            configurations=configurations,
            keys=keys,
            aligned=self.aligned,
            fold=self.fold,
            store=self.store,
            **more,
        )

    def key(self, configuration: Configuration, seed: int, **inputs: object) -> str:
        """Return the key of one member in the store."""
        inputs |= {"aligned": self._aligned_sha256, "fold": self.corpus.fold}
        return training_key(configuration, seed, self.device, **inputs)

    def workers(self, configurations: Sequence[Configuration], epochs: int) -> int:
        """Choose the number of processes that train these configurations."""
        if self.encoder is not None and any(each.trains_encoder for each in configurations):
            # An encoder needs much memory, and its products use all cores.
            return max(1, len(visible_gpus())) if self.device.type == "cuda" else 1
        members = sum(len(each.train.seeds) for each in configurations)
        work = members * epochs * len(self.corpus.index("train"))
        worth = WORTH["train"]
        if self.stage == "pretrain":
            work *= configurations[0].pretrain.folds + 1
            worth = WORTH["pretrain"]
        return choose_workers(
            configurations[0].compute,
            self.corpus,
            self.device,
            members=members,
            work=work,
            worth=worth,
        )

    def members(
        self, prefix: str, seeds: Sequence[int], keys: Mapping[str, str]
    ) -> list[TrainedMember]:
        """Read the seeds' members of one variant or modality from the store."""
        return [self.store.read(keys[member_name(prefix, seed)]) for seed in seeds]

    def train_variants(self, variants: Mapping[str, Configuration], output: Path) -> None:
        """Train variants and write the model folder of each below `output`, by its name."""
        keys = self._keys(variants)
        first = next(iter(variants.values()))
        workers = self.workers(list(variants.values()), first.train.epochs)
        most = most_members(first, self.corpus, self.device)
        groups = [
            self._split({name: variants[name] for name in names}, keys, workers)
            for names in stacks(variants, most)
        ]
        self.run(groups, list(keys), first, workers)
        summaries = {}
        with atomic_folder(output) as folder:
            for name, own in variants.items():
                members = self.members(name, own.train.seeds, keys)
                (folder / name).mkdir(exist_ok=True)
                _write(folder / name, own, self.corpus, {"": members}, self._encoder_of(own))
                summaries[name] = _summary(members)
                if name:
                    _log.info("ablate: %s: validation %s", name, summaries[name][1])
        best = min(summaries, key=lambda name: summaries[name][0])
        words = f"best of {len(variants)} on validation is {best}," if best else "validation"
        self.finish(output, f"{words} {summaries[best][1]}")

    def _keys(self, variants: Mapping[str, Configuration]) -> dict[str, str]:
        """Return the key of each variant and seed, by member name."""
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
                )
        return keys

    def _encoder_of(self, configuration: Configuration) -> Encoder | None:
        """Return the encoder that is fine-tuned with a variant; None if there is none.

        Raises:
            DhmdError: it was not given, or the aligned features file was made for another one.
        """
        if not configuration.trains_encoder:
            return None
        if self.encoder is None:
            raise DhmdError("features.text is finetune, but no text encoder was given")
        check_tokens(self.corpus, self.encoder)
        return self.encoder

    def _split(
        self, variants: Mapping[str, Configuration], keys: Mapping[str, str], workers: int
    ) -> list[Task]:
        """Split a stack into tasks: by seeds, and also by variants if seeds are few.

        With an encoder there is one task per variant and seed: encoders of several members would
        not fit into the memory of most machines, and one is enough to use all cores.
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
        """Train the members that the store does not have."""
        tasks = [task for group in groups for task in group]
        missing = unfinished(groups)
        self._tasks = tasks + [task for group in missing for task in group]
        if missing and (plan := os.environ.get(PLAN)):
            paths = [[str(task.write().resolve()) for task in group] for group in missing]
            with open(plan, "a", encoding="utf-8") as stream:
                stream.write("".join(json.dumps(group) + "\n" for group in paths))
            raise DhmdError("its trainings wait for those of the sweep's other experiments")
        epoch = _resumed_epoch(self._tasks)
        self.observer.started(self.stage, names, configuration.as_json(), epoch)
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
            processes=workers,
            corpus=self.corpus,
        )

    def finish(self, output: Path, scores: str) -> None:
        """Remove the tasks' directories and old trainings; report the end of the job."""
        for task in self._tasks:
            shutil.rmtree(task.folder, ignore_errors=True)
        self.store.prune()
        self.observer.finished(output)
        _log.info("%s: %s, written to %s", self.stage, scores, output)


def unfinished(groups: Sequence[Sequence[Task]]) -> list[list[Task]]:
    """Return the tasks without members that are finished or belong to an earlier task.

    An interrupted task is returned unchanged, so that it resumes from its checkpoint.
    """
    claimed: set[str] = set()
    found: list[list[Task]] = []
    for group in groups:
        found.append([])
        for task in group:
            own = {task.keys[name] for name in task.members}
            if wanted := {task.keys[name] for name in task.missing} - claimed:
                unchanged = task.folder.is_dir() and not own & claimed
                found[-1].append(task if unchanged else task.reduced(wanted))
                claimed |= own
    return [group for group in found if group]


def _resumed_epoch(tasks: Sequence[Task]) -> int:
    """Return the epoch of the latest checkpoint; 0 if there is none."""
    found = [path for task in tasks for path in task.folder.glob(CHECKPOINT)]
    if not found:
        return 0
    saved = read_checkpoint(max(found, key=lambda path: path.stat().st_mtime_ns))
    return int(saved[1]["epoch"]) if saved else 0


def _write(
    folder: Path,
    configuration: Configuration,
    corpus: Corpus,
    found: Mapping[str, Sequence[TrainedMember]],
    encoder: Encoder | None = None,
) -> None:
    """Write a model folder: weights per seed, outputs, history and model.json.

    Args:
        found: the seeds' members under the empty name, or by modality for pretrained encoders.
    """
    seeds, by_seed = configuration.train.seeds, list(zip(*found.values(), strict=True))
    for seed, members in zip(seeds, by_seed, strict=True):
        weights = {
            f"{modality}.{name}" if modality else name: value
            for modality, member in zip(found, members, strict=True)
            for name, value in member.parameters.items()
        }
        write_tensors(weights_file(folder, seed), weights)
    arrays = {
        name: np.stack(
            [
                members[0].arrays[name]
                if "" in found
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
            for modality, members in found.items()
        },
    )
    if encoder is not None:
        save_encoder(folder, encoder)
    Description.of(corpus, configuration).write(folder)


def _summary(members: Sequence[TrainedMember]) -> tuple[float, str]:
    """Average the selected validation scores of the seeds: the first score, and a text."""
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
