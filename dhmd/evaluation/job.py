"""Evaluate one dataset: write `metrics/<dataset>/` from the models' predictions and test labels.

No other stage reads test labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dhmd.base.errors import DhmdError
from dhmd.base.files import atomic_folder
from dhmd.data.aligned import Corpus, read_corpus
from dhmd.evaluation import files
from dhmd.evaluation.config import EvaluateConfig
from dhmd.evaluation.explanations import modality_presence
from dhmd.evaluation.files import SPLITS, Identity, Predictions, json_text
from dhmd.evaluation.interpretability import dictionary_summary, edge_summary
from dhmd.evaluation.metrics import METRICS, PRIMARY_METRIC, Floats, Scores, score
from dhmd.evaluation.model_outputs import (
    NOISE_PREFIX,
    ModelOutputs,
    read_outputs,
    read_unimodal,
)
from dhmd.evaluation.statistics import Bootstrap, compare_with_full, utterance_intervals
from dhmd.evaluation.trivial_baselines import train_constant, trivial_baselines

# Names of the planted factors of a generated corpus.
GROUND_TRUTH = "truth"
LATENT = "latent"
RELIABILITY_PREFIX = "reliability_"

Row = tuple[tuple[str | int, ...], Scores]  # the key cells of a CSV row, and its scores


def evaluate_job(
    settings: EvaluateConfig,
    aligned: Path,
    pretrained: Path,
    models: Path,
    ablations: Path | None,
    output: Path,
) -> None:
    """Write `metrics/<dataset>/`; `dhmd.evaluation` lists its files.

    The directory appears complete or not at all. All files are always written; without variants,
    the files about variants have no rows.

    Args:
        settings: section `evaluate` of params.yaml.
        aligned: the aligned features file.
        pretrained: the directory that `pretrain` wrote.
        models: the directory that `train` wrote.
        ablations: the directory with one subdirectory per variant; None if there are no variants.
        output: the directory to write.

    Raises:
        DhmdError: a file is missing or damaged, outputs belong to another corpus, or a seed
            diverged.
    """
    full = read_outputs(models, interpretability=True)
    corpus = read_corpus(aligned, fold=full.fold, test_labels=True)
    evaluator = _Evaluator(settings, corpus)
    contents = evaluator.results(full)  # before other models: it names seeds that diverged
    variants = _read_variants(ablations)
    contents |= {
        **evaluator.unimodal(read_unimodal(pretrained)),
        files.TRIVIAL_BASELINES: json_text(trivial_baselines(corpus, settings.ridge_alphas)),
        **evaluator.missing_modalities(full, variants),
        **evaluator.interpretability(full),
        **evaluator.ablations(full, variants),
    }
    with atomic_folder(output) as folder:
        (folder / files.DETAILS).mkdir()
        for name, text in contents.items():
            (folder / name).write_text(text, encoding="utf-8", newline="")


def _read_variants(ablations: Path | None) -> dict[str, ModelOutputs]:
    if ablations is None:
        return {}
    if not ablations.is_dir():
        raise DhmdError(f"{ablations} does not exist; run the ablate stage")
    names = sorted(path.name for path in ablations.iterdir() if path.is_dir())
    return {name: read_outputs(ablations / name) for name in names}


class _Evaluator:
    """Computes the content of the files; each public method returns texts by file name."""

    def __init__(self, settings: EvaluateConfig, corpus: Corpus) -> None:
        self.corpus = corpus
        self.task: str = corpus.task
        self.rows = {split: corpus.index(split) for split in SPLITS}
        self.ids = tuple(corpus.ids[row] for row in self.rows["test"])
        self.labels = {
            split: files.decimal_round_trip(corpus.labels_N[rows])
            for split, rows in self.rows.items()
        }
        self.bootstrap = Bootstrap(self.ids, self.labels["test"], settings.resamples)
        self.planted = {name: values[self.rows["test"]] for name, values in corpus.planted.items()}

    def results(self, full: ModelOutputs) -> dict[str, str]:
        """Score the full model: predictions, seeds, identity, intervals and summaries."""
        corpus, labels_N = self.corpus, self.labels["test"]
        test = self._by_seed(full, "test")
        scores = self._scores(full)
        predictions = Predictions(self.ids, labels_N, full.seeds, np.array(list(test.values())))
        truth_N = self.planted.get(GROUND_TRUTH)
        truth_N = None if truth_N is None else truth_N.astype(np.float64)
        summary = files.build_summary(
            self.task,
            {split: {s: scores[split][s].values for s in scores[split]} for split in SPLITS},
            predictions,
            truth_N,
            corpus.class_names,
        )
        columns = {"label": labels_N, **{f"seed_{seed}": p_N for seed, p_N in test.items()}}
        if self.task != "regression":
            columns = {name: values.astype(np.int64) for name, values in columns.items()}
        no_truth: dict[str, Any] = {"id": [], "truth": []}
        truth = no_truth if truth_N is None else {"id": self.ids, "truth": truth_N}
        intervals = utterance_intervals(self.task, test, self.bootstrap)
        identity = Identity(corpus.name, self.task, corpus.identity, corpus.fold)
        return {
            files.METRICS_FILE: json_text(files.headline_values(self.task, summary)),
            files.SUMMARY: json_text(summary),
            files.IDENTITY: json_text(asdict(identity)),
            files.INTERVALS: json_text(intervals),
            files.PREDICTIONS: _csv(pd.DataFrame({"id": self.ids, **columns})),
            files.GROUND_TRUTH: _csv(pd.DataFrame(truth)),
            files.SEEDS: self._csv(["seed", "split"], _flat(scores)),
        }

    def unimodal(self, encoders: Mapping[str, ModelOutputs]) -> dict[str, str]:
        """Score each pretrained encoder on the same utterances as all other models.

        For utterances without the modality, the prediction is the trivial baseline: the median
        label (or most frequent class) of the train split.
        """
        constant = train_constant(self.corpus)
        rows: list[Row] = []
        for modality, outputs in encoders.items():
            absent = ~self.corpus.present_NM[:, self.corpus.modalities.index(modality)]
            filled = np.where(absent, constant, outputs.prediction_EN)
            scores = self._scores(replace(outputs, prediction_EN=filled), modality)
            rows += _flat(scores, modality)
        return {files.UNIMODAL: self._csv(["modality", "seed", "split"], rows)}

    def ablations(self, full: ModelOutputs, variants: Mapping[str, ModelOutputs]) -> dict[str, str]:
        """Score every variant on both splits, and compare it with the full model on test."""
        rows = [
            row for name, outputs in variants.items() for row in _flat(self._scores(outputs), name)
        ]
        test = {name: self._by_seed(outputs, "test") for name, outputs in variants.items()}
        return {
            f"{files.ABLATIONS}.csv": self._csv(["variant", "seed", "split"], rows),
            f"{files.ABLATIONS}.json": json_text(self._compare(self._by_seed(full, "test"), test)),
        }

    def missing_modalities(
        self, full: ModelOutputs, variants: Mapping[str, ModelOutputs]
    ) -> dict[str, str]:
        """Score all models with modalities dropped, or replaced by noise, at test time.

        The full model is compared with itself on complete inputs; p values are corrected separately
        for dropped modalities and for noise. Every variant is compared with the full model under
        the same condition.
        """
        conditions = self._missing(full)
        noise = {name: run for name, run in conditions.items() if name.startswith(NOISE_PREFIX)}
        dropped = {name: run for name, run in conditions.items() if name not in noise}
        complete = self._by_seed(full, "test")
        differences = {**self._compare(complete, dropped), **self._compare(complete, noise)}
        variant_conditions = {name: self._missing(outputs) for name, outputs in variants.items()}
        variant_differences = {
            condition: self._compare(
                run,
                {
                    name: runs[condition]
                    for name, runs in variant_conditions.items()
                    if condition in runs
                },
                metrics=(PRIMARY_METRIC[self.task],),
            )
            for condition, run in conditions.items()
        }
        rows = [row for name, run in conditions.items() for row in self._score_rows(run, name)]
        variant_rows = [
            row
            for variant, runs in variant_conditions.items()
            for name, run in runs.items()
            for row in self._score_rows(run, variant, name)
        ]
        keys = ["variant", "missing", "seed"]
        return {
            f"{files.MISSING_MODALITIES}.csv": self._csv(["missing", "seed"], rows),
            f"{files.MISSING_MODALITIES}.json": json_text(differences),
            f"{files.MISSING_BY_VARIANT}.csv": self._csv(keys, variant_rows),
            f"{files.MISSING_BY_VARIANT}.json": json_text(variant_differences if variants else {}),
        }

    def _missing(self, outputs: ModelOutputs) -> dict[str, dict[int, Floats]]:
        """Return test predictions by condition and seed, noise last."""
        return {
            name: outputs.by_seed(self.rows["test"], values_EN, f"missing modalities {name}")
            for name, values_EN in sorted(
                outputs.missing.items(), key=lambda item: item[0].startswith(NOISE_PREFIX)
            )
        }

    def _score_rows(self, by_seed: Mapping[int, Floats], *key: str) -> list[Row]:
        """Score test predictions; each row has `key` and the seed as its key cells."""
        labels_N = self.labels["test"]
        return [((*key, seed), score(self.task, p_N, labels_N)) for seed, p_N in by_seed.items()]

    def interpretability(self, full: ModelOutputs) -> dict[str, str]:
        """Summarise distillation edges and dictionary codes of test utterances."""
        test = self.rows["test"]
        present_NM = modality_presence(full, self.corpus)[test]
        reliability = {
            name.removeprefix(RELIABILITY_PREFIX): values
            for name, values in self.planted.items()
            if name.startswith(RELIABILITY_PREFIX)
        }
        edges = {name: w_ENIJ[:, test].astype(np.float64) for name, w_ENIJ in full.edges.items()}
        codes = {name: a_NMK[test].astype(np.float64) for name, a_NMK in full.codes.items()}
        latent = self.planted.get(LATENT)
        latent_N = None if latent is None else latent.astype(np.int64)
        statistics = full.dictionary_statistics
        return {
            files.EDGES: json_text(edge_summary(edges, full.modalities, reliability, present_NM)),
            files.DICTIONARY: json_text(
                dictionary_summary(statistics, codes, present_NM, latent_N)
            ),
        }

    def _by_seed(
        self, outputs: ModelOutputs, split: str, what: str = "prediction"
    ) -> dict[int, Floats]:
        """Check that outputs belong to this corpus, and return a split's predictions by seed."""
        corpus = self.corpus
        if outputs.identity != corpus.identity or outputs.ids != corpus.ids:
            raise DhmdError(
                f"{outputs.path} was computed from another version of the corpus {corpus.name} "
                "than the aligned features file; run the stage that writes these outputs again"
            )
        if outputs.task != self.task:
            raise DhmdError(
                f"{outputs.path} has the task {outputs.task}, but {corpus.name} has the task "
                f"{self.task}; run the stage that writes these outputs again"
            )
        return outputs.by_seed(self.rows[split], what=what)

    def _scores(
        self, outputs: ModelOutputs, what: str = "prediction"
    ) -> dict[str, dict[int, Scores]]:
        """Return the scores by split and seed."""
        return {
            split: {
                seed: score(self.task, p_N, self.labels[split])
                for seed, p_N in self._by_seed(outputs, split, what).items()
            }
            for split in SPLITS
        }

    def _csv(self, keys: Sequence[str], rows: Sequence[Row]) -> str:
        """Return CSV with the columns `keys` and the metrics; undefined ones are empty cells."""
        records = [{**dict(zip(keys, key, strict=True)), **scores.values} for key, scores in rows]
        return _csv(pd.DataFrame(records, columns=[*keys, *METRICS[self.task]]))

    def _compare(
        self,
        full: Mapping[int, Floats],
        others: Mapping[str, Mapping[int, Floats]],
        metrics: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        return compare_with_full(self.task, full, others, self.bootstrap, metrics=metrics)


def _flat(scores: Mapping[str, Mapping[int, Scores]], *key: str) -> list[Row]:
    """Return one row per split and seed, with `key`, the seed and the split as its key cells."""
    return [
        ((*key, seed, split), seed_scores)
        for split, by_seed in scores.items()
        for seed, seed_scores in by_seed.items()
    ]


def _csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, lineterminator="\n")
