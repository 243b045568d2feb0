"""What one report shows: read once, and checked to belong together.

S seeds, N utterances of the corpus, T utterances of its test split, M modalities of the model,
C classes, K dictionary codes.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from dhmd.base.artefacts import checked_artefact
from dhmd.base.errors import DhmdError, first_line
from dhmd.base.hdf5 import READ_ERRORS, refuse_all_traps
from dhmd.data.aligned import Corpus, read_corpus
from dhmd.evaluation.artefacts import OUTPUTS, SPACES
from dhmd.evaluation.files import (
    IDENTITY,
    METRICS_FILE,
    PREDICTIONS,
    SEEDS,
    TRUTH,
    Predictions,
    parse_predictions,
    parse_truth,
    read_object,
    read_text,
    written_by_evaluate,
)
from dhmd.evaluation.identity import Identity, identity_from
from dhmd.evaluation.metrics import PRIMARY
from dhmd.evaluation.tables import COLUMNS, constant_title
from dhmd.evaluation.tables import floor_title as trivial_title

Array = np.ndarray[Any, Any]
# Scores of the test split: model name -> seed -> metric -> value.
Scores = Mapping[str, Mapping[int, Mapping[str, float]]]
# name -> seed -> (epochs, values).
Curves = Mapping[str, Mapping[str, tuple[list[int], list[float]]]]

HISTORY: Final = "history.csv"
# The metric that is shown beside the primary one.
SECONDARY: Final[Mapping[str, str]] = {"regression": "corr", "classification": "accuracy"}


@dataclass(frozen=True, eq=False)
class Space:
    """What the model computed in one of its two spaces; None where it has no such component.

    Attributes:
        edges: `[S, N, M, M]`, source before target, NaN where the target is absent.
        codes: `[N, M, K]` dictionary activations of the first seed.
        embedding: `[N, M, D]` pooled features of the first seed.
    """

    name: str
    edges: Array | None
    codes: Array | None
    embedding: Array | None


@dataclass(frozen=True, eq=False)
class ReportData:
    """The results of one dataset.

    Attributes:
        corpus: read without its test labels, which come from `predictions`.
        modalities: of the model, which may use fewer than the corpus has.
        rows: `[T]` rows of the test utterances in the corpus.
        truth: `[T]` labels before noise; None for real data.
        probabilities: `[S, T, C]` of a classification; None for regression.
        summary, intervals, trivial, ablations, missing, edges, dictionary: parsed JSON files.
        oracle: scores of the labels before noise by metric; {} for real data.
        test_scores, unimodal_scores, ablation_scores, missing_scores: the CSV files of scores.
        training, pretraining: learning curves.
        folder: the metrics folder of the dataset.
    """

    identity: Identity
    corpus: Corpus
    seeds: tuple[int, ...]
    modalities: tuple[str, ...]
    rows: Array
    predictions: Predictions
    truth: Array | None
    probabilities: Array | None
    spaces: tuple[Space, ...]
    summary: Mapping[str, Any]
    oracle: Mapping[str, float]
    intervals: Mapping[str, Any]
    trivial: Mapping[str, Any]
    ablations: Mapping[str, Any]
    missing: Mapping[str, Any]
    edges: Mapping[str, Any]
    dictionary: Mapping[str, Any]
    test_scores: Mapping[int, Mapping[str, float]]
    unimodal_scores: Scores
    ablation_scores: Scores
    missing_scores: Scores
    training: Curves
    pretraining: Curves
    folder: Path

    @property
    def name(self) -> str:
        return self.identity.dataset

    @property
    def task(self) -> str:
        return self.identity.task

    @property
    def primary(self) -> str:
        """The metric by which models are compared."""
        return PRIMARY[self.task]

    @property
    def columns(self) -> Mapping[str, str]:
        """The metrics that are shown, and their titles."""
        return COLUMNS[self.task]

    @property
    def constant(self) -> str:
        """The title of the baseline that always predicts the same."""
        return constant_title(self.task)

    @property
    def trivial_scores(self) -> dict[str, Mapping[str, float]]:
        """Test scores of the trivial baselines by title."""
        return {
            trivial_title(self.task, name, entry): entry["test"]
            for name, entry in self.trivial.items()
        }

    @property
    def labels(self) -> Array:
        """`[T]` labels, or class indices, of the test split."""
        return self.predictions.labels

    @cached_property
    def present(self) -> Array:
        """`[N, M]` whether an utterance has each of the model's modalities."""
        columns = [self.corpus.modalities.index(name) for name in self.modalities]
        present: Array = self.corpus.present_NM[:, columns]
        return present

    @cached_property
    def all_labels(self) -> Array:
        """`[N]` labels of every split."""
        labels = self.corpus.labels_N.astype(np.float64)
        labels[self.rows] = self.labels
        return labels

    @property
    def class_range(self) -> range:
        """Of regression: the whole numbers that labels are rounded to, within ±3 as in ACC7."""
        low, high = np.ceil(self.corpus.low), np.floor(self.corpus.high)
        return range(int(max(low, -3)), int(min(high, 3)) + 1)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; of regression the whole numbers that labels are rounded to."""
        if self.task == "classification":
            return self.corpus.class_names
        return tuple(map(str, self.class_range))

    def class_of(self, values: Array) -> Array:
        """Return class indices of labels or predictions; regression rounds half to even."""
        if self.task == "classification":
            return values.astype(np.int64)
        first, last = self.class_range[0], self.class_range[-1]
        indices: Array = np.round(np.clip(values, first, last)).astype(np.int64) - first
        return indices

    def reliability(self, modality: str) -> Array | None:
        """`[N]` the reliability that generated data give a modality; None for real data."""
        return self.corpus.planted.get(f"reliability_{modality}")

    def note(self, *, split: str = "test", count: int | None = None, seeds: int | None = -1) -> str:
        """Name the dataset, the split and the numbers of utterances and seeds behind a figure.

        Args:
            split: the split that is shown.
            count: its utterances; by default those of the test split.
            seeds: None where seeds have no meaning, 1 where the figure shows the first one alone.
        """
        count = len(self.rows) if count is None else count
        text = f"{self.name} · {split}, n = {count:,} utterances"
        if seeds is None:
            return text
        if seeds == 1 and len(self.seeds) > 1:
            return f"{text} · seed {self.seeds[0]} of {len(self.seeds)} seeds"
        return f"{text} · {counted(len(self.seeds), 'seed')}"


def counted(count: int, noun: str) -> str:
    """Return `1 seed`, `5 seeds`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def details(metrics: Path, name: str) -> Path:
    """Return the path of a file that `evaluate` writes beside metrics.json."""
    return metrics / name


def read_report_data(aligned: Path, pretrained: Path, models: Path, metrics: Path) -> ReportData:
    """Read everything that the report of one dataset needs.

    Args:
        aligned: the aligned features file.
        pretrained, models, metrics: folders that `pretrain`, `train` and `evaluate` wrote.

    Raises:
        DhmdError: a file is missing or damaged, or the files are not of the same corpus.
    """
    with written_by_evaluate(metrics):
        return _read(aligned, pretrained, models, metrics)


def _read(aligned: Path, pretrained: Path, models: Path, metrics: Path) -> ReportData:
    source = details(metrics, IDENTITY)
    identity = identity_from(read_object(source), str(source))
    corpus = read_corpus(aligned, fold=identity.fold)
    if corpus.identity != identity.corpus:
        raise DhmdError(
            f"{metrics} was computed on another version of the corpus than {aligned}; run the "
            "evaluate stage again"
        )
    rows = corpus.index("test")
    source = details(metrics, PREDICTIONS)
    predictions = parse_predictions(read_text(source), str(source))
    if predictions.ids != tuple(corpus.ids[row] for row in rows):
        raise DhmdError(f"{source} has other test utterances than {aligned}; run evaluate again")
    source = details(metrics, TRUTH)
    truth_ids, truth = parse_truth(read_text(source), str(source))
    summary = read_object(metrics / METRICS_FILE)
    return ReportData(
        identity=identity,
        corpus=corpus,
        seeds=predictions.seeds,
        rows=rows,
        predictions=predictions,
        truth=truth if truth_ids else None,
        **_model_outputs(models, corpus, predictions.seeds, rows, metrics),
        summary=summary,
        oracle=summary.get("ceiling", {}),
        intervals=read_object(details(metrics, "intervals.json")),
        trivial=read_object(details(metrics, "floors.json")),
        ablations=read_object(details(metrics, "ablations.json")),
        missing=read_object(details(metrics, "missing_modalities.json")),
        edges=read_object(details(metrics, "edges.json")),
        dictionary=read_object(details(metrics, "dictionary.json")),
        test_scores=_test_scores(details(metrics, SEEDS)).get("", {}),
        unimodal_scores=_test_scores(details(metrics, "unimodal.csv")),
        ablation_scores=_test_scores(details(metrics, "ablations.csv")),
        missing_scores=_test_scores(details(metrics, "missing_modalities.csv")),
        training=curves(_csv_rows(checked_artefact(models, HISTORY))),
        pretraining=curves(_csv_rows(checked_artefact(pretrained, HISTORY))),
        folder=metrics,
    )


def _model_outputs(
    models: Path, corpus: Corpus, seeds: tuple[int, ...], rows: Array, metrics: Path
) -> dict[str, Any]:
    path = checked_artefact(models, OUTPUTS)
    try:
        with h5py.File(path, "r") as file:
            refuse_all_traps(file, str(path))
            if str(file.attrs["identity"]) != corpus.identity:
                raise DhmdError(
                    f"{path} was made from another version of the corpus; run the train stage again"
                )
            if tuple(file.attrs["seeds"].tolist()) != seeds:
                raise DhmdError(
                    f"{path} has other seeds than {metrics}; run the evaluate stage again"
                )
            probabilities = None
            if corpus.task == "classification":
                probabilities = file["prediction"][()][:, rows].astype(np.float64)
            spaces = []
            for name in SPACES:
                found = {
                    kind: file[f"{kind}/{name}"][()] if f"{kind}/{name}" in file else None
                    for kind in ("edges", "codes", "embedding")
                }
                if any(values is not None for values in found.values()):
                    spaces.append(Space(name, **found))
            return {
                "modalities": tuple(json.loads(file.attrs["modalities"])),
                "probabilities": probabilities,
                "spaces": tuple(spaces),
            }
    except READ_ERRORS as error:
        raise DhmdError(
            f"{path} is not readable as a model's outputs: {first_line(error)}"
        ) from error


def _csv_rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(read_text(path).splitlines()))


def _test_scores(path: Path) -> dict[str, dict[int, dict[str, float]]]:
    """Read the test rows of a file of scores: name (the first column), seed, split, metrics.

    seeds.csv has no column of names: its rows are under the name "".
    """
    scores: dict[str, dict[int, dict[str, float]]] = {}
    for row in _csv_rows(path):
        if row.pop("split", "test") != "test":
            continue
        seed = int(row.pop("seed"))
        named = path.name != SEEDS
        name = row.pop(next(iter(row))) if named else ""
        values = {metric: float(value) for metric, value in row.items() if value}
        scores.setdefault(name, {})[seed] = values
    return scores


def curves(history: Sequence[Mapping[str, str]]) -> dict[str, dict[str, Any]]:
    """Sort the rows of a history by name and seed, in the order of the file."""
    found: dict[str, dict[str, Any]] = {}
    for row in history:
        epochs, values = found.setdefault(row["name"], {}).setdefault(row["seed"], ([], []))
        epochs.append(int(row["epoch"]))
        values.append(float(row["value"]))
    return found
