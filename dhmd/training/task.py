"""A task: ensemble members that train side by side in one process, as a JSON file.

A task has a directory of its own in the store of finished trainings (store.py). Anything that can
start `python -m dhmd.training.run_task TASK.json` on a machine that sees these paths can run it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import json_sha256, write_text
from dhmd.data.text.encoder import Encoder, load_encoder
from dhmd.training.configuration import Configuration
from dhmd.training.store import Store

TASK = "task.json"


@dataclass(frozen=True, kw_only=True)
class Task:
    """A stack of variants over some seeds, or the pretraining of one modality over some seeds.

    Attributes:
        configurations: by variant name; the full model's name is empty. All agree in what must
            agree to train as one stack (`Configuration.structure`), the seeds included.
        modality: the modality whose encoder is pretrained; None trains the variants.
        aligned: the aligned features file.
        fold: the fold of the corpus; None is its first.
        pretrained: the folder that training starts from.
        encoder: the text encoder that is trained along, if one is.
        missing_modality_test: whether to predict the test split with modalities dropped.
        store: the store of finished trainings.
        keys: where each member goes in the store, by member name.
    """

    configurations: Mapping[str, Configuration]
    aligned: Path
    fold: str | None
    store: Store
    keys: Mapping[str, str]
    modality: str | None = None
    pretrained: Path | None = None
    encoder: Encoder | None = None
    missing_modality_test: bool = False

    @property
    def first(self) -> Configuration:
        """Any of the configurations: they agree in all that shapes the training."""
        return next(iter(self.configurations.values()))

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.first.train.seeds

    @property
    def members(self) -> list[str]:
        """The members' names: `seed-1`, or `mult/seed-1` for a variant or a modality."""
        return [
            member_name(self.modality or variant, seed)
            for variant in self.configurations
            for seed in self.seeds
        ]

    @cached_property
    def folder(self) -> Path:
        """The task's directory, named by its members' keys: a resumed task finds it again."""
        return self.store.tasks / json_sha256([self.keys[name] for name in self.members])[:16]

    @property
    def missing(self) -> list[str]:
        """Members that the store does not have yet."""
        return [name for name in self.members if self.keys[name] not in self.store]

    @property
    def label(self) -> str:
        """What the task trains, for messages."""
        names = ", ".join(filter(None, [self.modality, *self.configurations]))
        seeds = ", ".join(map(str, self.seeds))
        return f"{names}: " * bool(names) + f"seed{'s' * (len(self.seeds) > 1)} {seeds}"

    def reduced(self) -> Task:
        """The same task without the variants and the seeds that the store has entirely."""
        missing = set(self.missing)
        seeds = [
            seed
            for seed in self.seeds
            if any(member_name(self.modality or v, seed) in missing for v in self.configurations)
        ]
        return replace(
            self,
            configurations={
                variant: with_seeds(own, seeds)
                for variant, own in self.configurations.items()
                if any(member_name(self.modality or variant, seed) in missing for seed in seeds)
            },
        )

    def write(self) -> Path:
        """Write the task's JSON file into its directory and return its path.

        Raises:
            DhmdError: the disk is full or the folder cannot be written.
        """
        content = {
            "configurations": {name: own.as_json() for name, own in self.configurations.items()},
            "modality": self.modality,
            "aligned": str(self.aligned.resolve()),
            "fold": self.fold,
            "pretrained": None if self.pretrained is None else str(self.pretrained.resolve()),
            "encoder": None if self.encoder is None else str(self.encoder.files.folder.resolve()),
            "missing_modality_test": self.missing_modality_test,
            "store": str(self.store.folder.resolve()),
            "keys": {name: self.keys[name] for name in self.members},
        }
        path = self.folder / TASK
        write_text(path, json.dumps(content, indent=1) + "\n")
        return path

    @staticmethod
    def read(path: Path) -> Task:
        """Read what `write` wrote.

        Raises:
            DhmdError: there is no such file, it is no task, or its encoder cannot be loaded.
        """
        try:
            content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            pretrained, encoder = content["pretrained"], content["encoder"]
            return Task(
                configurations={
                    name: Configuration.from_json(own, str(path))
                    for name, own in content["configurations"].items()
                },
                modality=content["modality"],
                aligned=Path(content["aligned"]),
                fold=content["fold"],
                pretrained=None if pretrained is None else Path(pretrained),
                encoder=None if encoder is None else load_encoder(encoder, path.parent),
                missing_modality_test=content["missing_modality_test"],
                store=Store(Path(content["store"])),
                keys=content["keys"],
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DhmdError(f"{path} is not a training task: {first_line(error)}") from error


def member_name(prefix: str, seed: int) -> str:
    """The name of a member in events, logs and history: `seed-1`, or `mult/seed-1`."""
    return f"{prefix}/seed-{seed}" if prefix else f"seed-{seed}"


def with_seeds(configuration: Configuration, seeds: Sequence[int]) -> Configuration:
    return replace(configuration, train=replace(configuration.train, seeds=tuple(seeds)))
