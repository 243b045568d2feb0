"""The files of `metrics/<dataset>/`: their names, how to read them, and the two summaries.

Floats are written with the fewest digits that restore them exactly; nothing is rounded. Scores
are computed from the numbers as written, so that any tool computes the same scores from
`predictions.csv`.

All readers raise `DhmdError` with the name of the file and the position of the error. The gate
imports this module, which therefore does not import pandas.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.text import finite_number, parse_csv
from dhmd.evaluation.metrics import (
    CLASS_METRICS,
    METRIC_TITLES,
    METRICS,
    PRIMARY_METRIC,
    Floats,
    class_scores,
    score,
)
from dhmd.evaluation.statistics import mean_and_std

METRICS_FILE = "metrics.json"
DETAILS = "details"
IDENTITY = f"{DETAILS}/identity.json"
SUMMARY = f"{DETAILS}/summary.json"
PREDICTIONS = f"{DETAILS}/predictions.csv"
SEEDS = f"{DETAILS}/seeds.csv"
GROUND_TRUTH = f"{DETAILS}/truth.csv"
INTERVALS = f"{DETAILS}/intervals.json"
UNIMODAL = f"{DETAILS}/unimodal.csv"
TRIVIAL_BASELINES = f"{DETAILS}/trivial_baselines.json"
ABLATIONS = f"{DETAILS}/ablations"
MISSING_MODALITIES = f"{DETAILS}/missing_modalities"
MISSING_BY_VARIANT = f"{DETAILS}/missing_by_variant"
EDGES = f"{DETAILS}/edges.json"
DICTIONARY = f"{DETAILS}/dictionary.json"

SPLITS = ("test", "valid")
# Version of the scoring protocol: the definitions of the metrics, selection on validation, and one
# use of the test split after training. Increase it when one of them changes.
PROTOCOL = "1"

SeedScores = Mapping[int, Mapping[str, float]]


@dataclass(frozen=True)
class Identity:
    """Content of `identity.json`. Two results are comparable only if their identities are equal.

    Attributes:
        corpus: hash of the aligned dataset (config, fold, ids, splits, labels, hashes of the source
            files).
        fold: name of the fold.
        protocol: version of the scoring protocol.
    """

    dataset: str
    task: str
    corpus: str
    fold: str
    protocol: str = PROTOCOL


@dataclass(frozen=True)
class Predictions:
    """Content of `predictions.csv`: test ids [N], labels [N], seeds [E], predictions [E, N]."""

    ids: tuple[str, ...]
    labels: Floats
    seeds: tuple[int, ...]
    values: Floats

    def labels_by_id(self) -> dict[str, float]:
        """Return the label of each id."""
        return dict(zip(self.ids, self.labels.tolist(), strict=True))

    def by_seed(self, ids: Sequence[str]) -> dict[int, Floats]:
        """Return the predictions [N] of each seed, in the order of `ids`."""
        row_of = {id_: row for row, id_ in enumerate(self.ids)}
        rows = [row_of[id_] for id_ in ids]
        return {seed: p_N[rows] for seed, p_N in zip(self.seeds, self.values, strict=True)}


def read_text(path: Path) -> str:
    """Read a UTF-8 text file that a stage wrote."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DhmdError(f"cannot read {path}: {first_line(error)}; run dvc repro") from error


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file that contains an object."""
    value = parse_json(read_text(path), str(path))
    if not isinstance(value, dict):
        raise DhmdError(f"{path} is not a JSON object; run dvc repro")
    return value


def read_rows(path: Path, columns: Sequence[str] = ()) -> list[dict[str, str]]:
    """Read the rows of a CSV file as dicts; the file must have at least `columns`."""
    return list(parse_csv(read_text(path), str(path), columns).values())


def read_identity(folder: Path) -> Identity:
    """Read `identity.json` of a metrics directory."""
    return parse_identity(read_text(folder / IDENTITY), str(folder / IDENTITY))


def read_predictions(folder: Path) -> Predictions:
    """Read `predictions.csv` of a metrics directory."""
    return parse_predictions(read_text(folder / PREDICTIONS), str(folder / PREDICTIONS))


@contextmanager
def expect_current_files(folder: Path) -> Iterator[None]:
    """Convert errors caused by unexpected file content to a `DhmdError` that names `folder`."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DhmdError(
            f"{folder} has a file that this version of dhmd cannot read "
            f"({type(error).__name__}: {first_line(error)}); run dvc repro"
        ) from error


def decimal_round_trip(values: NDArray[np.floating[Any]]) -> Floats:
    """Convert to float64 through decimal text, so that a CSV file restores the same numbers."""
    return values.astype(np.str_).astype(np.float64)


def json_text(value: object) -> str:
    """Return indented JSON that restores floats exactly.

    Raises:
        ValueError: `value` contains NaN or an infinity.
    """
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def parse_json(text: str, source: str) -> object:
    """Parse JSON; reject NaN and infinities. `source` names the file in messages."""

    def reject(constant: str) -> object:
        raise DhmdError(f"{source} contains {constant}, which is not valid JSON; run dvc repro")

    try:
        return json.loads(text, parse_constant=reject)
    except (ValueError, RecursionError) as error:
        raise DhmdError(
            f"{source} is not readable as JSON ({first_line(error)}); run dvc repro"
        ) from error


def parse_identity(text: str, source: str) -> Identity:
    """Parse `identity.json`."""
    mapping = parse_json(text, source)
    names = [field.name for field in fields(Identity)]
    if not isinstance(mapping, dict) or sorted(mapping) != sorted(names):
        raise DhmdError(f"{source} must have exactly the keys {', '.join(names)}; run dvc repro")
    for name, value in mapping.items():
        if not isinstance(value, str) or not value:
            raise DhmdError(f"{source}: {name} is {value!r}, but must be a non-empty string")
    if mapping["task"] not in METRICS:
        raise DhmdError(
            f"{source}: task is {mapping['task']!r}, but must be {' or '.join(METRICS)}"
        )
    return Identity(**mapping)


def parse_predictions(text: str, source: str) -> Predictions:
    """Parse `predictions.csv`."""
    rows = list(parse_csv(text, source, ("id", "label")).values())
    if not rows:
        raise DhmdError(f"{source} has no rows")
    _, *columns = rows[0]
    seeds = [name.removeprefix("seed_") for name in columns[1:]]
    if columns != ["label", *(f"seed_{seed}" for seed in seeds)] or not all(
        map(str.isdecimal, seeds or [""])
    ):
        raise DhmdError(f"{source}: the header must be id,label,seed_1,…, not {','.join(rows[0])}")
    values = {
        row["id"]: [finite_number(row[name], f"{source}: {row['id']}, {name}") for name in columns]
        for row in rows
    }
    if len(values) < len(rows):
        raise DhmdError(f"{source}: an id has two rows")
    table = np.array(list(values.values()))
    return Predictions(tuple(values), table[:, 0], tuple(map(int, seeds)), table[:, 1:].T.copy())


def parse_seeds(text: str, source: str) -> dict[str, dict[int, dict[str, float]]]:
    """Parse `seeds.csv` to {split: {seed: {metric: value}}}; empty cells are omitted."""
    result: dict[str, dict[int, dict[str, float]]] = {split: {} for split in SPLITS}
    for row in parse_csv(text, source, ("seed", "split")).values():
        seed, split = row.pop("seed"), row.pop("split")
        if not seed.isdecimal() or split not in result:
            raise DhmdError(
                f"{source}: a row has the seed {seed!r} and the split {split!r}, but must have a "
                f"whole number and {' or '.join(SPLITS)}"
            )
        if int(seed) in result[split]:
            raise DhmdError(f"{source}: seed {seed} has two rows of the split {split}")
        result[split][int(seed)] = {
            name: finite_number(cell, f"{source}: {seed}, {split}, {name}")
            for name, cell in row.items()
            if cell
        }
    return result


def aggregate_seeds(scores: SeedScores, metrics: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return {metric: {mean, std}} over seeds, for the metrics that are defined for every seed."""
    return {
        metric: mean_and_std(np.array([values[metric] for values in scores.values()]))
        for metric in metrics
        if scores and all(metric in values for values in scores.values())
    }


def build_summary(
    task: str,
    scores: Mapping[str, SeedScores],
    predictions: Predictions,
    truth_N: Floats | None,
    class_names: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the content of `summary.json`: all metrics over seeds.

    Args:
        task: regression, classification or multilabel.
        scores: values by split, seed and metric.
        predictions: predictions of the test split.
        truth_N: labels before noise of a generated corpus; None for a real one.
        class_names: () for regression.

    Returns:
        {"test", "valid": {metric: {mean, std}}, "n_seeds", "undefined": names of the metrics that
        are undefined for a seed}; for generated corpora also "truth" (scores against the ground
        truth) and "oracle" (scores of the ground truth against the labels); with classes also
        "classes" ({class: {metric: {mean, std}}}, on the test split).
    """
    metrics = METRICS[task]
    result: dict[str, Any] = {split: aggregate_seeds(scores[split], metrics) for split in SPLITS}
    result["n_seeds"] = len(predictions.seeds)
    if truth_N is not None:
        against_truth = {
            seed: score(task, p_N, truth_N).values
            for seed, p_N in zip(predictions.seeds, predictions.values, strict=True)
        }
        result["truth"] = aggregate_seeds(against_truth, metrics)
    result["undefined"] = [
        f"{part}.{metric}"
        for part in (*SPLITS, "truth")
        for metric in metrics
        if part in result and metric not in result[part]
    ]
    if result["n_seeds"] == 1:
        result["undefined"].append("std")
    if class_names:
        by_seed = {
            seed: class_scores(task, p_N, predictions.labels, class_names)
            for seed, p_N in zip(predictions.seeds, predictions.values, strict=True)
        }
        result["classes"] = {
            name: aggregate_seeds({s: by_seed[s][name] for s in by_seed}, list(CLASS_METRICS))
            for name in class_names
        }
    if truth_N is not None:
        result["oracle"] = score(task, truth_N, predictions.labels).values
    return result


def headline_values(task: str, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of `metrics.json`, which `dvc metrics show` prints.

    Args:
        task: regression, classification or multilabel.
        summary: the content of `summary.json`.

    Returns:
        {"test": {metric: mean, primary metric + "_std": std}, "valid": {primary metric: mean},
        "n_seeds"}; undefined values are omitted.
    """
    primary = PRIMARY_METRIC[task]
    test: dict[str, float] = {}
    for metric in METRIC_TITLES[task]:
        values = summary["test"].get(metric, {})
        test |= {metric: values["mean"]} if values else {}
        if metric == primary and "std" in values:
            test[f"{metric}_std"] = values["std"]
    valid = {primary: summary["valid"][primary]["mean"]} if primary in summary["valid"] else {}
    return {"test": test, "valid": valid, "n_seeds": summary["n_seeds"]}
