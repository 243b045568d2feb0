"""`metrics.json` from the seeds' scores: shared by who writes it and by the gate that checks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dhmd.evaluation.files import SPLITS
from dhmd.evaluation.metrics import METRICS, Floats, score
from dhmd.evaluation.statistics import summary

SeedValues = Mapping[int, Mapping[str, float]]


def over_seeds(values: SeedValues, metrics: tuple[str, ...]) -> dict[str, dict[str, float]]:
    """{metric: {mean, std}} of the metrics that every seed defines."""
    return {
        metric: summary(np.array([row[metric] for row in values.values()]))
        for metric in metrics
        if values and all(metric in row for row in values.values())
    }


def metrics_summary(
    task: str,
    values: Mapping[str, SeedValues],
    truth: SeedValues | None = None,
    ceiling: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """The content of `metrics.json`.

    `values`: split → seed → metric → value. `truth` and `ceiling` (generated corpora only): the
    seeds' scores against the planted truth, and the truth's own score against the labels.
    A metric that a seed leaves undefined is left out and named in `undefined`; so is a standard
    deviation of one seed.
    """
    metrics = METRICS[task]
    result: dict[str, Any] = {split: over_seeds(values[split], metrics) for split in SPLITS}
    result["n_seeds"] = len(values["test"])
    if truth is not None:
        result["truth"] = over_seeds(truth, metrics)
    result["undefined"] = [
        f"{part}.{metric}"
        for part in [*SPLITS, *(["truth"] if truth is not None else [])]
        for metric in metrics
        if metric not in result[part]
    ]
    if result["n_seeds"] == 1:
        result["undefined"].append("std")
    if ceiling is not None:
        result["ceiling"] = dict(ceiling)
    return result


def against_truth(
    task: str, predictions: Mapping[int, Floats], labels: Floats, truth: Floats
) -> tuple[dict[int, dict[str, float]], dict[str, float]]:
    """Each seed's scores against the planted truth, and the truth's against the labels."""
    by_seed = {seed: score(task, values, truth).values for seed, values in predictions.items()}
    return by_seed, score(task, truth, labels).values
