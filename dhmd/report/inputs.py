"""All that a report shows of one dataset, read once and checked to belong together.

S seeds, N utterances of the corpus, T of its test split, M modalities of the model, C classes.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from dhmd.base.artefacts import checked_artefact
from dhmd.base.errors import DhmdError, first_line
from dhmd.base.hdf5 import READ_ERRORS, check_group
from dhmd.data.aligned import Corpus, read_corpus
from dhmd.evaluation.files import (
    DETAILS,
    GROUND_TRUTH,
    PREDICTIONS,
    SEEDS,
    Identity,
    Predictions,
    parse_ground_truth,
    parse_seeds,
    read_identity,
    read_object,
    read_predictions,
    read_text,
)
from dhmd.evaluation.metrics import PRIMARY
from dhmd.evaluation.model_outputs import OUTPUTS, SPACES

Array = np.ndarray[Any, Any]
Row = Mapping[str, str]

HISTORY = "history.csv"


@dataclass(frozen=True, eq=False)
class Space:
    """What the model holds in one of its two spaces; None where it has no such part.

    Attributes:
        edges: `[S, N, M, M]`, source before target, NaN where the target is absent.
        codes: `[N, M, K]` activations of the first seed.
        embedding: `[N, M, D]` pooled features of the first seed.
    """

    name: str
    edges: Array | None
    codes: Array | None
    embedding: Array | None


@dataclass(frozen=True, eq=False)
class Inputs:
    """A dataset's results.

    Attributes:
        corpus: read without the test labels: these come from `predictions`, as evaluated.
        rows: `[T]` the test utterances' rows in the corpus.
        truth: `[T]` planted labels without noise; None for real corpora.
        probabilities: `[S, T, C]` of a classification; None for regression.
        modalities: of the model, which may use fewer than the corpus has.
        tables: parsed JSON files of metrics/<dataset>/details/ by stem.
        lists: its CSV files' rows by stem.
        history, pretraining: rows seed, epoch, name, value.
        metrics: the folder metrics/<dataset>.
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
    tables: Mapping[str, Any]
    lists: Mapping[str, Sequence[Row]]
    test_seeds: Mapping[int, Mapping[str, float]]
    history: Sequence[Row]
    pretraining: Sequence[Row]
    metrics: Path

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
    def labels(self) -> Array:
        """`[T]` test labels, or class indices."""
        return self.predictions.labels

    @cached_property
    def present(self) -> Array:
        """`[N, M]` which of the model's modalities an utterance has."""
        columns = [self.corpus.modalities.index(name) for name in self.modalities]
        present: Array = self.corpus.present_NM[:, columns]
        return present

    @cached_property
    def labels_of_all(self) -> Array:
        """`[N]` labels of every split."""
        values = self.corpus.labels_N.astype(np.float64)
        values[self.rows] = self.labels
        return values

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Names of the label's classes: the task's own, or the whole numbers in its range."""
        if self.task == "classification":
            return self.corpus.class_names
        return tuple(str(value) for value in range(*self.class_range))

    @property
    def class_range(self) -> tuple[int, int]:
        """Of regression: the first class and the one after the last, within ±3 as in ACC7."""
        low, high = np.ceil(self.corpus.low), np.floor(self.corpus.high)
        return int(max(low, -3)), int(min(high, 3)) + 1

    def class_of(self, values: Array) -> Array:
        """Class numbers from 0 of labels or predictions: regression rounds, half to even."""
        if self.task == "classification":
            return values.astype(np.int64)
        first, end = self.class_range
        classes: Array = np.round(np.clip(values, first, end - 1)).astype(np.int64) - first
        return classes

    def note(self, *, split: str = "test", count: int | None = None, seeds: int | None = -1) -> str:
        """A picture's label: dataset, split, how many utterances and seeds.

        `seeds`: None where seeds mean nothing; 1 where the picture shows the first alone.
        """
        n = len(self.rows) if count is None else count
        text = f"{self.name} · {split}, n = {n:,} utterances"
        if seeds is None:
            return text
        if seeds == 1 and len(self.seeds) > 1:
            return f"{text} · seed {self.seeds[0]} of {len(self.seeds)} seeds"
        return f"{text} · {counted(len(self.seeds), 'seed')}"


def counted(count: int, noun: str) -> str:
    """`1 seed`, `5 seeds`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def read_inputs(cache: Path, pretrained: Path, models: Path, metrics: Path) -> Inputs:
    """Everything that the report of one dataset needs.

    Raises:
        DhmdError: a file is missing or damaged, or they are not of one and the same corpus.
    """
    identity = read_identity(metrics)
    corpus = read_corpus(cache, fold=identity.fold)
    if corpus.identity != identity.corpus:
        raise DhmdError(
            f"{metrics} was evaluated on another version of the corpus than {cache}; run the "
            "evaluate stage again"
        )
    rows = corpus.index("test")
    source = metrics / PREDICTIONS
    predictions = read_predictions(metrics)
    if predictions.ids != tuple(corpus.ids[row] for row in rows):
        raise DhmdError(f"{source} names other test utterances than {cache}; run evaluate again")
    truth_file = metrics / GROUND_TRUTH
    truth_ids, truth = parse_ground_truth(read_text(truth_file), str(truth_file))
    seeds_file = metrics / SEEDS
    with _opened(checked_artefact(models, OUTPUTS)) as file:
        if str(file.attrs["identity"]) != corpus.identity:
            raise DhmdError(
                f"{models / OUTPUTS} was made from another version of the corpus; run the train "
                "stage again"
            )
        if tuple(file.attrs["seeds"].tolist()) != predictions.seeds:
            raise DhmdError(
                f"{models / OUTPUTS} holds other seeds than {source}; run the evaluate stage again"
            )
        probabilities = None
        if identity.task == "classification":
            probabilities = file["prediction"][()][:, rows].astype(np.float64)
        modalities = tuple(json.loads(file.attrs["modalities"]))
        spaces = tuple(space for name in SPACES if (space := _space(file, name)) is not None)
    return Inputs(
        identity=identity,
        corpus=corpus,
        seeds=predictions.seeds,
        modalities=modalities,
        rows=rows,
        predictions=predictions,
        truth=truth if truth_ids else None,
        probabilities=probabilities,
        spaces=spaces,
        tables={
            stem: read_object(metrics / DETAILS / f"{stem}.json")
            for stem in (
                "summary",
                "intervals",
                "trivial_baselines",
                "ablations",
                "missing_modalities",
                "edges",
                "dictionary",
            )
        },
        lists={
            stem: _rows(metrics / DETAILS / f"{stem}.csv")
            for stem in ("unimodal", "ablations", "missing_modalities")
        },
        test_seeds=parse_seeds(read_text(seeds_file), str(seeds_file))["test"],
        history=_rows(checked_artefact(models, HISTORY)),
        pretraining=_rows(checked_artefact(pretrained, HISTORY)),
        metrics=metrics,
    )


def _space(file: Any, name: str) -> Space | None:
    found = {
        kind: file[f"{kind}/{name}"][()] if f"{kind}/{name}" in file else None
        for kind in ("edges", "codes", "embedding")
    }
    return None if all(value is None for value in found.values()) else Space(name, **found)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An HDF5 file whose damage is said in one sentence."""
    try:
        with h5py.File(path, "r") as file:
            check_group(file, str(path))
            yield file
    except READ_ERRORS as error:
        raise DhmdError(
            f"{path} is not readable as a model's outputs: {first_line(error)}"
        ) from error


def _rows(path: Path) -> list[Row]:
    return list(csv.DictReader(read_text(path).splitlines()))
