"""Read the results of one dataset from all files, and check that they belong together.

S seeds, N utterances of the corpus, T utterances of its test split, M modalities of the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from dhmd.base.errors import DhmdError
from dhmd.base.label_sets import class_membership, set_names
from dhmd.data.aligned import Corpus, read_corpus
from dhmd.evaluation import files
from dhmd.evaluation.explanations import CodeWords, corpus_code_words, modality_presence
from dhmd.evaluation.files import Identity, Predictions, read_json
from dhmd.evaluation.metrics import METRIC_TITLES, PRIMARY_METRIC
from dhmd.evaluation.model_outputs import ModelOutputs, arrays_in_group, read_outputs
from dhmd.evaluation.tables import model_scores, pluralize, read_table

Array = np.ndarray[Any, Any]

HISTORY: Final = "history.csv"
# The metric that is shown next to the primary one, per task.
SECONDARY_METRIC: Final[Mapping[str, str]] = {
    "regression": "corr",
    "classification": "accuracy",
    "multilabel": "weighted_accuracy",
}


@dataclass(frozen=True, eq=False, kw_only=True)
class ReportData:
    """The results of one dataset.

    Attributes:
        corpus: the corpus without its test labels, which are in `predictions`.
        outputs: outputs of the full model.
        summary, intervals, ablations, missing, edges, dictionary: content of the JSON files in
            metrics/ (see `dhmd.evaluation`).
        scores: test scores of all models, from `model_scores`.
        training, pretraining: learning curves: seed, epoch, name, value.
        folder: the directory metrics/<dataset>.
    """

    identity: Identity
    corpus: Corpus
    outputs: ModelOutputs
    predictions: Predictions
    summary: Mapping[str, Any]
    intervals: Mapping[str, Any]
    ablations: Mapping[str, Any]
    missing: Mapping[str, Any]
    edges: Mapping[str, Any]
    dictionary: Mapping[str, Any]
    scores: pd.DataFrame
    training: pd.DataFrame
    pretraining: pd.DataFrame
    folder: Path

    @property
    def name(self) -> str:
        """Name of the dataset."""
        return self.identity.dataset

    @property
    def task(self) -> str:
        return self.identity.task

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.predictions.seeds

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities of the model: all or some of those of the corpus."""
        return self.outputs.modalities

    @property
    def primary(self) -> str:
        """The metric by which models are compared."""
        return PRIMARY_METRIC[self.task]

    @property
    def metric_titles(self) -> Mapping[str, str]:
        """The titles of the metrics that are shown."""
        return METRIC_TITLES[self.task]

    @property
    def oracle(self) -> Mapping[str, float]:
        """Scores of the labels before noise; {} for real data."""
        oracle: Mapping[str, float] = self.summary.get("oracle", {})
        return oracle

    @cached_property
    def rows(self) -> Array:
        """Indices of the test utterances in the corpus, `[T]`."""
        return self.corpus.index("test")

    @property
    def labels(self) -> Array:
        """Labels, or class indices, of the test split, `[T]`."""
        return self.predictions.labels

    @cached_property
    def all_labels(self) -> Array:
        """Labels of all splits, `[N]`."""
        labels = self.corpus.labels_N.astype(np.float64)
        labels[self.rows] = self.labels
        return labels

    @cached_property
    def present(self) -> Array:
        """Whether an utterance has a modality of the model, `[N, M]`."""
        return modality_presence(self.outputs, self.corpus)

    @cached_property
    def code_words(self) -> CodeWords:
        """The words that activate the dictionary codes most."""
        return corpus_code_words(self.outputs, self.corpus)

    @property
    def probabilities(self) -> Array | None:
        """Probabilities of the classes, `[S, T, C]`; None for regression."""
        if self.task == "regression":
            return None
        return self.outputs.arrays["prediction"][:, self.rows].astype(np.float64)

    def arrays_by_space(self, kind: str) -> dict[str, Array]:
        """Return the edges `[S, N, M, M]`, codes `[N, M, K]` or embeddings `[N, M, D]` by space."""
        return arrays_in_group(self.outputs.arrays, kind)

    @property
    def class_range(self) -> range:
        """The whole numbers to which regression labels are rounded: within ±3, as in ACC7."""
        low, high = np.ceil(self.corpus.low), np.floor(self.corpus.high)
        return range(int(max(low, -3)), int(min(high, 3)) + 1)

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; for regression the whole numbers of `class_range`."""
        return self.corpus.class_names or tuple(map(str, self.class_range))

    def members(self, values: Array) -> Array:
        """Return whether labels or predictions `[…]` belong to each class, bool `[…, C]`.

        Those of a regression are rounded half to even.
        """
        if self.task == "regression":
            first, last = self.class_range[0], self.class_range[-1]
            values = np.round(np.clip(values, first, last)) - first
        return class_membership(self.task, values, len(self.classes))

    def names_of(self, values: Array) -> list[str]:
        """Return the class names of labels or predictions `[T]`."""
        return set_names(self.members(values), self.classes)

    def label_groups(self) -> dict[str, Array]:
        """Return masks `[T]` of test utterances by class, or by the sign of a regression label."""
        if self.task != "regression":
            return dict(zip(self.classes, self.members(self.labels).T, strict=True))
        labels = self.labels
        return {"negative": labels < 0, "neutral": labels == 0, "positive": labels > 0}

    def models(self, *kinds: str) -> Iterator[tuple[str, str, pd.DataFrame]]:
        """Iterate over the kind, title and scores of each model, in the order of the tables."""
        selected = self.scores[self.scores.kind.isin(kinds)]
        for (kind, title), scores in selected.groupby(["kind", "title"], sort=False):
            yield str(kind), str(title), scores

    def note(
        self, *, split: str = "test", count: int | None = None, num_seeds: int | None = -1
    ) -> str:
        """Return the note of a figure: dataset, split, numbers of utterances and seeds.

        Args:
            split: the split that the figure shows.
            count: number of utterances; None for those of the test split.
            num_seeds: -1 for all seeds, 1 for the first seed only, None if seeds do not matter.
        """
        count = len(self.rows) if count is None else count
        text = f"{self.name} · {split}, n = {count:,} utterances"
        if num_seeds is None:
            return text
        if num_seeds == 1 and len(self.seeds) > 1:
            return f"{text} · first of {len(self.seeds)} seeds"
        return f"{text} · {pluralize(len(self.seeds), 'seed')}"


def read_report_data(aligned: Path, pretrained: Path, models: Path, metrics: Path) -> ReportData:
    """Read all results of one dataset from the paths that `report_job` describes.

    Raises:
        DhmdError: a file is missing or damaged, or files belong to different runs.
    """
    with files.expect_current_files(metrics):
        identity = files.read_identity(metrics)
        corpus = read_corpus(aligned, fold=identity.fold)
        predictions = files.read_predictions(metrics)
        test = tuple(corpus.ids[row] for row in corpus.index("test"))
        if corpus.identity != identity.corpus or predictions.ids != test:
            raise DhmdError(
                f"{metrics} was computed from another version of the corpus than {aligned}; run "
                "the evaluate stage again"
            )
        outputs = read_outputs(models, interpretability=True)
        if outputs.identity != corpus.identity:
            raise DhmdError(
                f"{outputs.path} was computed from another version of the corpus than {aligned}; "
                "run the train stage again"
            )
        if outputs.seeds != predictions.seeds:
            raise DhmdError(
                f"{outputs.path} has other seeds than {metrics}; run the evaluate stage again"
            )
        summary = read_json(metrics / files.SUMMARY)
        return ReportData(
            identity=identity,
            corpus=corpus,
            outputs=outputs,
            predictions=predictions,
            summary=summary,
            intervals=read_json(metrics / files.INTERVALS),
            ablations=read_json(metrics / f"{files.ABLATIONS}.json"),
            missing=read_json(metrics / f"{files.MISSING_MODALITIES}.json"),
            edges=read_json(metrics / files.EDGES),
            dictionary=read_json(metrics / files.DICTIONARY),
            scores=model_scores(metrics),
            training=read_table(models / HISTORY),
            pretraining=read_table(pretrained / HISTORY),
            folder=metrics,
        )
