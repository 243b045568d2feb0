"""Pretraining one modality's encoder, with cross-fitted teachers (method section 1).

Legend: S seeds, F folds, N utterances, E members.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from dhmd.base.artefacts import write_description
from dhmd.base.errors import DhmdError
from dhmd.base.files import file_sha256, json_sha256
from dhmd.data.aligned.corpus import Corpus
from dhmd.models.stacked.encoders import UnimodalModel
from dhmd.models.stacked.members import Members, stream_seed
from dhmd.training.configuration import Configuration
from dhmd.training.history import HISTORY, marked, seed_names, void_diverged, write_history
from dhmd.training.input import Input, describe
from dhmd.training.observer import ManyObservers, Observer
from dhmd.training.outputs import FILE, collect, write_outputs
from dhmd.training.parts import Part
from dhmd.training.resume import ResumeState
from dhmd.training.teachers import video_folds
from dhmd.training.trainer import Trainer, schedule_of
from dhmd.training.weights import save_weights


def pretrain_modality(
    configuration: Configuration,
    corpus: Corpus,
    modality: str,
    device: torch.device,
    observer: Observer,
    place: ResumeState,
) -> Part:
    """One modality's encoder of every seed, its predictions and the teachers `[S, N, …]`."""
    train, pretrain = configuration.train, configuration.pretrain
    ready = Input.of(corpus, [modality], device)
    here_N = ready.data.lengths_MN[0] > 0
    folds_N = video_folds(corpus, pretrain.folds)
    runs = [(seed, fold) for seed in train.seeds for fold in range(-1, pretrain.folds)]
    uses_EN = np.stack([(folds_N >= 0) & here_N & (folds_N != fold) for _, fold in runs])
    members = Members(
        [stream_seed(seed, f"pretrain/{modality}/{fold}") for seed, fold in runs], device
    )
    model = UnimodalModel(
        members,
        ready.task,
        len(corpus.feature_names[modality]),
        configuration.model.width,
        kernel=getattr(configuration.model.kernels, modality),
        input_dropout=getattr(configuration.model.dropout.input, modality),
        output_dropout=configuration.model.dropout.output,
    )
    rows = {split: corpus.index(split) for split in ("train", "valid")}
    rows = {split: index[here_N[index]] for split, index in rows.items()}
    for split, index in rows.items():
        if not len(index):
            raise DhmdError(f"no {split} utterance of {corpus.name} has {modality}: leave it out")
    names = [f"{modality}/seed-{s}" + (f"/fold-{f}" if f >= 0 else "") for s, f in runs]
    trainer = Trainer(
        model,
        members,
        ready.data,
        names=names,
        schedule=replace(
            schedule_of(train),
            epochs=pretrain.epochs,
            lr=pretrain.lr,
            early_stop=pretrain.early_stop,
            modality_dropout=0.0,
        ),
        train_rows=rows["train"],
        valid_rows=rows["valid"],
        uses_EN=uses_EN.astype(np.float32),
        observer=_OnlySeeds(observer),
        state=place,
        part=json_sha256(names)[:16],
    )
    progress = trainer.run()
    everything = np.flatnonzero(here_N)
    predicted = collect(model, members, ready.data, everything)["prediction"]
    void_diverged(predicted, progress)
    shape = (len(train.seeds), pretrain.folds + 1)
    predicted = predicted.reshape(*shape, *predicted.shape[1:])
    teacher = np.full_like(predicted[:, 0], np.nan)
    for fold in range(pretrain.folds):
        left_out = (folds_N == fold) & here_N
        teacher[:, left_out] = predicted[:, fold + 1][:, left_out]
    whole = [index for index, (_, fold) in enumerate(runs) if fold < 0]
    encoder = {name: value.detach()[whole] for name, value in model.encoder.named_parameters()}
    kept = modality_names(configuration, modality)
    history = [row for row in marked(progress, names) if row[0] in kept]
    return Part(kept, encoder, {"prediction": predicted[:, 0], "teacher": teacher}, history)


def modality_names(configuration: Configuration, modality: str) -> list[str]:
    """Of the members that a modality's pretraining leaves behind."""
    return [f"{modality}/{name}" for name in seed_names(configuration)]


def write_pretrained(
    folder: Path,
    configuration: Configuration,
    corpus: Corpus,
    found: Mapping[str, Part],
) -> None:
    """The folder that training starts from; `found` by modality."""
    seeds = configuration.train.seeds
    parameters = {
        f"{modality}.{name}": value
        for modality, result in found.items()
        for name, value in result.parameters.items()
    }
    files = save_weights(folder, parameters, seeds)
    write_outputs(
        folder / FILE,
        corpus,
        seeds=seeds,
        modalities=configuration.modalities,
        arrays={
            name: np.stack([result.arrays[name] for result in found.values()], axis=2)
            for name in ("prediction", "teacher")
        },
    )
    write_history(folder, [row for result in found.values() for row in result.history])
    files |= {name: file_sha256(folder / name) for name in (FILE, HISTORY)}
    write_description(folder, describe(corpus, configuration).as_json(files))


class _OnlySeeds(ManyObservers):
    """Passes on the members trained on all of train: a fold's are means to an end."""

    def epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        super().epoch(epoch, {n: row for n, row in rows.items() if "/fold-" not in n})
