"""Variants that train as one stack: V variants × S seeds of one shape of model.

Legend: V variants, S seeds, E = V · S members, N utterances, M modalities, O outputs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import torch

from dhmd.base.artefacts import checked_artefact, write_description
from dhmd.base.errors import DhmdError
from dhmd.base.files import file_sha256, json_sha256
from dhmd.base.hdf5 import refuse_all_traps
from dhmd.data.aligned.corpus import Array, Corpus
from dhmd.data.text_encoder.loading import Encoder
from dhmd.models.registry import AnyModel, build
from dhmd.models.stacked.dhmd import DHMD, initialise_encoders
from dhmd.models.stacked.members import Members
from dhmd.training.configuration import Configuration
from dhmd.training.device_corpus import DeviceTokens
from dhmd.training.finetuning import Finetuned, check_tokens, is_encoders, save_encoder
from dhmd.training.history import HISTORY, marked, seed_names, void_diverged, write_history
from dhmd.training.input import Input, describe
from dhmd.training.observer import Observer
from dhmd.training.outputs import FILE, Arrays, collect, withheld, write_outputs
from dhmd.training.parts import Part
from dhmd.training.resume import ResumeState
from dhmd.training.trainer import History, Trainer, schedule_of
from dhmd.training.weights import read_description, read_weights, save_weights


@dataclass(frozen=True)
class Trained:
    """One variant after training: its seeds trained in one stack, or each in one of its own.

    Attributes:
        name: the variant's, empty for the full model alone.
        parts: that hold its members.
        encoder: what was trained along, as it was before.
    """

    configuration: Configuration
    name: str
    parts: list[Part]
    encoder: Encoder | None = None

    def write(self, folder: Path, corpus: Corpus) -> None:
        """The model folder."""
        configuration = self.configuration
        wanted = dict(
            zip(member_names(configuration, self.name), configuration.train.seeds, strict=True)
        )
        files: dict[str, str] = {}
        history: History = []
        columns: list[Arrays] = []
        for each in self.parts:
            part = each.of([name for name in each.names if name in wanted])
            files |= save_weights(folder, part.parameters, [wanted[name] for name in part.names])
            columns.append(part.arrays)
            history += part.history
        write_outputs(
            folder / FILE,
            corpus,
            seeds=configuration.train.seeds,
            modalities=configuration.modalities,
            arrays={name: np.concatenate([each[name] for each in columns]) for name in columns[0]},
        )
        write_history(folder, history)
        files |= {name: file_sha256(folder / name) for name in (FILE, HISTORY)}
        if self.encoder is not None and configuration.trains_encoder:
            files |= save_encoder(folder, self.encoder)
        write_description(folder, describe(corpus, configuration).as_json(files))


def member_names(configuration: Configuration, variant: str) -> list[str]:
    """Of a variant's seeds, as history and observer have them."""
    names = seed_names(configuration)
    return [f"{variant}/{name}" for name in names] if variant else names


def train_group(
    configurations: list[Configuration],
    variants: list[str],
    corpus: Corpus,
    pretrained: Path,
    device: torch.device,
    observer: Observer,
    place: ResumeState,
    encoder: Encoder | None,
    *,
    with_withheld: bool,
) -> list[Trained]:
    """Train variants of one shape as one stack; with an encoder, one seed of one after the other.

    An encoder a member would fill the memory of most machines, and its products are large enough
    to keep a processor busy alone.

    Raises:
        DhmdError: an encoder is wanted and not given, or not the one that the cache was made for.
    """
    common = (corpus, pretrained, device, observer, place)
    if not configurations[0].trains_encoder:
        part = train_stack(configurations, variants, *common, with_withheld=with_withheld)
        return [
            Trained(own, name, [part]) for own, name in zip(configurations, variants, strict=True)
        ]
    if encoder is None:
        raise DhmdError("features.text is finetune, but no encoder was given to train along")
    check_tokens(corpus, encoder)
    trained = []
    for own, name in zip(configurations, variants, strict=True):
        parts = []
        for seed in own.train.seeds:
            alone = replace(own, train=replace(own.train, seeds=(seed,), cuda_graph=False))
            part = train_stack([alone], [name], *common, encoder, with_withheld=with_withheld)
            parts.append(part)
        trained.append(Trained(own, name, parts, encoder))
    return trained


def train_stack(
    configurations: list[Configuration],
    variants: list[str],
    corpus: Corpus,
    pretrained: Path,
    device: torch.device,
    observer: Observer,
    place: ResumeState,
    encoder: Encoder | None = None,
    *,
    with_withheld: bool,
) -> Part:
    """Train V variants × S seeds of one shape of model side by side."""
    first = configurations[0]
    seeds = first.train.seeds
    ready = Input.of(corpus, first.modalities, device)
    members = Members(list(seeds) * len(configurations), device)
    inputs = {name: len(corpus.feature_names[name]) for name in first.modalities}
    model = build(
        first.architecture,
        members,
        ready.task,
        inputs,
        model=first.model,
        loss_weights=[(c.decouple, c.kd) for c in configurations for _ in seeds],
    )
    _use_pretrained(model, first, ready, pretrained, len(configurations))
    names = [
        name
        for variant, configuration in zip(variants, configurations, strict=True)
        for name in member_names(configuration, variant)
    ]

    learner: AnyModel | Finetuned = model
    if encoder is not None:
        assert corpus.tokens is not None  # check_tokens saw to it
        ready.data.tokens = DeviceTokens(corpus.tokens, device)
        text = first.modalities.index("text")
        learner = Finetuned(model, members, encoder, text, ready.normalisation["text"])

    def factor(name: str) -> float:
        if first.finetune is not None and is_encoders(name) and encoder is not None:
            return first.finetune.lr / first.train.lr
        own = name.removeprefix("model.") if encoder is not None else name
        return model.learning_rate_factor(own, first.kd) if isinstance(model, DHMD) else 1.0

    train_rows = corpus.index("train")
    uses_EN = np.zeros((members.count, len(corpus.ids)), dtype=np.float32)
    uses_EN[:, train_rows] = 1.0
    trainer = Trainer(
        learner,
        members,
        ready.data,
        names=names,
        schedule=schedule_of(first.train),
        train_rows=train_rows,
        valid_rows=corpus.index("valid"),
        uses_EN=uses_EN,
        observer=observer,
        state=place,
        part=json_sha256(names)[:16],
        factor=factor,
        ramped=(lambda _: False) if encoder is None else is_encoders,
        warmup=0.0 if first.finetune is None else first.finetune.warmup,
    )
    progress = trainer.run()
    arrays = collect(learner, members, ready.data, np.arange(len(corpus.ids)))
    if with_withheld:
        test = corpus.index("test")
        found = withheld(learner, members, ready.data, test, first.modalities)
        arrays |= {f"withheld/{name}": value for name, value in found.items()}
    for value in arrays.values():
        void_diverged(value, progress)
    parameters = {name: value.detach() for name, value in learner.named_parameters()}
    return Part(names, parameters, arrays, marked(progress, names))


def _use_pretrained(
    model: AnyModel, configuration: Configuration, ready: Input, folder: Path, copies: int
) -> None:
    """Teachers and, where wanted, encoder weights from `pretrain`'s folder."""
    description, files = read_description(folder)
    seeds = configuration.train.seeds
    if description.identity != ready.corpus.identity or not set(seeds) <= set(description.seeds):
        raise DhmdError(f"{folder} was pretrained on other data or seeds: run pretrain again")
    with h5py.File(checked_artefact(folder, FILE), "r") as file:
        refuse_all_traps(file, str(folder / FILE))
        stored = json.loads(file.attrs["modalities"])
        teacher_SNM = file["teacher"][()]
    missing = [name for name in configuration.modalities if name not in stored]
    if missing:
        raise DhmdError(f"{folder} has no encoder of {missing[0]}: run pretrain again")
    which = [stored.index(name) for name in configuration.modalities]
    order = [description.seeds.index(seed) for seed in seeds]
    teachers = teacher_SNM[order][:, :, which]
    if configuration.architecture == "dhmd":
        _check_teachers(teachers, configuration, ready, folder)
    teachers = np.nan_to_num(teachers)
    if ready.task.classes is None:
        teachers = teachers[..., None]
    teachers_EMNO = np.tile(teachers, (copies, 1, 1, 1)).transpose(0, 2, 1, 3)
    ready.data.teachers_EMNO = torch.from_numpy(np.ascontiguousarray(teachers_EMNO)).to(
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


def _check_teachers(
    teachers_SNM: Array, configuration: Configuration, ready: Input, folder: Path
) -> None:
    """A teacher that diverged is NaN: it must not teach zeros."""
    train_rows = ready.corpus.index("train")
    for index, name in enumerate(configuration.modalities):
        rows = train_rows[ready.data.lengths_MN[index, train_rows] > 0]
        for seed, teacher_NM in zip(configuration.train.seeds, teachers_SNM, strict=True):
            if np.isnan(teacher_NM[rows, index]).any():
                raise DhmdError(
                    f"{folder} lacks teachers of {name} for seed-{seed}, whose pretraining "
                    "diverged: lower pretrain.lr and run pretrain again"
                )
