"""The training history: a value per seed, epoch and metric (history.csv)."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from dhmd.data.aligned.corpus import Array
from dhmd.training.trainer import Progress

HISTORY = "history.csv"

# Rows that mark the epoch that a seed's training selected or diverged in; after the other rows.
MARKS = ("selected", "diverged")

Rows = Sequence[tuple[int, str, float]]  # epoch, metric, value


def void_diverged(values: Array, progress: Progress) -> None:
    """Set the outputs of diverged members to NaN, which `evaluate` refuses by name."""
    for member, epoch in enumerate(progress.diverged):
        if epoch is not None:
            values[member] = np.nan


def split_history(progress: Progress, names: Sequence[str]) -> list[list[tuple[int, str, float]]]:
    """Split the history by member; a last row marks the selected epoch (or the diverged one)."""
    rows: dict[str, list[tuple[int, str, float]]] = {name: [] for name in names}
    for name, epoch, metric, value in progress.history:
        rows[name].append((epoch, metric, value))
    for name, best, diverged in zip(names, progress.best_epoch, progress.diverged, strict=True):
        mark = (best, "selected", 1.0) if diverged is None else (diverged, "diverged", 1.0)
        rows[name].append(mark)
    return list(rows.values())


def selected_scores(rows: Rows) -> dict[str, float]:
    """The validation scores by name at the selected epoch; empty if the training diverged."""
    selected = {epoch for epoch, metric, _ in rows if metric == "selected"}
    return {
        metric: value
        for epoch, metric, value in rows
        if epoch in selected and metric.startswith("valid/")
    }


def write_history(folder: Path, blocks: Iterable[tuple[str, Mapping[int, Rows]]]) -> None:
    """Write history.csv, epoch by epoch over all seeds, the marks at the end.

    Args:
        blocks: a prefix of the metrics' names (`text/` where modalities are trained apart) and
            the rows by seed; one block is written after another.
    """
    with open(folder / HISTORY, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["seed", "epoch", "name", "value"])
        for prefix, by_seed in blocks:
            table = [(seed, *row) for seed, rows in by_seed.items() for row in rows]
            # Stable: rows of one seed and epoch, and the seeds of one epoch, keep their order.
            table.sort(key=lambda row: (row[2] in MARKS, 0 if row[2] in MARKS else row[1]))
            for seed, epoch, metric, value in table:
                writer.writerow([seed, epoch, f"{prefix}{metric}", f"{value:.6g}"])
