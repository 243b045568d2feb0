"""Train a stack: V variants × S seeds of one model shape, side by side.

Legend: V variants, S seeds, E = V · S members, N utterances, M modalities, O outputs.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from dhmd.base.artefacts import checked_artefact
from dhmd.base.errors import DhmdError
from dhmd.base.files import json_sha256
from dhmd.base.hdf5 import check_group
from dhmd.data.aligned.corpus import Array, Corpus
from dhmd.models.learner import Learner
from dhmd.models.members import Members
from dhmd.models.registry import Corpus as CorpusFacts
from dhmd.models.registry import build
from dhmd.training.checkpoint import CheckpointDirectory
from dhmd.training.configuration import Configuration
from dhmd.training.device_corpus import DeviceTokens
from dhmd.training.finetuning import Finetuned
from dhmd.training.history import split_history, void_diverged
from dhmd.training.input import Input, longest
from dhmd.training.observer import Observer
from dhmd.training.outputs import FILE, collect, missing_modalities
from dhmd.training.store import TrainedMember
from dhmd.training.task import Task
from dhmd.training.trainer import Trainer, schedule_of
from dhmd.training.weights import read_description, read_weights


def train_stack(
    task: Task,
    corpus: Corpus,
    device: torch.device,
    observer: Observer,
    checkpoints: CheckpointDirectory,
) -> dict[str, TrainedMember]:
    """Train the task's variants over its seeds and return every member by name.

    Raises:
        DhmdError: the pretrained weights or the encoder do not fit the task.
    """
    first, seeds = task.first, task.seeds
    ready = Input.of(corpus, first.modalities, device)
    members = Members(list(seeds) * len(task.configurations), device)
    model = build(
        first.architecture,
        members,
        ready.task,
        {name: len(corpus.feature_names[name]) for name in first.modalities},
        model=first.model,
        loss_weights=[(c.decouple, c.kd) for c in task.configurations.values() for _ in seeds],
        corpus=CorpusFacts(len(corpus.index("train")), longest(corpus, first.modalities)),
    )
    assert task.pretrained is not None
    pretrained = Pretrained.read(task.pretrained, corpus, first)
    pretrained.use(model, first, ready, copies=len(task.configurations))

    learner = model
    schedule = schedule_of(first.train)
    if task.encoder is not None:
        assert corpus.tokens is not None  # see check_tokens
        ready.data.tokens = DeviceTokens(corpus.tokens, device)
        text = first.modalities.index("text")
        assert first.finetune is not None
        learner = Finetuned(
            model,
            members,
            task.encoder,
            text,
            ready.normalisation["text"],
            learning_rate=first.finetune.lr / first.train.lr,
        )
        schedule = replace(schedule, cuda_graph=False)

    train_rows = corpus.index("train")
    uses_EN = np.zeros((members.count, len(corpus.ids)), dtype=np.float32)
    uses_EN[:, train_rows] = 1.0
    trainer = Trainer(
        learner,
        members,
        ready.data,
        names=task.members,
        schedule=schedule,
        train_rows=train_rows,
        valid_rows=corpus.index("valid"),
        uses_EN=uses_EN,
        observer=observer,
        state=checkpoints,
        part="checkpoint",
        warmup=0.0 if first.finetune is None else first.finetune.warmup,
    )
    progress = trainer.run()
    arrays = collect(learner, members, ready.data, np.arange(len(corpus.ids)))
    if task.missing_modality_test:
        test = corpus.index("test")
        found = missing_modalities(learner, members, ready.data, test)
        arrays |= {f"withheld/{name}": value for name, value in found.items()}
    for value in arrays.values():
        void_diverged(value, progress)
    parameters = {name: value.detach().cpu() for name, value in learner.member_tensors().items()}
    histories = split_history(progress, task.members)
    return {
        name: TrainedMember(
            {key: value[index] for key, value in parameters.items()},
            {key: value[index] for key, value in arrays.items()},
            histories[index],
        )
        for index, name in enumerate(task.members)
    }


@dataclass(frozen=True)
class Pretrained:
    """What training takes from `pretrain`'s folder, for the seeds and modalities of a model.

    Attributes:
        teachers_SNM: out-of-fold predictions of each modality, `[S, N, M]` or `[S, N, M, O]`.
        weights: encoder parameters by name, one mapping per seed.
    """

    folder: Path
    teachers_SNM: Array
    weights: list[dict[str, Tensor]]

    @staticmethod
    def read(folder: Path, corpus: Corpus, configuration: Configuration) -> Pretrained:
        """Read and check the folder.

        Raises:
            DhmdError: it is damaged, or was pretrained on other data, seeds or modalities.
        """
        description, files = read_description(folder)
        seeds, modalities = configuration.train.seeds, configuration.modalities
        if description.identity != corpus.identity or not set(seeds) <= set(description.seeds):
            raise DhmdError(f"{folder} was pretrained on other data or seeds: run pretrain again")
        with h5py.File(checked_artefact(folder, FILE), "r") as file:
            check_group(file, str(folder / FILE))
            stored = json.loads(file.attrs["modalities"])
            teacher_SNM = file["teacher"][()]
        missing = [name for name in modalities if name not in stored]
        if missing:
            raise DhmdError(f"{folder} has no encoder of {missing[0]}: run pretrain again")
        rows = [description.seeds.index(seed) for seed in seeds]
        columns = [stored.index(name) for name in modalities]
        weights = [read_weights(folder, files, seed) for seed in seeds]
        return Pretrained(folder, teacher_SNM[rows][:, :, columns], weights)

    def sha256(self, index: int) -> str:
        """The hash of what one seed takes from the folder."""
        tensors = {name: _sha256(value.numpy()) for name, value in self.weights[index].items()}
        return json_sha256({"teachers": _sha256(self.teachers_SNM[index]), "weights": tensors})

    def use(
        self, model: Learner, configuration: Configuration, ready: Input, *, copies: int
    ) -> None:
        """Give the teachers to the corpus and, where wanted, the encoders' weights to the model.

        Args:
            copies: variants in the stack, each over all seeds.
        """
        if configuration.architecture == "dhmd":
            self._check_teachers(configuration, ready)
        teachers = np.nan_to_num(self.teachers_SNM)
        if ready.task.classes is None:
            teachers = teachers[..., None]
        teachers_EMNO = np.tile(teachers, (copies, 1, 1, 1)).transpose(0, 2, 1, 3)
        ready.data.teachers_EMNO = torch.from_numpy(np.ascontiguousarray(teachers_EMNO)).to(
            ready.data.device
        )
        if not configuration.pretrain.enabled:
            return
        encoders: dict[str, dict[str, Tensor]] = {}
        for name in self.weights[0]:
            modality, _, own = name.partition(".")
            stacked = torch.stack([weights[name] for weights in self.weights] * copies)
            encoders.setdefault(modality, {})[own] = stacked.to(ready.data.device)
        try:
            model.load_encoders(encoders)
        except ValueError as error:
            raise DhmdError(f"{self.folder}: {error}; run pretrain again") from error

    def _check_teachers(self, configuration: Configuration, ready: Input) -> None:
        """A teacher that diverged is NaN: it must not teach zeros."""
        train_rows = ready.corpus.index("train")
        for index, name in enumerate(configuration.modalities):
            rows = train_rows[ready.data.lengths_MN[index, train_rows] > 0]
            for seed, teacher_NM in zip(configuration.train.seeds, self.teachers_SNM, strict=True):
                if np.isnan(teacher_NM[rows, index]).any():
                    raise DhmdError(
                        f"{self.folder} lacks teachers of {name} for seed-{seed}, whose "
                        "pretraining diverged: lower pretrain.lr and run pretrain again"
                    )


def _sha256(values: Array) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
