"""The data of one report, read from all files and checked for consistency.

S seeds, N utterances of the corpus, T utterances of its test split, M modalities of the model,
C classes, K dictionary codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.hdf5 import READ_ERRORS
from dhmd.base.label_sets import decode_sets, set_names
from dhmd.data.aligned import Corpus, read_corpus
from dhmd.evaluation import files
from dhmd.evaluation.files import Identity, Predictions, SeedScores, read_object
from dhmd.evaluation.metrics import COLUMNS, PRIMARY
from dhmd.evaluation.model_outputs import OUTPUTS, SPACES, ModelOutputs, read_outputs
from dhmd.evaluation.tables import constant_title, trivial_title

Array = np.ndarray[Any, Any]
# Scores of the test split: model name -> seed -> metric -> value.
Scores = Mapping[str, SeedScores]
# name -> seed -> (epochs, values).
Curves = Mapping[str, Mapping[str, tuple[list[int], list[float]]]]

HISTORY: Final = "history.csv"
# The metric that is shown beside the primary one.
SECONDARY: Final[Mapping[str, str]] = {
    "regression": "corr",
    "classification": "accuracy",
    "multilabel": "weighted_accuracy",
}


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
        probabilities: `[S, T, C]` of classes; None for regression.
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
    test_scores: SeedScores
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
        if self.task != "regression":
            return self.corpus.class_names
        return tuple(map(str, self.class_range))

    def members(self, values: Array) -> Array:
        """Return the classes of labels or predictions `[…]`, bool `[…, C]`."""
        if self.task == "multilabel":
            return decode_sets(values)
        return np.asarray(self.class_of(values)[..., None] == np.arange(len(self.classes)))

    @cached_property
    def probability_error(self) -> Array:
        """`[T]` 1 minus the label's mean probability over seeds, and over classes if several."""
        assert self.probabilities is not None
        truth = self.members(self.labels)
        mean = self.probabilities.mean(0)
        if self.task == "multilabel":
            return np.asarray(np.abs(truth - mean).mean(1))
        return np.asarray(1.0 - mean[truth])

    def name_of(self, value: float) -> str:
        """Return the name of a label or prediction of classes."""
        if self.task == "multilabel":
            return set_names(decode_sets(np.array([value])), self.classes)[0]
        return self.classes[int(value)]

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


def read_report_data(aligned: Path, pretrained: Path, models: Path, metrics: Path) -> ReportData:
    """Read everything that the report of one dataset needs.

    Args:
        aligned: the aligned features file.
        pretrained, models, metrics: folders that `pretrain`, `train` and `evaluate` wrote.

    Raises:
        DhmdError: a file is missing or damaged, or the files are not of the same corpus.
    """
    with files.expect_current_files(metrics):
        return _read(aligned, pretrained, models, metrics)


def _read(aligned: Path, pretrained: Path, models: Path, metrics: Path) -> ReportData:
    identity = files.read_identity(metrics)
    corpus = read_corpus(aligned, fold=identity.fold)
    if corpus.identity != identity.corpus:
        raise DhmdError(
            f"{metrics} was computed on another version of the corpus than {aligned}; run the "
            "evaluate stage again"
        )
    rows = corpus.index("test")
    predictions = files.read_predictions(metrics)
    if predictions.ids != tuple(corpus.ids[row] for row in rows):
        raise DhmdError(f"{metrics} has other test utterances than {aligned}; run evaluate again")
    outputs = read_outputs(models, interpretability=True)
    if outputs.identity != corpus.identity:
        raise DhmdError(
            f"{outputs.path} was made from another version of the corpus; run the train stage again"
        )
    if outputs.seeds != predictions.seeds:
        raise DhmdError(
            f"{outputs.path} has other seeds than {metrics}; run the evaluate stage again"
        )
    truth = np.array([float(row["truth"]) for row in files.read_rows(metrics / files.GROUND_TRUTH)])
    summary = read_object(metrics / files.SUMMARY)
    probabilities, spaces = _probabilities_and_spaces(models / OUTPUTS, outputs)
    return ReportData(
        identity=identity,
        corpus=corpus,
        seeds=predictions.seeds,
        modalities=outputs.modalities,
        rows=rows,
        predictions=predictions,
        truth=truth if len(truth) else None,
        probabilities=None if probabilities is None else probabilities[:, rows],
        spaces=spaces,
        summary=summary,
        oracle=summary.get("oracle", {}),
        intervals=read_object(metrics / files.INTERVALS),
        trivial=read_object(metrics / files.TRIVIAL_BASELINES),
        ablations=read_object(metrics / f"{files.ABLATIONS}.json"),
        missing=read_object(metrics / f"{files.MISSING_MODALITIES}.json"),
        edges=read_object(metrics / files.EDGES),
        dictionary=read_object(metrics / files.DICTIONARY),
        test_scores=_test_scores(metrics / files.SEEDS).get("", {}),
        unimodal_scores=_test_scores(metrics / files.UNIMODAL),
        ablation_scores=_test_scores(metrics / f"{files.ABLATIONS}.csv"),
        missing_scores=_test_scores(metrics / f"{files.MISSING_MODALITIES}.csv"),
        training=curves(files.read_rows(models / HISTORY)),
        pretraining=curves(files.read_rows(pretrained / HISTORY)),
        folder=metrics,
    )


def _probabilities_and_spaces(
    path: Path, outputs: ModelOutputs
) -> tuple[Array | None, tuple[Space, ...]]:
    """Read class probabilities `[S, N, C]` and embeddings, which the evaluation does not need."""
    try:
        with h5py.File(path, "r") as file:
            classes = outputs.task != "regression"
            probabilities = file["prediction"][()].astype(np.float64) if classes else None
            group = file.get("embedding", {})
            embeddings = {name: group[name][()] for name in SPACES if name in group}
    except READ_ERRORS as error:
        raise DhmdError(f"{path} is not readable ({first_line(error)}); run train again") from error
    kinds = (outputs.edges, outputs.codes, embeddings)
    return probabilities, tuple(
        Space(name, *(kind.get(name) for kind in kinds))
        for name in SPACES
        if any(name in kind for kind in kinds)
    )


def _test_scores(path: Path) -> dict[str, dict[int, dict[str, float]]]:
    """Read the test rows of a file of scores: name (the first column), seed, split, metrics.

    seeds.csv has no column of names: its rows are under the name "".
    """
    scores: dict[str, dict[int, dict[str, float]]] = {}
    for row in files.read_rows(path):
        if row.pop("split", "test") != "test":
            continue
        named = next(iter(row)) != "seed"
        name, seed = row.pop(next(iter(row))) if named else "", int(row.pop("seed"))
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
