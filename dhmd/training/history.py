"""The training history, history.csv: one row per seed, epoch and metric."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

from dhmd.training.trainer import Progress

HISTORY = "history.csv"

# Name of a seed's last row, which marks the epoch of its best weights or the one it diverged in.
MARKS = ("selected", "diverged")

Rows = Sequence[tuple[int, str, float]]  # epoch, metric, value


def member_history(progress: Progress, name: str, index: int) -> list[tuple[int, str, float]]:
    """Return a member's rows; the last one marks the epoch that was selected or diverged."""
    best, diverged = progress.best_epoch[index], progress.diverged[index]
    mark = (best, "selected", 1.0) if diverged is None else (diverged, "diverged", 1.0)
    rows = [row[1:] for row in progress.history if row[0] == name]
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
        blocks: by a prefix of the metrics' names, such as `text/` for the pretraining of text: the
            rows by seed. The blocks are written one after the other.
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
