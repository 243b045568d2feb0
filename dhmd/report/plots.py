"""What `dvc plots` draws: a CSV file a plot, its axes named in dvc.yaml.

Every file has its columns whatever was trained; one without rows draws nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from dhmd.report.charts.training import curves_of
from dhmd.report.inputs import Inputs


def plots(inputs: Inputs) -> dict[str, str]:
    """File name → content."""
    return {
        "training.csv": _curve(inputs, "train/total", "train_loss"),
        "validation.csv": _curve(inputs, f"valid/{inputs.primary}", "valid_score"),
        "predictions.csv": _predictions(inputs),
        "confusion.csv": _confusion(inputs),
        "ablations.csv": _differences(inputs, "ablations", "variant"),
        "missing_modalities.csv": _differences(inputs, "missing_modalities", "missing"),
    }


def _curve(inputs: Inputs, name: str, column: str) -> str:
    """A curve's mean over the seeds that still train, by epoch."""
    by_epoch: dict[int, list[float]] = {}
    for epochs, values in curves_of(inputs.history).get(name, {}).values():
        for epoch, value in zip(epochs, values, strict=True):
            by_epoch.setdefault(epoch, []).append(value)
    rows = [[epoch, float(np.mean(by_epoch[epoch]))] for epoch in sorted(by_epoch)]
    return csv_text(["epoch", column], rows)


def _predictions(inputs: Inputs) -> str:
    """id, label, prediction (mean over seeds; of a classification the first seed's class)."""
    predictions = inputs.predictions
    labels: list[object] = predictions.labels.tolist()
    values: list[object] = predictions.values.mean(0).tolist()
    if inputs.task == "classification":
        labels = [inputs.classes[int(label)] for label in predictions.labels]
        values = [inputs.classes[int(value)] for value in predictions.values[0]]
    rows = [list(row) for row in zip(predictions.ids, labels, values, strict=True)]
    return csv_text(["id", "label", "prediction"], rows)


def _confusion(inputs: Inputs) -> str:
    """actual, predicted: names of classes, a row an utterance and seed."""
    truth = inputs.class_of(inputs.labels)
    rows = [
        [inputs.classes[a], inputs.classes[b]]
        for values in inputs.predictions.values
        for a, b in zip(truth, inputs.class_of(values), strict=True)
    ]
    return csv_text(["actual", "predicted"], rows)


def _differences(inputs: Inputs, stem: str, key: str) -> str:
    """Differences from the full model in the primary metric, with the interval over seeds."""
    rows = [
        [name, entry["difference"], entry["ci_low"], entry["ci_high"], entry["p"]]
        for name, metrics in inputs.tables[stem].items()
        for entry in [metrics.get(inputs.primary, {})]
        if "difference" in entry
    ]
    return csv_text([key, "difference", "ci_low", "ci_high", "p"], rows)


def csv_text(header: list[str], rows: Sequence[Sequence[object]]) -> str:
    """A CSV file with `\\n` line ends on every system."""
    return pd.DataFrame(list(rows), columns=header).to_csv(index=False, lineterminator="\n")
