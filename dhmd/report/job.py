"""The `report` stage: the report of one dataset as files.

reports/<dataset>/index.html    the page, with the figures inside
reports/<dataset>/report.json   its content without the figures, for `dhmd report`
reports/<dataset>/pictures/     the figures, one SVG file each
reports/<dataset>/plots/        what `dvc plots` draws, one CSV file each
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from dhmd.base.files import whole_folder
from dhmd.evaluation.files import json_text
from dhmd.report.content import build_report
from dhmd.report.data import ReportData, read_report_data
from dhmd.report.page import FORMAT, PAGE, PICTURES, REPORT, Entry, figures, metrics_sha256, render

PLOTS: Final = "plots"


def report_job(aligned: Path, pretrained: Path, models: Path, metrics: Path, output: Path) -> None:
    """Write `reports/<dataset>/`.

    Args:
        aligned: the aligned features file.
        pretrained, models, metrics: folders that `pretrain`, `train` and `evaluate` wrote.
        output: appears whole or not at all, with the same bytes for the same input.

    Raises:
        DhmdError: a file is missing or damaged, or the files are not of the same corpus.
    """
    data = read_report_data(aligned, pretrained, models, metrics)
    report = build_report(data)
    report |= {"format": FORMAT, "metrics_sha256": metrics_sha256(metrics)}
    pictures = {figure["name"]: figure.pop("svg") for figure in figures(report)}
    page = render(f"{data.name}: results of DHMD", [Entry(report=report, pictures=pictures)])
    files = {PAGE: page, REPORT: json_text(report)}
    files |= {f"{PICTURES}/{name}.svg": svg for name, svg in pictures.items()}
    files |= {f"{PLOTS}/{name}": text for name, text in plots(data).items()}
    with whole_folder(output) as folder:
        for name, text in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8", newline="")


def plots(data: ReportData) -> dict[str, str]:
    """Return the CSV files that dvc.yaml lists under `plots`; files without rows are not drawn."""
    predictions = data.predictions
    columns: list[list[object]] = [predictions.labels.tolist(), predictions.values.mean(0).tolist()]
    if data.task != "regression":  # classes of the first seed: they have no mean
        columns = [list(map(data.name_of, v)) for v in (data.labels, predictions.values[0])]
    labels = data.members(data.labels)
    confusion = [
        [data.classes[label], data.classes[predicted]]
        for values in predictions.values
        for _, label, predicted in np.argwhere(
            labels[:, :, None] & data.members(values)[:, None, :]
        )
    ]
    return {
        "training.csv": _curve(data, "train/total", "train_loss"),
        "validation.csv": _curve(data, f"valid/{data.primary}", "valid_score"),
        "predictions.csv": _csv(
            ["id", "label", "prediction"], zip(predictions.ids, *columns, strict=True)
        ),
        "confusion.csv": _csv(["actual", "predicted"], confusion),
        "ablations.csv": _differences(data, data.ablations, "variant"),
        "missing_modalities.csv": _differences(data, data.missing, "missing"),
    }


def _curve(data: ReportData, name: str, column: str) -> str:
    """Average a learning curve over the seeds that still train, by epoch."""
    by_epoch: dict[int, list[float]] = {}
    for epochs, values in data.training.get(name, {}).values():
        for epoch, value in zip(epochs, values, strict=True):
            by_epoch.setdefault(epoch, []).append(value)
    rows = [[epoch, float(np.mean(by_epoch[epoch]))] for epoch in sorted(by_epoch)]
    return _csv(["epoch", column], rows)


def _differences(data: ReportData, entries: Mapping[str, Any], key: str) -> str:
    """List the differences from the full model in the primary metric, with their intervals."""
    rows = [
        [name, entry["difference"], entry["ci_low"], entry["ci_high"], entry["p"]]
        for name, metrics in entries.items()
        if "difference" in (entry := metrics.get(data.primary, {}))
    ]
    return _csv([key, "difference", "ci_low", "ci_high", "p"], rows)


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([header, *rows])
    return stream.getvalue()
