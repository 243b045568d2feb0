"""Training jobs: pure functions of configuration, aligned cache and seeds to a folder of artefacts.

They know nothing of DVC and run anywhere. A job that is interrupted goes on where it was when it is
called again with the same arguments. On a CPU the members of a longer job are shared by several
processes (`train.workers`); a caller that runs several jobs at once should set it to 1.

Legend: E members, S seeds, F folds, N utterances, M modalities, O outputs.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from dhmd.base.errors import DhmdError
from dhmd.base.files import file_sha256, json_sha256, whole_folder
from dhmd.data.aligned import read_corpus
from dhmd.data.aligned.corpus import Corpus
from dhmd.data.text_encoder.loading import Encoder
from dhmd.training.configuration import Configuration, flat
from dhmd.training.device import prepared
from dhmd.training.history import seed_names
from dhmd.training.memory import most_members
from dhmd.training.observer import Observer
from dhmd.training.pool import trained_by_workers
from dhmd.training.pretraining import pretrain_modality, write_pretrained
from dhmd.training.resume import ResumeState, environment_key, resume_state
from dhmd.training.stack import Trained, member_names, train_group
from dhmd.training.tasks import pretraining_group, training_group
from dhmd.training.workers import WORTH, chosen_workers


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

    Every seed has one member trained on all of train, and one for each fold of the train videos
    left out: the left-out utterances' predictions are the teachers' targets.

    Raises:
        DhmdError: bad input; nothing is written.
    """
    configuration = configuration.for_pretraining()
    with prepared(configuration.train) as device:
        corpus = read_corpus(cache, fold=fold)
        workers = _workers("pretrain", [configuration], corpus, device)
        key = _key("pretrain", corpus, cache, [configuration], device, workers)
        with resume_state(state, f"pretrain-{corpus.name}", key) as place:
            parameters = flat(configuration.as_json())
            names = seed_names(configuration)
            observer.started("pretrain", names, parameters, place.epochs())
            modalities = configuration.modalities
            if workers == 1:
                found = {
                    name: pretrain_modality(configuration, corpus, name, device, observer, place)
                    for name in modalities
                }
            else:
                groups = [pretraining_group(configuration, name, workers) for name in modalities]
                with trained_by_workers(
                    groups, workers, cache=cache, fold=fold, observer=observer, place=place
                ) as read:
                    found = {name: read(index) for index, name in enumerate(modalities)}
            with whole_folder(output) as folder:
                write_pretrained(folder, configuration, corpus, found)
        observer.finished(output)


def train_job(
    configuration: Configuration,
    cache: Path,
    pretrained: Path,
    output: Path,
    *,
    fold: str | None,
    observer: Observer,
    state: Path,
    encoder: Encoder | None = None,
) -> None:
    """Train the model over all seeds; write weights, predictions and history to `output`.

    `encoder` is what the configuration wants trained along, one seed after the other.

    Raises:
        DhmdError: bad input, or pretrained encoders of another configuration; nothing is written.
    """
    with prepared(configuration.train) as device:
        corpus = read_corpus(cache, fold=fold)
        workers = _workers("train", [configuration], corpus, device, encoder)
        key = _key("train", corpus, cache, [configuration], device, workers, pretrained, encoder)
        with resume_state(state, f"train-{corpus.name}", key) as place:
            parameters = flat(configuration.as_json())
            observer.started("train", seed_names(configuration), parameters, place.epochs())
            groups = _trained(
                [{"": configuration}],
                workers,
                *(corpus, cache, fold, pretrained, device, observer, place, encoder),
                with_withheld=True,
            )
            with closing(groups):
                for (trained,) in groups:
                    with whole_folder(output) as folder:
                        trained.write(folder, corpus)
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
    encoder: Encoder | None = None,
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
        workers = _workers("train", configurations, corpus, device, encoder)
        key = _key("ablate", corpus, cache, configurations, device, workers, pretrained, encoder)
        with resume_state(state, f"ablate-{corpus.name}", key) as place:
            names = [name for key, own in variants.items() for name in member_names(own, key)]
            parameters = flat(configurations[0].as_json())
            most = most_members(configurations[0], corpus, device.type)
            observer.started("ablate", names, parameters, place.epochs())
            with whole_folder(output) as folder:
                groups = _trained(
                    [{name: variants[name] for name in names} for names in stacks(variants, most)],
                    workers,
                    *(corpus, cache, fold, pretrained, device, observer, place, encoder),
                    with_withheld=False,
                )
                with closing(groups):
                    for trained in itertools.chain.from_iterable(groups):
                        (folder / trained.name).mkdir()
                        trained.write(folder / trained.name, corpus)
        observer.finished(output)


def _trained(
    groups: Sequence[Mapping[str, Configuration]],
    workers: int,
    corpus: Corpus,
    cache: Path,
    fold: str | None,
    pretrained: Path,
    device: torch.device,
    observer: Observer,
    place: ResumeState,
    encoder: Encoder | None,
    *,
    with_withheld: bool,
) -> Generator[list[Trained], None, None]:
    """Train groups of variants, here one after the other or by workers; yields each group's."""
    if workers == 1:
        for group in groups:
            yield train_group(
                list(group.values()),
                list(group),
                *(corpus, pretrained, device, observer, place, encoder),
                with_withheld=with_withheld,
            )
        return
    shared = [training_group(g, pretrained, workers, with_withheld=with_withheld) for g in groups]
    with trained_by_workers(
        shared, workers, cache=cache, fold=fold, observer=observer, place=place
    ) as read:
        for index, group in enumerate(groups):
            part = read(index)
            yield [Trained(own, name, [part]) for name, own in group.items()]


def stacks(variants: Mapping[str, Configuration], most: int) -> list[list[str]]:
    """Names of variants that can train as one stack, at most `most` members each."""
    groups: dict[str, list[list[str]]] = {}
    for name, configuration in variants.items():
        stack = groups.setdefault(json_sha256(configuration.structure()), [[]])
        if (len(stack[-1]) + 1) * len(configuration.train.seeds) > most and stack[-1]:
            stack.append([])
        stack[-1].append(name)
    return [names for stack in groups.values() for names in stack]


def _workers(
    stage: str,
    configurations: Sequence[Configuration],
    corpus: Corpus,
    device: torch.device,
    encoder: Encoder | None = None,
) -> int:
    """How many processes train."""
    first = configurations[0]
    if encoder is not None and any(each.trains_encoder for each in configurations):
        return 1  # its products are large enough to keep cores busy, and its memory is
    members = sum(len(each.train.seeds) for each in configurations)
    utterances = len(corpus.index("train"))
    if stage == "pretrain":
        members *= len(first.modalities)
        work = members * (first.pretrain.folds + 1) * first.pretrain.epochs * utterances
    else:
        work = members * first.train.epochs * utterances
    return chosen_workers(
        first.train, corpus, device, members=members, work=work, worth=WORTH[stage]
    )


def _key(
    stage: str,
    corpus: Corpus,
    cache: Path,
    configurations: Sequence[Configuration],
    device: torch.device,
    workers: int,
    pretrained: Path | None = None,
    encoder: Encoder | None = None,
) -> dict[str, Any]:
    """All that a job's result depends on."""
    key: dict[str, Any] = {
        "stage": stage,
        "identity": corpus.identity,
        "cache": file_sha256(cache),
        "configurations": [configuration.as_json() for configuration in configurations],
        "environment": environment_key(device),
        "workers": workers,
        "encoder": None if encoder is None else encoder.digest,
    }
    if pretrained is not None:
        description = pretrained / "model.json"
        if not description.is_file():
            raise DhmdError(f"{pretrained} is no model folder: run the pretrain stage first")
        key["pretrained"] = file_sha256(description)
    return key
