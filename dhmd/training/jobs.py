"""Training jobs: pure functions of configuration, aligned cache and seeds to a folder of artefacts.

They know nothing of DVC and run anywhere. A job that is interrupted goes on where it was when it is
called again with the same arguments.

Legend: R replicas, S seeds, F folds, N utterances, M modalities, O outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from dhmd.base.atomic import whole_folder
from dhmd.base.errors import DhmdError
from dhmd.base.hashing import file_sha256, json_sha256
from dhmd.cache import read_corpus
from dhmd.cache.corpus import Corpus
from dhmd.encoder.loading import Encoder
from dhmd.training.configuration import Configuration, flat
from dhmd.training.device import prepared
from dhmd.training.history import seed_names
from dhmd.training.observer import Observer
from dhmd.training.pretraining import pretrain_modality, write_pretrained
from dhmd.training.resume import environment_key, resume_state
from dhmd.training.stack import train_group

# More replicas than this in one process gain nothing on a CPU and cost memory.
_MOST_REPLICAS = {"cpu": 30, "cuda": 512}


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
    configuration = configuration.for_pretraining()
    with prepared(configuration.train) as device:
        corpus = read_corpus(cache, fold=fold)
        key = _key("pretrain", corpus, cache, [configuration], device)
        with resume_state(state, f"pretrain-{corpus.name}", key) as place:
            parameters = flat(configuration.as_json())
            names = seed_names(configuration)
            observer.started("pretrain", names, parameters, place.epochs())
            found = {
                name: pretrain_modality(configuration, corpus, name, device, observer, place)
                for name in configuration.modalities
            }
            with whole_folder(output) as folder:
                write_pretrained(folder, configuration, corpus, found, device)
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
        key = _key("train", corpus, cache, [configuration], device, pretrained, encoder)
        with resume_state(state, f"train-{corpus.name}", key) as place:
            parameters = flat(configuration.as_json())
            observer.started("train", seed_names(configuration), parameters, place.epochs())
            trained = train_group(
                [configuration], [""], corpus, pretrained, device, observer, place, encoder
            )
            with whole_folder(output) as folder:
                trained[0].write(folder, with_withheld=True)
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
        key = _key("ablate", corpus, cache, configurations, device, pretrained, encoder)
        with resume_state(state, f"ablate-{corpus.name}", key) as place:
            names = [f"{name}/{seed}" for name, c in variants.items() for seed in seed_names(c)]
            parameters = flat(configurations[0].as_json())
            observer.started("ablate", names, parameters, place.epochs())
            with whole_folder(output) as folder:
                for group in stacks(variants, _MOST_REPLICAS[device.type]):
                    members = [variants[name] for name in group]
                    trained = train_group(
                        members, group, corpus, pretrained, device, observer, place, encoder
                    )
                    for name, one in zip(group, trained, strict=True):
                        (folder / name).mkdir()
                        one.write(folder / name, with_withheld=False)
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


def _key(
    stage: str,
    corpus: Corpus,
    cache: Path,
    configurations: Sequence[Configuration],
    device: torch.device,
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
        "encoder": None if encoder is None else encoder.digest,
    }
    if pretrained is not None:
        description = pretrained / "model.json"
        if not description.is_file():
            raise DhmdError(f"{pretrained} is no model folder: run the pretrain stage first")
        key["pretrained"] = file_sha256(description)
    return key
