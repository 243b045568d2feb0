"""Pretrain one modality's encoder, with cross-fitted teachers (method section 1).

Legend: S seeds, F folds, N utterances, E members.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from dhmd.base.errors import DhmdError
from dhmd.data.aligned.corpus import Array, Corpus
from dhmd.models.members import Members, stream_seed
from dhmd.models.stacked.encoders import UnimodalModel
from dhmd.training.checkpoint import CheckpointDirectory
from dhmd.training.history import split_history, void_diverged
from dhmd.training.input import Input
from dhmd.training.observer import ManyObservers, Observer
from dhmd.training.outputs import collect
from dhmd.training.store import TrainedMember
from dhmd.training.task import Task, member_name
from dhmd.training.trainer import Trainer, schedule_of


def pretrain_modality(
    task: Task,
    corpus: Corpus,
    device: torch.device,
    observer: Observer,
    checkpoints: CheckpointDirectory,
) -> dict[str, TrainedMember]:
    """Pretrain the task's modality over its seeds and return every seed's member by name.

    Every seed trains one member on the whole train split and one per fold without the fold's
    videos. A member's arrays are `prediction` of the first and `teacher`, the out-of-fold
    predictions of the others, `[N]` or `[N, O]` each.

    Raises:
        DhmdError: a split has no utterance with this modality, or too few videos.
    """
    configuration, modality = task.first, task.modality
    assert modality is not None
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
        modality,
        len(corpus.feature_names[modality]),
        configuration.model,
    )
    rows = {split: corpus.index(split) for split in ("train", "valid")}
    rows = {split: index[here_N[index]] for split, index in rows.items()}
    for split, index in rows.items():
        if not len(index):
            raise DhmdError(f"no {split} utterance of {corpus.name} has {modality}: leave it out")
    names = [
        member_name(modality, seed) + (f"/fold-{fold}" if fold >= 0 else "") for seed, fold in runs
    ]
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
        observer=_WithoutFolds(observer),
        state=checkpoints,
        part="checkpoint",
    )
    progress = trainer.run()
    predicted = collect(model, members, ready.data, np.flatnonzero(here_N))["prediction"]
    void_diverged(predicted, progress)
    histories = split_history(progress, names)
    encoder = {name: value.detach().cpu() for name, value in model.encoder.named_parameters()}
    trained = {}
    for row, (seed, held_out) in enumerate(runs):
        if held_out < 0:
            teacher = np.full_like(predicted[row], np.nan)
            for fold in range(pretrain.folds):
                out_N = (folds_N == fold) & here_N
                teacher[out_N] = predicted[row + 1 + fold][out_N]
            trained[member_name(modality, seed)] = TrainedMember(
                {name: value[row] for name, value in encoder.items()},
                {"prediction": predicted[row], "teacher": teacher},
                histories[row],
            )
    return trained


def video_folds(corpus: Corpus, count: int) -> Array:
    """Divide the train videos into folds: `[N]` int, −1 outside the train split.

    A video is in one fold. Videos are assigned, largest first (ties by name), to the fold that is
    smallest so far: folds of about equal size, the same for every seed.

    Raises:
        DhmdError: there are fewer train videos than folds.
    """
    rows = corpus.index("train")
    names, video_of_row, sizes = np.unique(
        np.array(corpus.videos)[rows], return_inverse=True, return_counts=True
    )
    if len(names) < count:
        raise DhmdError(
            f"{corpus.name} has {len(names)} train videos, too few for "
            f"pretrain.folds = {count}: lower pretrain.folds"
        )
    fold_of_video = np.zeros(len(names), dtype=np.int64)
    filled = np.zeros(count, dtype=np.int64)
    for video in np.lexsort((names, -sizes)):
        fold = int(filled.argmin())
        fold_of_video[video] = fold
        filled[fold] += sizes[video]
    folds = np.full(len(corpus.ids), -1, dtype=np.int64)
    folds[rows] = fold_of_video[video_of_row]
    return folds


class _WithoutFolds(ManyObservers):
    """Pass on the members trained on the whole train split, without those of the folds."""

    def epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        super().epoch(epoch, {n: row for n, row in rows.items() if "/fold-" not in n})
