"""The tables of results that the README shows, from what is committed below `metrics/`.

Rounding happens here and nowhere before.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dhmd.evaluation.files import (
    IDENTITY,
    METRICS_FILE,
    PREDICTIONS,
    parse_predictions,
    read_object,
    read_text,
    written_by_evaluate,
)
from dhmd.evaluation.identity import identity_from
from dhmd.evaluation.metrics import PRIMARY
from dhmd.evaluation.statistics import summary

# Variants that stand for other people's models under this protocol (DMD had no dictionary).
BASELINES = {
    "gru": "GRU",
    "late_fusion": "late fusion",
    "mult": "MulT",
    "no_dictionary": "DMD (no dictionary)",
}
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "regression": {
        "mae": "MAE",
        "corr": "Corr",
        "acc7": "ACC7",
        "acc2_non0": "ACC2",
        "f1_non0": "F1",
    },
    "classification": {
        "accuracy": "Accuracy",
        "precision": "Precision",
        "recall": "Recall",
        "f1": "F1",
    },
}


@dataclass(frozen=True)
class Table:
    """One table: a title, a header and rows of text."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def dataset_names(metrics: Path) -> list[str]:
    """The datasets that have been evaluated, in alphabetical order."""
    # Hidden folders are being written, or were when their writer was killed.
    return sorted(path.parent.name for path in metrics.glob(f"[!.]*/{METRICS_FILE}"))


def dataset_tables(folder: Path) -> list[Table]:
    """The tables of one dataset: results, ablations, withheld modalities.

    Raises:
        DhmdError: a file is missing or cannot be read; the sentence names it, or the folder where a
            file holds other keys than `evaluate` writes.
    """
    with written_by_evaluate(folder):
        return _dataset_tables(folder)


def _dataset_tables(folder: Path) -> list[Table]:
    identity = identity_from(read_object(folder / IDENTITY), str(folder / IDENTITY))
    task = identity.task
    metrics = read_object(folder / METRICS_FILE)
    source = folder / PREDICTIONS
    count = len(parse_predictions(read_text(source), str(source)).ids)
    kind = "generated data, " if "ceiling" in metrics else ""
    ablations = read_object(folder / "ablations.json")
    tables = [
        Table(
            f"{identity.dataset}: {kind}{count} test utterances, fold {identity.fold}",
            ["", "seeds", *COLUMNS[task].values()],
            [
                *_floors(task, read_object(folder / "floors.json")),
                *_unimodal(task, folder / "unimodal.csv"),
                *_baselines(task, ablations),
                _result("**DHMD**", task, metrics["test"], metrics["n_seeds"]),
                *_ceiling(task, metrics),
            ],
        )
    ]
    for title, found in (
        ("variants and baselines against the full model", ablations),
        ("modalities withheld at test", read_object(folder / "missing_modalities.json")),
    ):
        if found:
            tables.append(_differences(f"{identity.dataset}: {title}", task, found))
    return tables


def constant_title(task: str) -> str:
    """What the floor without any input answers."""
    return "most frequent class" if task == "classification" else "median label"


def floor_title(task: str, name: str, entry: Mapping[str, Any]) -> str:
    """A floor's name, to be read; `entry` is its part of floors.json."""
    if name == "median":
        return constant_title(task)
    if name == "ridge":
        return "ridge, pooled features"
    return f"ridge, {', '.join(entry['inputs'])}"


def to_text(table: Table) -> str:
    """A table for a terminal."""
    rows = [list(table.header), *table.rows]
    plain = [[cell.replace("**", "") for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in plain) for column in range(len(plain[0]))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) for row in plain]
    return "\n".join([table.title, *(f"  {line}".rstrip() for line in lines)])


def to_markdown(table: Table) -> str:
    """A table for a README or a comment."""
    lines = [table.header, ["---"] * len(table.header), *table.rows]
    return "\n".join([f"**{table.title}**", "", *(f"| {' | '.join(row)} |" for row in lines)])


def _floors(task: str, floors: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for name, entry in floors.items():
        title = floor_title(task, name, entry)
        values = {metric: {"mean": value} for metric, value in entry["test"].items()}
        rows.append(_result(title, task, values, None))
    return rows


def _unimodal(task: str, path: Path) -> list[list[str]]:
    by_modality: dict[str, list[dict[str, str]]] = {}
    for row in csv.DictReader(read_text(path).splitlines()):
        if row["split"] == "test":
            by_modality.setdefault(row["modality"], []).append(row)
    rows = []
    for modality, entries in by_modality.items():
        values = {
            metric: summary(np.array([float(entry[metric]) for entry in entries]))
            for metric in COLUMNS[task]
            if all(entry[metric] for entry in entries)
        }
        rows.append(_result(f"{modality} alone", task, values, len(entries)))
    return rows


def _baselines(task: str, ablations: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for name, title in BASELINES.items():
        if name in ablations:
            n = max((entry["n"] for entry in ablations[name].values()), default=0)
            rows.append(_result(title, task, ablations[name], n))
    return rows


def _ceiling(task: str, metrics: Mapping[str, Any]) -> list[list[str]]:
    if "ceiling" not in metrics:
        return []
    values = {metric: {"mean": value} for metric, value in metrics["ceiling"].items()}
    return [_result("planted truth (ceiling)", task, values, None)]


def _differences(title: str, task: str, found: Mapping[str, Any]) -> Table:
    metric = PRIMARY[task]
    name = COLUMNS[task][metric]
    header = [
        "",
        "seeds",
        name,
        f"difference in {name}",
        "95 % over seeds",
        "95 % over utterances",
        "p (Holm)",
    ]
    rows = []
    for variant, metrics in found.items():
        entry = metrics.get(metric, {})
        rows.append(
            [
                variant,
                str(entry.get("n", "-")),
                _mean(entry),
                f"{entry['difference']:+.3f}" if "difference" in entry else "-",
                _interval(entry, "ci_low", "ci_high"),
                _interval(entry, "utterances_low", "utterances_high"),
                _p(entry.get("p")),
            ]
        )
    return Table(f"{title} (difference = the other − full)", header, rows)


def _result(name: str, task: str, values: Mapping[str, Any], n: int | None) -> list[str]:
    cells = [_mean(values.get(metric, {})) for metric in COLUMNS[task]]
    return [name, "-" if n is None else str(n), *cells]


def _mean(values: Mapping[str, float]) -> str:
    if "mean" not in values:
        return "-"
    spread = f" ± {values['std']:.3f}" if "std" in values else ""
    return f"{values['mean']:.3f}{spread}"


def _interval(entry: Mapping[str, float], low: str, high: str) -> str:
    return f"[{entry[low]:+.3f}, {entry[high]:+.3f}]" if low in entry else "-"


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
