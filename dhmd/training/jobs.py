"""Training jobs: pure functions of configuration, aligned cache and seeds to a folder of artefacts.

They know nothing of DVC and run anywhere. A job that is interrupted goes on where it was when it is
called again with the same arguments.

Legend: R replicas, S seeds, F folds, N utterances, M modalities, O outputs.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from dhmd.base.atomic import whole_folder
from dhmd.base.errors import DhmdError
from dhmd.base.hashing import file_sha256, json_sha256
from dhmd.cache import read_corpus
from dhmd.cache.corpus import Array, Corpus
from dhmd.model.architectures import AnyModel, build
from dhmd.model.dhmd import DHMD, initialise_encoders
from dhmd.model.encoders import UnimodalModel
from dhmd.model.task import Task
from dhmd.nn.replicas import Replicas, stream_seed
from dhmd.training.config import TrainConfig
from dhmd.training.configuration import Configuration, flat
from dhmd.training.device_corpus import DeviceCorpus, Normalisation
from dhmd.training.observer import Observer
from dhmd.training.outputs import FILE, collect, withheld, write_outputs
from dhmd.training.resume import ResumeState, environment_key, resume_state
from dhmd.training.teachers import video_folds
from dhmd.training.trainer import History, Progress, Schedule, Trainer
from dhmd.training.weights import (
    Description,
    read_description,
    read_weights,
    save_weights,
    write_description,
)

# More replicas than this in one process gain nothing on a CPU and cost memory.
_MOST_REPLICAS = {"cpu": 30, "cuda": 512}


@contextmanager
def prepared(train: TrainConfig) -> Iterator[torch.device]:
    """The device to train on, with threads and determinism set for the time of a job.

    Raises:
        DhmdError: train.device is cuda and there is none.
    """
    if train.device == "cuda" and not torch.cuda.is_available():
        raise DhmdError("train.device is cuda, but torch sees no GPU here; use auto or cpu")
    use_gpu = train.device != "cpu" and torch.cuda.is_available()
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(train.threads or default_threads())
    torch.use_deterministic_algorithms(True)
    try:
        yield torch.device("cuda" if use_gpu else "cpu")
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)


def default_threads() -> int:
    """The cores this process may use, at most four: beyond that these sizes gain nothing."""
    return min(len(os.sched_getaffinity(0)), 4)


@dataclass(frozen=True)
class _Input:
    """A corpus made ready for one set of modalities."""

    corpus: Corpus
    task: Task
    normalisation: dict[str, Normalisation]
    data: DeviceCorpus

    @staticmethod
    def of(corpus: Corpus, modalities: Sequence[str], device: torch.device) -> _Input:
        missing = [name for name in modalities if name not in corpus.modalities]
        if missing:
            raise DhmdError(f"{corpus.name}'s aligned cache has no {missing[0]}; run align again")
        task = Task(
            classes=len(corpus.class_names) or None, low=float(corpus.low), high=float(corpus.high)
        )
        normalisation = {
            name: Normalisation(corpus.statistics[name].mean_d, corpus.statistics[name].std_d)
            for name in modalities
        }
        data = DeviceCorpus.of(corpus, tuple(modalities), normalisation, device)
        return _Input(corpus, task, normalisation, data)

    def describe(self, configuration: Configuration) -> Description:
        names, corpus = configuration.modalities, self.corpus
        return Description(
            configuration=configuration,
            features={name: corpus.feature_names[name] for name in names},
            normalisation=self.normalisation,
            task=self.task,
            class_names=corpus.class_names,
            seeds=configuration.train.seeds,
            dataset=corpus.name,
            alignment=corpus.alignment,
            identity=corpus.identity,
            fold=corpus.fold,
            steps={name: int(corpus.features[name].lengths.max()) for name in names},
        )


def pretrain_job(
    configuration: Configuration,
    cache: Path,
    output: Path,
    *,
    fold: str | None,
    observer: Observer,
    state: Path,
) -> None:
    """Pretrain each modality's encoder and cross-fit the teachers (method section 1).

    Every seed has one replica trained on all of train, and one for each fold of the train videos
    left out: the left-out utterances' predictions are the teachers' targets.

    Raises:
        DhmdError: bad input; nothing is written.
    """
    with prepared(configuration.train) as device:
        corpus = read_corpus(cache, fold=fold)
        key = _key("pretrain", corpus, cache, [configuration], device)
        with resume_state(state, f"pretrain-{corpus.name}", key) as place:
            observer.started(
                "pretrain", _seed_names(configuration), flat(configuration.as_json()), 0
            )
            found = {
                name: _pretrain_modality(configuration, corpus, name, device, observer, place)
                for name in configuration.modalities
            }
            with whole_folder(output) as folder:
                _write_pretrained(folder, configuration, corpus, found, device)
        observer.finished(output)


@dataclass(frozen=True)
class _Pretrained:
    """One modality's result: predictions `[S, N, …]`, teachers the same, encoder `[S, …]`."""

    prediction: Array
    teacher: Array
    encoder: dict[str, Tensor]
    history: History


def _pretrain_modality(
    configuration: Configuration,
    corpus: Corpus,
    modality: str,
    device: torch.device,
    observer: Observer,
    place: ResumeState,
) -> _Pretrained:
    train, pretrain = configuration.train, configuration.pretrain
    ready = _Input.of(corpus, [modality], device)
    here_N = ready.data.lengths_MN[0] > 0
    folds_N = video_folds(corpus, pretrain.folds)
    runs = [(seed, fold) for seed in train.seeds for fold in range(-1, pretrain.folds)]
    uses_RN = np.stack([(folds_N >= 0) & here_N & (folds_N != fold) for _, fold in runs])
    replicas = Replicas(
        [stream_seed(seed, f"pretrain/{modality}/{fold}") for seed, fold in runs], device
    )
    model = UnimodalModel(
        replicas,
        ready.task,
        len(corpus.feature_names[modality]),
        configuration.model.width,
        kernel=getattr(configuration.model.kernels, modality),
        input_dropout=configuration.model.dropout.text if modality == "text" else 0.0,
        output_dropout=configuration.model.dropout.output,
    )
    rows = {split: corpus.index(split) for split in ("train", "valid")}
    rows = {split: index[here_N[index]] for split, index in rows.items()}
    for split, index in rows.items():
        if not len(index):
            raise DhmdError(f"no {split} utterance of {corpus.name} has {modality}: leave it out")
    trainer = Trainer(
        model,
        replicas,
        ready.data,
        names=[f"{modality}/seed-{s}" + (f"/fold-{f}" if f >= 0 else "") for s, f in runs],
        schedule=replace(
            schedule_of(train),
            epochs=pretrain.epochs,
            lr=pretrain.lr,
            early_stop=pretrain.early_stop,
            modality_dropout=0.0,
        ),
        train_rows=rows["train"],
        valid_rows=rows["valid"],
        uses_RN=uses_RN.astype(np.float32),
        observer=_OnlySeeds(observer),
        state=place,
        part=modality,
    )
    progress = trainer.run()
    everything = np.flatnonzero(here_N)
    predicted = collect(model, replicas, ready.data, everything)["prediction"]
    _void_diverged(predicted, progress)
    shape = (len(train.seeds), pretrain.folds + 1)
    predicted = predicted.reshape(*shape, *predicted.shape[1:])
    teacher = np.full_like(predicted[:, 0], np.nan)
    for fold in range(pretrain.folds):
        left_out = (folds_N == fold) & here_N
        teacher[:, left_out] = predicted[:, fold + 1][:, left_out]
    whole = [index for index, (_, fold) in enumerate(runs) if fold < 0]
    encoder = {name: value.detach()[whole] for name, value in model.encoder.named_parameters()}
    kept = {f"{modality}/seed-{seed}" for seed in train.seeds}
    history = [row for row in _marked(progress, trainer.names) if row[0] in kept]
    return _Pretrained(predicted[:, 0], teacher, encoder, history)


def _write_pretrained(
    folder: Path,
    configuration: Configuration,
    corpus: Corpus,
    found: Mapping[str, _Pretrained],
    device: torch.device,
) -> None:
    seeds = configuration.train.seeds
    parameters = {
        f"{modality}.{name}": value
        for modality, result in found.items()
        for name, value in result.encoder.items()
    }
    files = save_weights(folder, parameters, seeds)
    description = _Input.of(corpus, configuration.modalities, device).describe(configuration)
    write_outputs(
        folder / FILE,
        corpus,
        seeds=seeds,
        modalities=configuration.modalities,
        arrays={
            "prediction": np.stack([result.prediction for result in found.values()], axis=2),
            "teacher": np.stack([result.teacher for result in found.values()], axis=2),
        },
    )
    _write_history(folder, [row for result in found.values() for row in result.history])
    files[FILE] = file_sha256(folder / FILE)
    write_description(folder, description.as_json(files))


def train_job(
    configuration: Configuration,
    cache: Path,
    pretrained: Path,
    output: Path,
    *,
    fold: str | None,
    observer: Observer,
    state: Path,
) -> None:
    """Train the model over all seeds; write weights, predictions and history to `output`.

    Raises:
        DhmdError: bad input, or pretrained encoders of another configuration; nothing is written.
    """
    with prepared(configuration.train) as device:
        corpus = read_corpus(cache, fold=fold)
        key = _key("train", corpus, cache, [configuration], device, pretrained)
        with resume_state(state, f"train-{corpus.name}", key) as place:
            observer.started("train", _seed_names(configuration), flat(configuration.as_json()), 0)
            trained = _train_stack(
                [configuration], [""], corpus, pretrained, device, observer, place
            )
            with whole_folder(output) as folder:
                trained.write(0, folder, with_withheld=True)
        observer.finished(output)


def ablate_job(
    variants: Mapping[str, Configuration],
    cache: Path,
    pretrained: Path,
    output: Path,
    *,
    fold: str | None,
    observer: Observer,
    state: Path,
) -> None:
    """Train every variant over its seeds; write a model folder a variant below `output`.

    Variants that differ in loss weights or edges alone train together as one stack.

    Raises:
        DhmdError: bad input; nothing is written.
    """
    if not variants:
        with whole_folder(output):
            return
    configurations = list(variants.values())
    with prepared(configurations[0].train) as device:
        corpus = read_corpus(cache, fold=fold)
        key = _key("ablate", corpus, cache, configurations, device, pretrained)
        with resume_state(state, f"ablate-{corpus.name}", key) as place:
            names = [f"{name}/{seed}" for name, c in variants.items() for seed in _seed_names(c)]
            observer.started("ablate", names, flat(configurations[0].as_json()), 0)
            with whole_folder(output) as folder:
                for group in stacks(variants, _MOST_REPLICAS[device.type]):
                    members = [variants[name] for name in group]
                    trained = _train_stack(
                        members, group, corpus, pretrained, device, observer, place
                    )
                    for index, name in enumerate(group):
                        (folder / name).mkdir()
                        trained.write(index, folder / name, with_withheld=False)
        observer.finished(output)


def stacks(variants: Mapping[str, Configuration], most: int) -> list[list[str]]:
    """Names of variants that can train as one stack, at most `most` replicas each."""
    groups: dict[str, list[list[str]]] = {}
    for name, configuration in variants.items():
        stack = groups.setdefault(json_sha256(configuration.structure()), [[]])
        if (len(stack[-1]) + 1) * len(configuration.train.seeds) > most and stack[-1]:
            stack.append([])
        stack[-1].append(name)
    return [names for stack in groups.values() for names in stack]


@dataclass(frozen=True)
class _Trained:
    """A stack of V variants × S seeds after training: variant v has replicas v·S … (v + 1)·S."""

    configurations: list[Configuration]
    variants: list[str]
    ready: _Input
    model: AnyModel
    replicas: Replicas
    progress: Progress
    history: History
    arrays: dict[str, Array]

    def write(self, index: int, folder: Path, *, with_withheld: bool) -> None:
        """The model folder of one variant."""
        configuration = self.configurations[index]
        seeds = configuration.train.seeds
        start, corpus = index * len(seeds), self.ready.corpus
        parameters = dict(self.model.named_parameters())
        files = save_weights(folder, parameters, seeds, start)
        arrays = dict(self.arrays)
        if with_withheld:
            test = corpus.index("test")
            names = configuration.modalities
            extra = withheld(self.model, self.replicas, self.ready.data, test, names)
            for value in extra.values():
                _void_diverged(value, self.progress)
            arrays |= {f"withheld/{name}": value for name, value in extra.items()}
        write_outputs(
            folder / FILE,
            corpus,
            seeds=seeds,
            modalities=configuration.modalities,
            arrays={name: value[start : start + len(seeds)] for name, value in arrays.items()},
        )
        prefix = f"{self.variants[index]}/" if self.variants[index] else ""
        own = {f"{prefix}{name}" for name in _seed_names(configuration)}
        _write_history(folder, [row for row in self.history if row[0] in own])
        files[FILE] = file_sha256(folder / FILE)
        write_description(folder, self.ready.describe(configuration).as_json(files))


def _train_stack(
    configurations: list[Configuration],
    variants: list[str],
    corpus: Corpus,
    pretrained: Path,
    device: torch.device,
    observer: Observer,
    place: ResumeState,
) -> _Trained:
    first = configurations[0]
    seeds = first.train.seeds
    ready = _Input.of(corpus, first.modalities, device)
    replicas = Replicas(list(seeds) * len(configurations), device)
    inputs = {name: len(corpus.feature_names[name]) for name in first.modalities}
    model = build(
        first.architecture,
        replicas,
        ready.task,
        inputs,
        model=first.model,
        knobs=[(c.decouple, c.kd) for c in configurations for _ in seeds],
    )
    _use_pretrained(model, first, ready, pretrained, len(configurations))
    names = [
        f"{variant}/{seed}" if variant else seed
        for variant, configuration in zip(variants, configurations, strict=True)
        for seed in _seed_names(configuration)
    ]

    def factor(name: str) -> float:
        return model.learning_rate_factor(name, first.kd) if isinstance(model, DHMD) else 1.0

    train_rows = corpus.index("train")
    uses_RN = np.zeros((replicas.count, len(corpus.ids)), dtype=np.float32)
    uses_RN[:, train_rows] = 1.0
    trainer = Trainer(
        model,
        replicas,
        ready.data,
        names=names,
        schedule=schedule_of(first.train),
        train_rows=train_rows,
        valid_rows=corpus.index("valid"),
        uses_RN=uses_RN,
        observer=observer,
        state=place,
        part=json_sha256(names)[:16],
        factor=factor,
    )
    progress = trainer.run()
    arrays = collect(model, replicas, ready.data, np.arange(len(corpus.ids)))
    for value in arrays.values():
        _void_diverged(value, progress)
    history = _marked(progress, names)
    return _Trained(configurations, variants, ready, model, replicas, progress, history, arrays)


def _use_pretrained(
    model: AnyModel, configuration: Configuration, ready: _Input, folder: Path, copies: int
) -> None:
    """Teachers and, where wanted, encoder weights from `pretrain`'s folder."""
    description, files = read_description(folder)
    seeds = configuration.train.seeds
    if description.identity != ready.corpus.identity or not set(seeds) <= set(description.seeds):
        raise DhmdError(f"{folder} was pretrained on other data or seeds: run pretrain again")
    if file_sha256(folder / FILE) != files.get(FILE):
        raise DhmdError(f"{folder / FILE} is damaged: run pretrain again")
    with h5py.File(folder / FILE, "r") as file:
        stored = json.loads(file.attrs["modalities"])
        teacher_SNM = file["teacher"][()]
    which = [stored.index(name) for name in configuration.modalities]
    order = [description.seeds.index(seed) for seed in seeds]
    teachers = np.nan_to_num(teacher_SNM[order][:, :, which])
    if ready.task.classes is None:
        teachers = teachers[..., None]
    teachers_RMNO = np.tile(teachers, (copies, 1, 1, 1)).transpose(0, 2, 1, 3)
    ready.data.teachers_RMNO = torch.from_numpy(np.ascontiguousarray(teachers_RMNO)).to(
        ready.data.device
    )
    if not configuration.pretrain.enabled or configuration.architecture == "gru":
        return
    tensors = [read_weights(folder, files, seed) for seed in seeds] * copies
    wanted = {
        f"encoders.{index}.{name.removeprefix(f'{modality}.')}": name
        for index, modality in enumerate(configuration.modalities)
        for name in tensors[0]
        if name.startswith(f"{modality}.")
    }
    own = dict(model.named_parameters())
    stacked = {target: torch.stack([t[name] for t in tensors]) for target, name in wanted.items()}
    for target, value in stacked.items():
        if own[target].shape != value.shape:
            raise DhmdError(f"{folder} holds encoders of another shape: run pretrain again")
    initialise_encoders(model, stacked)


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
        buckets=train.buckets,
    )


class _OnlySeeds:
    """Passes on the replicas trained on all of train: a fold's are means to an end."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def started(
        self,
        stage: str,
        replicas: Sequence[str],
        parameters: Mapping[str, object],
        resumed_epoch: int,
    ) -> None:
        self._observer.started(stage, replicas, parameters, resumed_epoch)

    def epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        self._observer.epoch(epoch, {n: row for n, row in rows.items() if "/fold-" not in n})

    def finished(self, outputs: Path) -> None:
        self._observer.finished(outputs)


def _seed_names(configuration: Configuration) -> list[str]:
    return [f"seed-{seed}" for seed in configuration.train.seeds]


def _void_diverged(values: Array, progress: Progress) -> None:
    """A diverged replica has no prediction: NaN says so, and `evaluate` refuses it by name."""
    for replica, epoch in enumerate(progress.diverged):
        if epoch is not None:
            values[replica] = np.nan


def _marked(progress: Progress, names: Sequence[str]) -> History:
    """The history with each replica's selected epoch (or the epoch it diverged in)."""
    marks: History = []
    for name, best, diverged in zip(names, progress.best_epoch, progress.diverged, strict=True):
        if diverged is not None:
            marks.append((name, diverged, "diverged", 1.0))
        else:
            marks.append((name, best, "selected", 1.0))
    return progress.history + marks


def _write_history(folder: Path, history: History) -> None:
    with open(folder / "history.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["seed", "epoch", "name", "value"])
        for replica, epoch, name, value in history:
            prefix, _, seed = replica.rpartition("seed-")
            modality = prefix.rstrip("/") if prefix and not prefix.startswith("seed") else ""
            label = f"{modality}/{name}" if modality in ("text", "audio", "vision") else name
            writer.writerow([seed, epoch, label, f"{value:.6g}"])


def _key(
    stage: str,
    corpus: Corpus,
    cache: Path,
    configurations: Sequence[Configuration],
    device: torch.device,
    pretrained: Path | None = None,
) -> dict[str, Any]:
    """All that a job's result depends on."""
    key: dict[str, Any] = {
        "stage": stage,
        "identity": corpus.identity,
        "cache": file_sha256(cache),
        "configurations": [configuration.as_json() for configuration in configurations],
        "environment": environment_key(device),
    }
    if pretrained is not None:
        description = pretrained / "model.json"
        if not description.is_file():
            raise DhmdError(f"{pretrained} is no model folder: run the pretrain stage first")
        key["pretrained"] = file_sha256(description)
    return key
