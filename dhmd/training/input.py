"""Prepare a corpus for training on some of its modalities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dhmd.base.errors import DhmdError
from dhmd.data.aligned.corpus import Corpus
from dhmd.models.task import Task
from dhmd.training.configuration import Configuration
from dhmd.training.device_corpus import DeviceCorpus, Normalisation
from dhmd.training.weights import Description


@dataclass(frozen=True)
class Input:
    """A corpus prepared for one set of modalities."""

    corpus: Corpus
    task: Task
    normalisation: dict[str, Normalisation]
    data: DeviceCorpus

    @staticmethod
    def of(corpus: Corpus, modalities: Sequence[str], device: torch.device) -> Input:
        missing = [name for name in modalities if name not in corpus.modalities]
        if missing:
            raise DhmdError(
                f"the aligned features file of {corpus.name} has no {missing[0]}: run align again"
            )
        normalisation = _normalisation(corpus, modalities)
        data = DeviceCorpus.of(corpus, tuple(modalities), normalisation, device)
        return Input(corpus, _task(corpus), normalisation, data)


def describe(corpus: Corpus, configuration: Configuration) -> Description:
    """Describe a model of this configuration, trained on this corpus, for model.json."""
    names = configuration.modalities
    return Description(
        configuration=configuration,
        features={name: corpus.feature_names[name] for name in names},
        normalisation=_normalisation(corpus, names),
        task=_task(corpus),
        class_names=corpus.class_names,
        seeds=configuration.train.seeds,
        dataset=corpus.name,
        alignment=corpus.alignment,
        identity=corpus.identity,
        fold=corpus.fold,
        steps=longest(corpus, names),
        train_utterances=len(corpus.index("train")),
        origin=corpus.report.get("origin"),
    )


def longest(corpus: Corpus, modalities: Sequence[str]) -> dict[str, int]:
    """Return the longest length of each modality, in steps."""
    return {name: int(corpus.features[name].lengths.max()) for name in modalities}


def _task(corpus: Corpus) -> Task:
    return Task(
        classes=len(corpus.class_names) or None, low=float(corpus.low), high=float(corpus.high)
    )


def _normalisation(corpus: Corpus, modalities: Sequence[str]) -> dict[str, Normalisation]:
    return {
        name: Normalisation(corpus.statistics[name].mean_d, corpus.statistics[name].std_d)
        for name in modalities
    }
