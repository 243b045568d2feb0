"""The evaluation of one dataset: models' predictions and test labels to `metrics/<dataset>/`.

The only place where test labels are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.base.files import whole_folder
from dhmd.data.aligned import Corpus, read_corpus
from dhmd.evaluation.artefacts import (
    SPACES,
    Outputs,
    read_codes,
    read_dictionary_statistics,
    read_edges,
    read_outputs,
    read_unimodal,
)
from dhmd.evaluation.bootstrap import groups_of
from dhmd.evaluation.comparisons import compare, utterance_intervals
from dhmd.evaluation.config import EvaluateConfig
from dhmd.evaluation.dictionary import dictionary_summary
from dhmd.evaluation.edges import edge_summary
from dhmd.evaluation.files import (
    IDENTITY,
    METRICS_FILE,
    PREDICTIONS,
    SEEDS,
    SPLITS,
    TRUTH,
    Predictions,
    as_written,
    cells,
    csv_text,
    json_text,
    predictions_text,
    seeds_text,
    truth_text,
)
from dhmd.evaluation.floors import floors, train_constant
from dhmd.evaluation.identity import Identity
from dhmd.evaluation.metrics import METRICS, Floats, Scores, score
from dhmd.evaluation.summary import against_truth, metrics_summary

# Names of what a generated corpus plants, by utterance.
TRUTH_NAME = "truth"
LATENT_NAME = "latent"
RELIABILITY_PREFIX = "reliability_"

ScoresBySplit = dict[str, dict[int, Scores]]


def evaluate_job(
    settings: EvaluateConfig,
    cache: Path,
    pretrained: Path,
    models: Path,
    ablations: Path | None,
    output: Path,
) -> None:
    """Write `metrics/<dataset>/` whole (its files: see `dhmd.evaluation`).

    Args:
        cache: the aligned cache.
        pretrained, models: folders that `pretrain` and `train` wrote.
        ablations: the folder of variants' folders; None where nothing was ablated. Every file is
            written all the same, without rows: DVC wants every output of a stage.
        output: the folder to write; appears whole or not at all.

    Raises:
        DhmdError: a file missing or damaged, outputs of another corpus, a diverged seed.
    """
    outputs = read_outputs(models)
    corpus = read_corpus(cache, fold=outputs.fold, test_labels=True)
    files = _Files(settings, corpus, models)
    files.full(outputs)
    files.unimodal(read_unimodal(pretrained))
    files.floors()
    files.missing_modalities(outputs)
    files.edges(outputs)
    files.dictionary(outputs)
    files.ablations(outputs, {} if ablations is None else _variants(ablations))
    with whole_folder(output) as folder:
        for name, text in files.texts.items():
            (folder / name).write_text(text, encoding="utf-8", newline="")


def _variants(folder: Path) -> dict[str, Outputs]:
    if not folder.is_dir():
        raise DhmdError(f"{folder} does not exist; run the ablate stage")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    return {name: read_outputs(folder / name) for name in names}


class _Files:
    """Collects the folder's files by name; nothing is written before all of them exist."""

    def __init__(self, settings: EvaluateConfig, corpus: Corpus, models: Path) -> None:
        self.settings = settings
        self.corpus = corpus
        self.models = models
        self.task: str = corpus.task
        self.texts: dict[str, str] = {}
        self.index = {split: corpus.index(split) for split in SPLITS}
        test = self.index["test"]
        self.ids = tuple(corpus.ids[row] for row in test)
        self.labels = {
            split: as_written(corpus.labels_N[rows]) for split, rows in self.index.items()
        }
        self.groups = groups_of(self.ids)
        self.planted = {name: values[test] for name, values in corpus.planted.items()}

    def full(self, outputs: Outputs) -> None:
        """The full model: identity, predictions, seeds, metrics, intervals over utterances."""
        scores = self._scores(outputs)
        test = self._test(outputs)
        labels = self.labels["test"]
        identity = Identity(
            dataset=self.corpus.name,
            task=self.task,
            corpus=self.corpus.identity,
            fold=self.corpus.fold,
        )
        self.texts[IDENTITY] = json_text(identity.mapping())
        predictions = Predictions(self.ids, labels, outputs.seeds, np.array(list(test.values())))
        self.texts[PREDICTIONS] = predictions_text(predictions, self.task)
        self.texts[SEEDS] = seeds_text(scores, self.task)
        truth, ceiling = None, None
        # A real corpus has the file too, without rows: DVC wants every output of a stage.
        self.texts[TRUTH] = truth_text((), np.zeros(0))
        if TRUTH_NAME in self.planted:
            planted = self.planted[TRUTH_NAME].astype(np.float64)
            truth, ceiling = against_truth(self.task, test, labels, planted)
            self.texts[TRUTH] = truth_text(self.ids, planted)
        values = {split: _values(rows) for split, rows in scores.items()}
        self.texts[METRICS_FILE] = json_text(metrics_summary(self.task, values, truth, ceiling))
        intervals = utterance_intervals(
            self.task, test, labels, self.groups, self.settings.resamples
        )
        self.texts["intervals.json"] = json_text(intervals)

    def unimodal(self, encoders: Mapping[str, Outputs]) -> None:
        """The pretrained encoders, each alone.

        Scored on the same utterances as everything else: where the modality is absent, an encoder
        has nothing to go by, and the train split's median (most frequent class) is its answer.
        """
        answer = train_constant(self.corpus)
        filled = {}
        for modality, outputs in encoders.items():
            absent = ~self.corpus.present_NM[:, self.corpus.modalities.index(modality)]
            prediction = np.where(absent, answer, outputs.prediction)
            filled[modality] = replace(outputs, prediction=prediction)
        rows = [
            [modality, seed, split, *cells(scores, self.task)]
            for modality, outputs in filled.items()
            for split, by_seed in self._scores(outputs, modality).items()
            for seed, scores in by_seed.items()
        ]
        header = ["modality", "seed", "split", *METRICS[self.task]]
        self.texts["unimodal.csv"] = csv_text(header, rows)

    def floors(self) -> None:
        """What a model must beat to have learned anything."""
        self.texts["floors.json"] = json_text(floors(self.corpus, self.settings.ridge_alphas))

    def ablations(self, full: Outputs, variants: Mapping[str, Outputs]) -> None:
        """Every variant against the full model; rows of both splits, comparison on test."""
        scores = {name: self._scores(outputs) for name, outputs in variants.items()}
        rows = [
            [name, seed, split, *cells(found, self.task)]
            for name, splits in scores.items()
            for split, by_seed in splits.items()
            for seed, found in by_seed.items()
        ]
        header = ["variant", "seed", "split", *METRICS[self.task]]
        self.texts["ablations.csv"] = csv_text(header, rows)
        compared = self._compared(
            full,
            {name: self._test(outputs) for name, outputs in variants.items()},
            {name: found["test"] for name, found in scores.items()},
        )
        self.texts["ablations.json"] = json_text(compared)

    def missing_modalities(self, full: Outputs) -> None:
        """The full model with each modality, and each pair, withheld at test."""
        rows = self._rows(full, "test")
        test = {
            "+".join(names): full.by_seed(values, rows, f"withheld {'+'.join(names)}")
            for names, values in full.withheld.items()
        }
        scores = {
            name: {seed: score(self.task, p, self.labels["test"]) for seed, p in by_seed.items()}
            for name, by_seed in test.items()
        }
        table = [
            [name, seed, *cells(found, self.task)]
            for name, by_seed in scores.items()
            for seed, found in by_seed.items()
        ]
        header = ["withheld", "seed", *METRICS[self.task]]
        self.texts["missing_modalities.csv"] = csv_text(header, table)
        self.texts["missing_modalities.json"] = json_text(self._compared(full, test, scores))

    def edges(self, full: Outputs) -> None:
        """The GD-Units' edges on test, beside the planted reliabilities."""
        spaces = {}
        for space in SPACES:
            weights = read_edges(self.models, space)
            if weights is not None:
                spaces[space] = weights[:, self._rows(full, "test")]
        reliability = {
            name.removeprefix(RELIABILITY_PREFIX): values
            for name, values in self.planted.items()
            if name.startswith(RELIABILITY_PREFIX)
        }
        found = edge_summary(spaces, full.modalities, reliability, self._present(full))
        self.texts["edges.json"] = json_text(found)

    def dictionary(self, full: Outputs) -> None:
        """The dictionaries' codes on test, beside the planted latent."""
        codes = {}
        latent = self.planted.get(LATENT_NAME)
        if latent is not None:
            for space in SPACES:
                found = read_codes(self.models, space, self._rows(full, "test"))
                if found is not None:
                    codes[space] = found
        summary = dictionary_summary(
            read_dictionary_statistics(self.models),
            codes,
            self._present(full),
            None if latent is None else latent.astype(np.int64),
        )
        self.texts["dictionary.json"] = json_text(summary)

    def _scores(self, outputs: Outputs, what: str = "prediction") -> ScoresBySplit:
        found: ScoresBySplit = {}
        for split in SPLITS:
            by_seed = outputs.by_seed(outputs.prediction, self._rows(outputs, split), what)
            found[split] = {s: score(self.task, p, self.labels[split]) for s, p in by_seed.items()}
        return found

    def _test(self, outputs: Outputs) -> dict[int, Floats]:
        return outputs.by_seed(outputs.prediction, self._rows(outputs, "test"), "prediction")

    def _compared(
        self,
        full: Outputs,
        others: Mapping[str, Mapping[int, Floats]],
        scores: Mapping[str, Mapping[int, Scores]],
    ) -> dict[str, Any]:
        return compare(
            self.task,
            self._test(full),
            others,
            {name: _values(by_seed) for name, by_seed in scores.items()},
            _values(self._scores(full)["test"]),
            self.labels["test"],
            self.groups,
            self.settings.resamples,
        )

    def _rows(self, outputs: Outputs, split: str) -> Any:
        """The split's rows, once the outputs are known to be of this very corpus."""
        corpus = self.corpus
        if outputs.identity != corpus.identity or outputs.ids != corpus.ids:
            raise DhmdError(
                f"{outputs.path} was made from another version of the corpus {corpus.name} than "
                "the aligned cache; run the stage that writes it again"
            )
        if outputs.task != self.task:
            raise DhmdError(f"{outputs.path} is of a {outputs.task}, the corpus of a {self.task}")
        return self.index[split]

    def _present(self, outputs: Outputs) -> Any:
        """Which of the model's modalities each test utterance has [N, M]."""
        columns = [self.corpus.modalities.index(name) for name in outputs.modalities]
        return self.corpus.present_NM[self.index["test"]][:, columns]


def _values(by_seed: Mapping[int, Scores]) -> dict[int, dict[str, float]]:
    return {seed: scores.values for seed, scores in by_seed.items()}
