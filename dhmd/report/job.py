"""The `report` stage: the report of one dataset as files.

reports/<dataset>/index.html    the page, with the figures inside
reports/<dataset>/report.json   its content without the figures, for `dhmd report`
reports/<dataset>/pictures/     one SVG file per figure
reports/<dataset>/plots/        one CSV file per plot of `dvc plots`
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from dhmd.base.files import atomic_folder
from dhmd.report.content import build_report
from dhmd.report.data import ReportData, read_report_data
from dhmd.report.page import (
    FORMAT,
    PAGE,
    PICTURES,
    REPORT,
    DatasetEntry,
    figure_blocks,
    metrics_sha256,
    render,
)

PLOTS: Final = "plots"


def report_job(aligned: Path, pretrained: Path, models: Path, metrics: Path, output: Path) -> None:
    """Write `reports/<dataset>/`.

    The directory appears complete or not at all, with the same bytes for the same input.

    Args:
        aligned: the aligned features file.
        pretrained: the directory that `pretrain` wrote.
        models: the directory that `train` wrote.
        metrics: the directory that `evaluate` wrote.
        output: the directory to write.
    """
    data = read_report_data(aligned, pretrained, models, metrics)
    report = build_report(data)
    report |= {"format": FORMAT, "metrics_sha256": metrics_sha256(metrics)}
    pictures = {figure["name"]: figure.pop("svg") for figure in figure_blocks(report)}
    page = render(f"{data.name}: results of DHMD", [DatasetEntry(report=report, pictures=pictures)])
    files = {PAGE: page, REPORT: json.dumps(report, ensure_ascii=False, allow_nan=False) + "\n"}
    files |= {f"{PICTURES}/{name}.svg": svg for name, svg in pictures.items()}
    for name, table in plots(data).items():
        files[f"{PLOTS}/{name}.csv"] = table.to_csv(index=False, lineterminator="\n")
    with atomic_folder(output) as folder:
        for name, text in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8", newline="")


def plots(data: ReportData) -> dict[str, pd.DataFrame]:
    """Return the tables that dvc.yaml lists under `plots`, by name; DVC draws those with rows."""
    predictions, classes = data.predictions, np.array(data.classes)
    label: Any = predictions.labels
    prediction: Any = predictions.values.mean(0)
    if data.task != "regression":  # classes have no mean: take those of the first seed
        label, prediction = (data.names_of(v) for v in (label, predictions.values[0]))
    pairs = data.members(data.labels)[:, :, None] & data.members(predictions.values)[:, :, None]
    *_, actual, predicted = np.nonzero(pairs)
    return {
        "training": _curve(data, "train/total", "train_loss"),
        "validation": _curve(data, f"valid/{data.primary}", "valid_score"),
        "predictions": pd.DataFrame(
            {"id": predictions.ids, "label": label, "prediction": prediction}
        ),
        "confusion": pd.DataFrame({"actual": classes[actual], "predicted": classes[predicted]}),
        "ablations": _differences(data, data.ablations, "variant"),
        "missing_modalities": _differences(data, data.missing, "missing"),
    }


def _curve(data: ReportData, name: str, column: str) -> pd.DataFrame:
    """Return the mean of a learning curve per epoch, over the seeds that train in this epoch."""
    curve = data.training[data.training["name"] == name]
    return curve.groupby("epoch")["value"].mean().rename(column).reset_index()


def _differences(data: ReportData, entries: Mapping[str, Any], key: str) -> pd.DataFrame:
    """Return the differences from the full model in the primary metric, one row per entry."""
    columns = ["difference", "ci_low", "ci_high", "p"]
    rows = [
        {key: name, **entry}
        for name, metrics in entries.items()
        if "difference" in (entry := metrics.get(data.primary, {}))
    ]
    return pd.DataFrame(rows, columns=[key, *columns])
