"""What one process trains in one go, and the groups of such tasks that belong together.

A task goes to its process as JSON, and its result comes back as a file: see pool.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dhmd.data.aligned.corpus import Corpus
from dhmd.training.configuration import Configuration
from dhmd.training.observer import Observer
from dhmd.training.parts import Part
from dhmd.training.pretraining import modality_names, pretrain_modality
from dhmd.training.resume import ResumeState
from dhmd.training.stack import member_names, train_stack
from dhmd.training.workers import shares


@dataclass(frozen=True, kw_only=True)
class Task:
    """A stack of variants over some seeds, or the pretraining of one modality over some.

    Attributes:
        variants: names of the configurations.
        modality: to be pretrained; None: the variants are to be trained.
        pretrained: where training starts; None for pretraining.
        with_withheld: whether predictions with modalities withheld are wanted.
    """

    configurations: list[Configuration]
    variants: list[str]
    modality: str | None = None
    pretrained: Path | None = None
    with_withheld: bool = False

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        return {
            "configurations": [each.as_json() for each in self.configurations],
            "variants": self.variants,
            "modality": self.modality,
            "pretrained": None if self.pretrained is None else str(self.pretrained),
            "with_withheld": self.with_withheld,
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Task:
        """The reverse of `as_json`."""
        pretrained = value["pretrained"]
        return Task(
            configurations=[Configuration.from_json(c, "task") for c in value["configurations"]],
            variants=list(value["variants"]),
            modality=value["modality"],
            pretrained=None if pretrained is None else Path(pretrained),
            with_withheld=value["with_withheld"],
        )

    def run(
        self, corpus: Corpus, device: torch.device, observer: Observer, place: ResumeState
    ) -> Part:
        """Do it here.

        Raises:
            DhmdError: bad input.
        """
        if self.modality is not None:
            (own,) = self.configurations
            return pretrain_modality(own, corpus, self.modality, device, observer, place)
        assert self.pretrained is not None
        return train_stack(
            self.configurations,
            self.variants,
            corpus,
            self.pretrained,
            device,
            observer,
            place,
            with_withheld=self.with_withheld,
        )


@dataclass(frozen=True)
class Group:
    """Tasks whose members would train together in one process; `names` of all of them."""

    names: list[str]
    tasks: list[Task]


def pretraining_group(configuration: Configuration, modality: str, workers: int) -> Group:
    """One modality's pretraining, its seeds shared by the workers."""
    tasks = [
        Task(configurations=[own], variants=[""], modality=modality)
        for own in _over(configuration, workers)
    ]
    return Group(modality_names(configuration, modality), tasks)


def training_group(
    variants: Mapping[str, Configuration], pretrained: Path, workers: int, *, with_withheld: bool
) -> Group:
    """A stack of variants, shared by the workers: by seeds, and by variants where seeds are few."""
    names, seeds = list(variants), len(next(iter(variants.values())).train.seeds)
    tasks = [
        Task(
            configurations=list(of_seeds),
            variants=some,
            pretrained=pretrained,
            with_withheld=with_withheld,
        )
        for some in shares(names, max(1, workers // seeds))
        for of_seeds in zip(*(_over(variants[name], workers) for name in some), strict=True)
    ]
    members = [name for key, own in variants.items() for name in member_names(own, key)]
    return Group(members, tasks)


def _over(configuration: Configuration, workers: int) -> Sequence[Configuration]:
    """The configuration on each worker's share of its seeds."""
    return [
        replace(configuration, train=replace(configuration.train, seeds=tuple(seeds)))
        for seeds in shares(configuration.train.seeds, workers)
    ]
