"""Pretrain one modality's encoder, with cross-fitted teachers (method section 1).

Legend: S seeds, F folds, N utterances, M modalities, E members, O outputs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dhmd.base.errors import DhmdError
from dhmd.base.files import json_sha256
from dhmd.base.hdf5 import open_checked
from dhmd.data.aligned.corpus import Array, Corpus
from dhmd.models.learner import Learner
from dhmd.models.members import Members, stream_seed
from dhmd.models.stacked.encoders import UnimodalModel
from dhmd.training.configuration import Configuration
from dhmd.training.device_corpus import DeviceCorpus, task_of
from dhmd.training.observer import ManyObservers, Observer
from dhmd.training.outputs import FILE, collect_details
from dhmd.training.store import TrainedMember, member_name, trained_members
from dhmd.training.trainer import Trainer
from dhmd.training.weights import read_description, read_weights


def pretrain_modality(
    configuration: Configuration,
    modality: str,
    corpus: Corpus,
    device: torch.device,
    observer: Observer,
    checkpoint: Path,
) -> dict[str, TrainedMember]:
    """Pretrain a modality's encoder over all seeds.

    Every seed trains one member on the whole train split, and one per fold on all other folds.

    Returns:
        The seeds' members by name. Their arrays are `prediction`, of the member trained on the
        whole split, and `teacher`, out-of-fold predictions; `[N]` or `[N, O]` each.

    Raises:
        DhmdError: a split has no utterance with this modality, or too few videos.
    """
    train, num_folds = configuration.train, configuration.pretrain.folds
    data = DeviceCorpus.of(corpus, [modality], device)
    present_N = data.lengths_MN[0] > 0
    folds_N = video_folds(corpus, num_folds)
    runs = [(seed, fold) for seed in train.seeds for fold in range(-1, num_folds)]
    train_mask_EN = np.stack([(folds_N >= 0) & present_N & (folds_N != fold) for _, fold in runs])
    members = Members(
        [stream_seed(seed, f"pretrain/{modality}/{fold}") for seed, fold in runs], device
    )
    width = len(corpus.feature_names[modality])
    model = UnimodalModel(members, task_of(corpus), modality, width, configuration.model)
    rows = {split: corpus.index(split) for split in ("train", "valid")}
    rows = {split: index[present_N[index]] for split, index in rows.items()}
    for split, index in rows.items():
        if not len(index):
            raise DhmdError(
                f"no utterance of the {split} split of {corpus.name} has the modality {modality}: "
                f"remove {modality} from model.modalities"
            )
    names = [
        member_name(modality, seed) + (f"/fold-{fold}" if fold >= 0 else "") for seed, fold in runs
    ]
    progress = Trainer(
        model,
        members,
        data,
        names=names,
        train=train,
        train_rows=rows["train"],
        valid_rows=rows["valid"],
        train_mask_EN=train_mask_EN.astype(np.float32),
        observer=_WithoutFolds(observer),
        checkpoint=checkpoint,
        cuda_graph=configuration.compute.cuda_graph,
    ).run()
    arrays = collect_details(model, members, data, np.flatnonzero(present_N))
    trained = trained_members(names, dict(model.encoder.named_parameters()), arrays, progress)
    for seed in train.seeds:
        name = member_name(modality, seed)
        seed_arrays = trained[name].arrays
        seed_arrays["teacher"] = np.full_like(seed_arrays["prediction"], np.nan)
        for fold in range(num_folds):
            held_out_N = (folds_N == fold) & present_N
            predictions = trained.pop(f"{name}/fold-{fold}").arrays["prediction"]
            seed_arrays["teacher"][held_out_N] = predictions[held_out_N]
    return trained


@dataclass(frozen=True)
class PretrainedEncoders:
    """The pretrained encoders and teachers of a model's seeds and modalities.

    Attributes:
        teachers_SNM: out-of-fold predictions of each modality, `[S, N, M]` or `[S, N, M, O]`.
        weights: encoder parameters by name, one mapping per seed.
    """

    folder: Path
    teachers_SNM: Array
    weights: list[dict[str, Tensor]]

    @staticmethod
    def read(folder: Path, corpus: Corpus, configuration: Configuration) -> PretrainedEncoders:
        """Read the output folder of pretraining, and check that it fits the training.

        Raises:
            DhmdError: the folder is damaged, or of other data, seeds or modalities.
        """
        description = read_description(folder)
        seeds, modalities = configuration.train.seeds, configuration.modalities
        if description.identity != corpus.identity or not set(seeds) <= set(description.seeds):
            raise DhmdError(
                f"the encoders in {folder} were pretrained on different data or seeds: run the "
                "pretrain stage again"
            )
        damaged = f"{folder / FILE} is damaged: run the pretrain stage again"
        with open_checked(folder / FILE, damaged) as file:
            stored = json.loads(file.attrs["modalities"])
            teacher_SNM = file["teacher"][()]
        missing = [name for name in modalities if name not in stored]
        if missing:
            raise DhmdError(
                f"{folder} has no encoder of {missing[0]}: run the pretrain stage again"
            )
        rows = [description.seeds.index(seed) for seed in seeds]
        columns = [stored.index(name) for name in modalities]
        weights = [read_weights(folder, seed) for seed in seeds]
        return PretrainedEncoders(folder, teacher_SNM[rows][:, :, columns], weights)

    def sha256(self, index: int) -> str:
        """Return the hash of the teachers and weights of the seed at this index."""
        tensors = {name: _sha256(value.numpy()) for name, value in self.weights[index].items()}
        return json_sha256({"teachers": _sha256(self.teachers_SNM[index]), "weights": tensors})

    def apply(
        self,
        model: Learner,
        configuration: Configuration,
        corpus: Corpus,
        data: DeviceCorpus,
        *,
        copies: int,
    ) -> None:
        """Set the teachers of the data and, if `pretrain.enabled`, the encoders of the model.

        Args:
            copies: the number of variants in the stack, each with all seeds.

        Raises:
            DhmdError: teachers diverged, or encoders do not fit the model.
        """
        if configuration.architecture == "dhmd":
            self._check_teachers(configuration, corpus, data)
        teachers = np.nan_to_num(self.teachers_SNM)
        if not corpus.class_names:
            teachers = teachers[..., None]
        teachers_EMNO = np.tile(teachers, (copies, 1, 1, 1)).transpose(0, 2, 1, 3)
        data.teachers_EMNO = torch.from_numpy(np.ascontiguousarray(teachers_EMNO)).to(data.device)
        if not configuration.pretrain.enabled:
            return
        encoders: dict[str, dict[str, Tensor]] = {}
        for name in self.weights[0]:
            modality, _, parameter = name.partition(".")
            stacked = torch.stack([weights[name] for weights in self.weights] * copies)
            encoders.setdefault(modality, {})[parameter] = stacked.to(data.device)
        try:
            model.load_encoders(encoders)
        except ValueError as error:
            raise DhmdError(f"{self.folder}: {error}; run the pretrain stage again") from error

    def _check_teachers(
        self, configuration: Configuration, corpus: Corpus, data: DeviceCorpus
    ) -> None:
        """Check that every teacher has finite predictions; those of a diverged one are NaN."""
        train_rows = corpus.index("train")
        for index, name in enumerate(configuration.modalities):
            rows = train_rows[data.lengths_MN[index, train_rows] > 0]
            for seed, teacher_NM in zip(configuration.train.seeds, self.teachers_SNM, strict=True):
                if np.isnan(teacher_NM[rows, index]).any():
                    raise DhmdError(
                        f"{self.folder}: the pretraining of {name} with seed-{seed} diverged; "
                        "lower pretrain.lr and run the pretrain stage again"
                    )


def video_folds(corpus: Corpus, count: int) -> Array:
    """Divide the train videos into folds of about equal size, the same for every seed.

    Videos are assigned, largest first (ties by name), to the fold that is smallest so far.

    Returns:
        The fold of each utterance, int `[N]`; −1 outside the train split.

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
    fold_sizes = np.zeros(count, dtype=np.int64)
    for video in np.lexsort((names, -sizes)):
        fold = int(fold_sizes.argmin())
        fold_of_video[video] = fold
        fold_sizes[fold] += sizes[video]
    folds = np.full(len(corpus.ids), -1, dtype=np.int64)
    folds[rows] = fold_of_video[video_of_row]
    return folds


class _WithoutFolds(ManyObservers):
    """Forwards events without the members of the folds."""

    def on_epoch(self, epoch: int, rows: Mapping[str, Mapping[str, float]]) -> None:
        super().on_epoch(epoch, {name: row for name, row in rows.items() if "/fold-" not in name})


def _sha256(values: Array) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
