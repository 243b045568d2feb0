"""What a training went through, as rows of member, epoch, name and value (history.csv)."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dhmd.data.aligned.corpus import Array
from dhmd.training.configuration import Configuration
from dhmd.training.trainer import History, Progress

HISTORY = "history.csv"

# Rows that say of a member which of its epochs counts, after those of the epochs themselves.
MARKS = ("selected", "diverged")


def seed_names(configuration: Configuration) -> list[str]:
    return [f"seed-{seed}" for seed in configuration.train.seeds]


def void_diverged(values: Array, progress: Progress) -> None:
    """A diverged member has no prediction: NaN says so, and `evaluate` refuses it by name."""
    for member, epoch in enumerate(progress.diverged):
        if epoch is not None:
            values[member] = np.nan


def marked(progress: Progress, names: Sequence[str]) -> History:
    """The history with each member's selected epoch (or the epoch it diverged in)."""
    marks: History = []
    for name, best, diverged in zip(names, progress.best_epoch, progress.diverged, strict=True):
        if diverged is not None:
            marks.append((name, diverged, "diverged", 1.0))
        else:
            marks.append((name, best, "selected", 1.0))
    return progress.history + marks


def write_history(folder: Path, history: History, modalities: Sequence[str] = ()) -> None:
    """Write history.csv. Rows of a member `audio/seed-1` get the prefix, if it is a modality's."""
    with open(folder / HISTORY, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["seed", "epoch", "name", "value"])
        for member, epoch, name, value in history:
            prefix, _, seed = member.rpartition("seed-")
            modality = prefix.rstrip("/") if prefix and not prefix.startswith("seed") else ""
            label = f"{modality}/{name}" if modality in modalities else name
            writer.writerow([seed, epoch, label, f"{value:.6g}"])
