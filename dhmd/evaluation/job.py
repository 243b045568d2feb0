"""Evaluate one dataset: write `metrics/<dataset>/` from the models' predictions and test labels.

This is the only place that reads test labels.
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
from dhmd.evaluation.explanations import present
from dhmd.evaluation.files import SPLITS, Identity, Predictions, json_text
from dhmd.evaluation.interpretability import dictionary_summary, edge_summary
from dhmd.evaluation.metrics import METRICS, PRIMARY, Floats, Scores, score
from dhmd.evaluation.model_outputs import NOISE, ModelOutputs, read_outputs, read_unimodal
from dhmd.evaluation.statistics import Bootstrap, compare, utterance_intervals
from dhmd.evaluation.trivial_baselines import train_constant, trivial_baselines

# Names of the planted values of a generated corpus.
GROUND_TRUTH = "truth"
LATENT = "latent"
RELIABILITY_PREFIX = "reliability_"

ByModel = Mapping[str, ModelOutputs]
Row = tuple[tuple[str | int, ...], Scores]  # the cells before the metrics, and these


def evaluate_job(
    settings: EvaluateConfig,
    aligned: Path,
    pretrained: Path,
    models: Path,
    ablations: Path | None,
    output: Path,
) -> None:
    """Write `metrics/<dataset>/` (its files: see `dhmd.evaluation`).

    It appears whole or not at all. All files are written in any case; without variants theirs have
    no rows.

    Args:
        pretrained, models: directories that `pretrain` and `train` wrote.
        ablations: the directory with one subdirectory per variant; None if nothing was ablated.

    Raises:
        DhmdError: a file is missing or damaged, outputs belong to another corpus, or a seed
            diverged.
    """
    full = read_outputs(models, interpretability=True)
    corpus = read_corpus(aligned, fold=full.fold, test_labels=True)
    evaluation = _Evaluation(settings, corpus)
    written = {
        **evaluation.results(full),
        **evaluation.unimodal(read_unimodal(pretrained)),
        files.TRIVIAL_BASELINES: json_text(trivial_baselines(corpus, settings.ridge_alphas)),
    }
    variants = _read_variants(ablations)
    written |= {
        **evaluation.missing_modalities(full, variants),
        **evaluation.interpretability(full),
        **evaluation.ablations(full, variants),
    }
    with atomic_folder(output) as folder:
        (folder / files.DETAILS).mkdir()
        for name, text in written.items():
            (folder / name).write_text(text, encoding="utf-8", newline="")


def _read_variants(ablations: Path | None) -> dict[str, ModelOutputs]:
    if ablations is None:
        return {}
    if not ablations.is_dir():
        raise DhmdError(f"{ablations} does not exist; run the ablate stage")
    names = sorted(path.name for path in ablations.iterdir() if path.is_dir())
    return {name: read_outputs(ablations / name) for name in names}


class _Evaluation:
    """Computes the content of the files, name → text."""

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
        summary = files.summarise(
            self.task,
            {split: {s: found.values for s, found in scores[split].items()} for split in SPLITS},
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
            files.METRICS_FILE: json_text(files.headline(self.task, summary)),
            files.SUMMARY: json_text(summary),
            files.IDENTITY: json_text(asdict(identity)),
            files.INTERVALS: json_text(intervals),
            files.PREDICTIONS: _csv(pd.DataFrame({"id": self.ids, **columns})),
            files.GROUND_TRUTH: _csv(pd.DataFrame(truth)),
            files.SEEDS: self._csv(["seed", "split"], _flat(scores)),
        }

    def unimodal(self, encoders: ByModel) -> dict[str, str]:
        """Score each pretrained encoder on the same utterances as all other models.

        Where the modality is absent, the prediction is the trivial baseline: the median label (the
        most frequent class) of the train split.
        """
        constant = train_constant(self.corpus)
        rows: list[Row] = []
        for modality, outputs in encoders.items():
            absent = ~self.corpus.present_NM[:, self.corpus.modalities.index(modality)]
            filled = np.where(absent, constant, outputs.prediction_EN)
            scores = self._scores(replace(outputs, prediction_EN=filled), modality)
            rows += _flat(scores, modality)
        return {files.UNIMODAL: self._csv(["modality", "seed", "split"], rows)}

    def ablations(self, full: ModelOutputs, variants: ByModel) -> dict[str, str]:
        """Compare every variant with the full model on the test split, and score both splits."""
        scores = {name: self._scores(outputs) for name, outputs in variants.items()}
        rows = [row for name, found in scores.items() for row in _flat(found, name)]
        test = {name: self._by_seed(outputs, "test") for name, outputs in variants.items()}
        return {
            f"{files.ABLATIONS}.csv": self._csv(["variant", "seed", "split"], rows),
            f"{files.ABLATIONS}.json": json_text(self._compare(self._by_seed(full, "test"), test)),
        }

    def missing_modalities(self, full: ModelOutputs, variants: ByModel) -> dict[str, str]:
        """Score all models with modalities dropped, or replaced by noise, at test time.

        The full model is compared with itself on all modalities; dropped modalities and noise are
        two families of comparisons. Every variant is compared with the full model in the same
        condition.
        """
        test = {name: self._missing(outputs) for name, outputs in variants.items()}
        own = self._missing(full)
        noise = {name: run for name, run in own.items() if name.startswith(NOISE)}
        dropped = {name: run for name, run in own.items() if name not in noise}
        rows = [row for name, run in own.items() for row in self._scored(run, name)]
        others = [
            row
            for variant, runs in test.items()
            for name, run in runs.items()
            for row in self._scored(run, variant, name)
        ]
        compared = {
            condition: self._compare(
                own[condition],
                {name: runs[condition] for name, runs in test.items() if condition in runs},
                metrics=(PRIMARY[self.task],),
            )
            for condition in own
        }
        whole = self._by_seed(full, "test")
        family = {**self._compare(whole, dropped), **self._compare(whole, noise)}
        return {
            f"{files.MISSING_MODALITIES}.csv": self._csv(["missing", "seed"], rows),
            f"{files.MISSING_MODALITIES}.json": json_text(family),
            f"{files.MISSING_BY_VARIANT}.csv": self._csv(["variant", "missing", "seed"], others),
            f"{files.MISSING_BY_VARIANT}.json": json_text(compared if variants else {}),
        }

    def _missing(self, outputs: ModelOutputs) -> dict[str, dict[int, Floats]]:
        """Return condition → seed → test predictions, noise last."""
        return {
            name: outputs.by_seed(values_EN, self.rows["test"], f"missing modalities {name}")
            for name, values_EN in sorted(
                outputs.missing.items(), key=lambda item: item[0].startswith(NOISE)
            )
        }

    def _scored(self, by_seed: Mapping[int, Floats], *key: str) -> list[Row]:
        """Score test predictions; the rows' keys end with the seed."""
        labels_N = self.labels["test"]
        return [((*key, seed), score(self.task, p_N, labels_N)) for seed, p_N in by_seed.items()]

    def interpretability(self, full: ModelOutputs) -> dict[str, str]:
        """Summarise distillation edges and dictionary codes of test utterances."""
        test = self.rows["test"]
        present_NM = present(full, self.corpus)[test]
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
        """Select a split's predictions after checking that they belong to this corpus."""
        corpus = self.corpus
        if outputs.identity != corpus.identity or outputs.ids != corpus.ids:
            raise DhmdError(
                f"{outputs.path} was computed from another version of the corpus {corpus.name} "
                "than the aligned features file; run the stage that writes it again"
            )
        if outputs.task != self.task:
            raise DhmdError(
                f"{outputs.path} belongs to a {outputs.task}, but {corpus.name} is a {self.task}"
            )
        return outputs.by_seed(outputs.prediction_EN, self.rows[split], what)

    def _scores(
        self, outputs: ModelOutputs, what: str = "prediction"
    ) -> dict[str, dict[int, Scores]]:
        """Return split → seed → scores."""
        return {
            split: {
                seed: score(self.task, p_N, self.labels[split])
                for seed, p_N in self._by_seed(outputs, split, what).items()
            }
            for split in SPLITS
        }

    def _csv(self, keys: Sequence[str], rows: Sequence[Row]) -> str:
        """Return CSV with the columns `keys` and the metrics; undefined ones are empty cells."""
        records = [{**dict(zip(keys, key, strict=True)), **found.values} for key, found in rows]
        return _csv(pd.DataFrame(records, columns=[*keys, *METRICS[self.task]]))

    def _compare(
        self,
        full: Mapping[int, Floats],
        others: Mapping[str, Mapping[int, Floats]],
        metrics: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        return compare(self.task, full, others, self.bootstrap, metrics=metrics)


def _flat(scores: Mapping[str, Mapping[int, Scores]], *key: str) -> list[Row]:
    """Return one row per split and seed; the keys end with seed and split."""
    return [
        ((*key, seed, split), found)
        for split, by_seed in scores.items()
        for seed, found in by_seed.items()
    ]


def _csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, lineterminator="\n")
