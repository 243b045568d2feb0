"""The training history: a value per seed, epoch and metric (history.csv)."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from dhmd.training.trainer import Progress

HISTORY = "history.csv"

# Names of the last rows of a seed: the epoch of its best weights, or the one it diverged in.
MARKS = ("selected", "diverged")

Rows = Sequence[tuple[int, str, float]]  # epoch, metric, value


def member_history(progress: Progress, name: str, index: int) -> list[tuple[int, str, float]]:
    """Return a member's rows; a last row marks the selected epoch (or the diverged one)."""
    best, diverged = progress.best_epoch[index], progress.diverged[index]
    mark = (best, "selected", 1.0) if diverged is None else (diverged, "diverged", 1.0)
    rows = [(epoch, metric, v) for member, epoch, metric, v in progress.history if member == name]
    return [*rows, mark]


def selected_scores(rows: Rows) -> dict[str, float]:
    """Return the validation scores at the selected epoch; empty if the training diverged."""
    selected = {epoch for epoch, metric, _ in rows if metric == "selected"}
    return {
        metric: value
        for epoch, metric, value in rows
        if epoch in selected and metric.startswith("valid/")
    }


def write_history(folder: Path, blocks: Mapping[str, Mapping[int, Rows]]) -> None:
    """Write history.csv, sorted by epoch, with the marks at the end.

    Args:
        blocks: rows by seed, by a prefix of the metrics' names (`text/` where modalities are
            trained apart); one block is written after another.
    """
    with open(folder / HISTORY, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["seed", "epoch", "name", "value"])
        for prefix, by_seed in blocks.items():
            table = [(seed, *row) for seed, rows in by_seed.items() for row in rows]
            # The sort is stable: within an epoch, seeds and rows keep their order.
            table.sort(key=lambda row: (row[2] in MARKS, 0 if row[2] in MARKS else row[1]))
            for seed, epoch, metric, value in table:
                writer.writerow([seed, epoch, f"{prefix}{metric}", f"{value:.6g}"])
