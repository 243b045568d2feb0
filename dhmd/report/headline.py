"""Sentences and numbers at the top of a report, and the table of published results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import pandas as pd

from dhmd.data.aligned.corpus import SPLITS
from dhmd.evaluation.metrics import deterioration_sign
from dhmd.evaluation.tables import MODEL, constant_title, format_mean, pluralize, seed_statistics
from dhmd.report.charts import p_label
from dhmd.report.data import SECONDARY_METRIC, ReportData
from dhmd.report.page import table_block

_PUBLISHED: Final = Path(__file__).with_name("published.csv")
# Factor and number of digits of each metric in the table.
_PUBLISHED_METRICS: Final = {"acc2_non0": (100, 1), "acc7": (100, 1), "mae": (1, 3), "corr": (1, 3)}
# Name of the text features by their width.
_FEATURES: Final[Mapping[int, str]] = {300: "GloVe", 768: "BERT"}


class Baseline(NamedTuple):
    """A baseline and its score in the primary metric: mean, and std over several seeds."""

    title: str
    name: str
    score: Mapping[str, float]


def best_baseline(data: ReportData) -> Baseline | None:
    """Return the best of the trivial baselines, single modalities and models of other papers."""
    sign = deterioration_sign(data.primary)
    baselines = [
        Baseline(title, str(scores["name"].iloc[0]), seed_statistics(scores[data.primary]))
        for _, title, scores in data.models("trivial", "unimodal", "baseline")
        if scores[data.primary].notna().all()
    ]
    return min(baselines, key=lambda baseline: sign * baseline.score["mean"], default=None)


def headline_text(data: ReportData) -> str:
    """Compare the model with the best baseline, the constant and the oracle, in sentences."""
    metric, name = data.primary, data.metric_titles[data.primary]
    score = data.summary["test"].get(metric, {})
    if "mean" not in score:
        return f"{name} is undefined on the test split."
    sentence = f"{MODEL} reaches {name} {format_mean(score)} over {sample_text(data)}"
    if interval := data.intervals.get(metric):
        ends = f"{interval['low']:.3f} to {interval['high']:.3f}"
        sentence += f" (95 % interval over utterances: {ends})"
    sentences = [sentence]

    def comparison(value: float) -> str:
        gain = (value - score["mean"]) * deterioration_sign(metric)
        return f"{abs(gain):.3f} {'better' if gain > 0 else 'worse'}"

    best, constant = best_baseline(data), _constant_score(data)
    if best is not None:
        sentence = (
            f"The best baseline ({best.title}) reaches {format_mean(best.score)}; {MODEL} is "
            f"{comparison(best.score['mean'])}"
        )
        p = data.ablations.get(best.name, {}).get(metric, {}).get("p")
        if p is not None:
            verdict = "significant" if p < 0.05 else "not significant"
            sentence += f", which is {verdict} ({p_label(p)} after Holm's correction)"
        sentences.append(sentence)
    title = constant_title(data.task)
    if constant is not None and best is not None and best.title != title:
        sentences.append(f"{MODEL} is {comparison(constant)} than the {title} ({constant:.3f})")
    if metric in data.oracle:
        sentences.append(
            "The labels are noisy: the oracle, which predicts the label before noise, scores "
            f"{data.oracle[metric]:.3f}"
        )
    if metric in data.summary.get("truth", {}):
        truth_score = format_mean(data.summary["truth"][metric])
        sentences.append(f"Against the labels before noise, {MODEL} reaches {name} {truth_score}")
    if data.summary["undefined"]:
        sentences.append(f"Undefined: {', '.join(data.summary['undefined'])}")
    return ". ".join(sentences) + "."


def key_figures(data: ReportData) -> list[dict[str, Any]]:
    """Return the numbers at the top of the page: value, label, and whether the model's own."""
    names, metric, best = data.metric_titles, data.primary, best_baseline(data)
    figures = [
        (format_mean(data.summary["test"].get(m, {})), f"{MODEL}, test {names[m]}")
        for m in (metric, SECONDARY_METRIC[data.task])
    ]
    if best is not None:
        figures.append((format_mean(best.score), f"best baseline: {best.title}, {names[metric]}"))
    figures += [
        (
            format_mean(seed_statistics(scores[metric])),
            f"{'oracle' if kind == 'oracle' else title}, {names[metric]}",
        )
        for kind, title, scores in data.models("trivial", "oracle")
        # Of the ridge regressions, only the one on all modalities.
        if kind == "oracle" or scores["name"].iloc[0] in ("median", "ridge")
    ]
    figures.append((pluralize(len(data.seeds), "seed"), f"{len(data.rows):,} test utterances"))
    return [
        {"value": value, "label": label, "own": index < 2}
        for index, (value, label) in enumerate(figures)
    ]


def corpus_text(data: ReportData) -> str:
    """Describe the corpus in a few sentences."""
    corpus = data.corpus
    counts = ", ".join(f"{len(corpus.index(split)):,} {split}" for split in SPLITS)
    alignment = "aligned to words" if corpus.alignment == "word" else "not aligned"
    return (
        f"{'Generated data' if corpus.planted else 'Data'}: {counts} utterances from "
        f"{pluralize(len(set(corpus.videos)), 'video')}. Task: {data.task}. Modalities: "
        f"{', '.join(data.modalities)} ({alignment}). Fold: {corpus.fold}. Corpus hash "
        f"{corpus.identity[:12]}, protocol {data.identity.protocol}. Test labels are read only by "
        "the evaluation, after all training."
    )


def overview_row(data: ReportData) -> list[str]:
    """Return the cells of the dataset in the table of all datasets."""
    metric, best, constant = data.primary, best_baseline(data), _constant_score(data)
    return [
        data.name,
        data.metric_titles[metric],
        format_mean(data.summary["test"].get(metric, {})),
        str(len(data.seeds)),
        f"{len(data.rows):,}",
        "–" if best is None else f"{best.title}: {format_mean(best.score)}",
        "–" if constant is None else f"{constant:.3f}",
        f"{data.oracle[metric]:.3f}" if metric in data.oracle else "–",
    ]


def _constant_score(data: ReportData) -> float | None:
    """Return the score of the constant baseline, such as the median label."""
    scores = data.scores.loc[data.scores["title"] == constant_title(data.task), data.primary]
    return float(scores.iloc[0]) if scores.notna().any() else None


def sample_text(data: ReportData) -> str:
    """Return the numbers of seeds and test utterances: `5 seeds and 320 test utterances`."""
    return f"{pluralize(len(data.seeds), 'seed')} and {len(data.rows):,} test utterances"


def published_table(data: ReportData) -> dict[str, Any] | None:
    """Return the table of published results on the corpus of the dataset, or None.

    ACC2 leaves out utterances with label 0. A row is marked as comparable only if its text features
    are known and equal to those of this run.
    """
    published = pd.read_csv(_PUBLISHED)
    published = published[published["corpus"] == data.name.partition("_")[0]]
    if data.task != "regression" or not len(published):
        return None

    def cells(scores: Mapping[Any, Any]) -> list[str]:
        values = [(scores.get(m), *form) for m, form in _PUBLISHED_METRICS.items()]
        return [
            "–" if v is None or v != v else f"{v * scale:.{digits}f}" for v, scale, digits in values
        ]

    text = data.corpus.features.get("text")
    features = None if text is None else _FEATURES.get(text.values.shape[1])
    scores = {m: score["mean"] for m, score in data.summary["test"].items()}
    rows = [["**this run**", *cells(scores), features or "other features", "", ""]]
    for row in published.to_dict("records"):
        if set(data.modalities) != {"text", "audio", "vision"}:
            comparable = "no: this run uses other modalities"
        elif row["features"] not in _FEATURES.values():
            comparable = "no: its text features are unknown to us"
        elif row["features"] != features:
            comparable = "no: other text features"
        else:
            comparable = "with care: fine-tuning, seeds and selection differ"
        row_features = row["features"] if row["features"] in _FEATURES.values() else "unknown"
        rows.append([row["model"], *cells(row), row_features, row["source"], comparable])
    header = ["model", "ACC2", "ACC7", "MAE", "Corr", "text features", "source", "comparable"]
    return table_block(header, rows, text_columns=(0, 5, 6, 7))
