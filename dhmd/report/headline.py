"""Sentences and numbers at the top of a report, and the published results beside its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import pandas as pd

from dhmd.data.aligned.corpus import SPLITS
from dhmd.evaluation.metrics import deterioration_sign
from dhmd.evaluation.tables import MODEL, constant_title, counted, mean, mean_and_std
from dhmd.report.charts import p_value
from dhmd.report.data import SECONDARY, ReportData
from dhmd.report.page import table

# Results that others published; see `published`.
_PUBLISHED: Final = Path(__file__).with_name("published.csv")
_PUBLISHED_METRICS: Final = {"acc2_non0": (100, 1), "acc7": (100, 1), "mae": (1, 3), "corr": (1, 3)}
# Text features by their width.
_FEATURES: Final[Mapping[int, str]] = {300: "GloVe", 768: "BERT"}


class Baseline(NamedTuple):
    """A baseline and its score in the primary metric: mean, and std if there are several seeds."""

    title: str
    name: str
    score: Mapping[str, float]


def best_baseline(data: ReportData) -> Baseline | None:
    """Return the best of the trivial baselines, single modalities and models of other papers."""
    sign = deterioration_sign(data.primary)
    found = [
        Baseline(title, str(scores["name"].iloc[0]), mean_and_std(scores[data.primary]))
        for _, title, scores in data.models("trivial", "alone", "baseline")
        if scores[data.primary].notna().all()
    ]
    return min(found, key=lambda baseline: sign * baseline.score["mean"], default=None)


def headline(data: ReportData) -> str:
    """Compare the model with the best baseline, the constant and the oracle, in sentences."""
    metric, name = data.primary, data.columns[data.primary]
    own = data.summary["test"].get(metric, {})
    if "mean" not in own:
        return f"{name} is undefined on the test split."
    first = f"{MODEL} reaches {name} {mean(own)} over {scope(data)}"
    if interval := data.intervals.get(metric):
        first += f" (95 % over utterances: {interval['low']:.3f} to {interval['high']:.3f})"
    sentences = [first]

    def compared(value: float) -> str:
        gain = (value - own["mean"]) * deterioration_sign(metric)
        return f"{abs(gain):.3f} {'better' if gain > 0 else 'worse'}"

    best, constant = best_baseline(data), _constant(data)
    if best is not None:
        sentence = (
            f"The best baseline is {best.title} with {mean(best.score)}: {MODEL} is "
            f"{compared(best.score['mean'])}"
        )
        p = data.ablations.get(best.name, {}).get(metric, {}).get("p")
        if p is not None:
            verdict = "a significant" if p < 0.05 else "not a significant"
            sentence += f", {verdict} difference ({p_value(p)} after Holm's correction)"
        sentences.append(sentence)
    title = constant_title(data.task)
    if constant is not None and best is not None and best.title != title:
        sentences.append(f"{MODEL} is {compared(constant)} than the {title} ({constant:.3f})")
    if metric in data.oracle:
        sentences.append(
            f"Labels are noisy: the oracle, the true labels before noise, scores "
            f"{data.oracle[metric]:.3f}"
        )
    if metric in data.summary.get("truth", {}):
        score = mean(data.summary["truth"][metric])
        sentences.append(f"Against the true labels, {MODEL} reaches {name} {score}")
    if data.summary["undefined"]:
        sentences.append(f"Undefined: {', '.join(data.summary['undefined'])}")
    return ". ".join(sentences) + "."


def tiles(data: ReportData) -> list[dict[str, Any]]:
    """Return the numbers at the top of the page, the model's own first."""
    names, metric, best = data.columns, data.primary, best_baseline(data)
    found = [
        (mean(data.summary["test"].get(m, {})), f"{MODEL}, test {names[m]}")
        for m in (metric, SECONDARY[data.task])
    ]
    if best is not None:
        found.append((mean(best.score), f"best baseline: {best.title}, {names[metric]}"))
    found += [
        (
            mean(mean_and_std(scores[metric])),
            f"{'oracle' if kind == 'oracle' else title}, {names[metric]}",
        )
        for kind, title, scores in data.models("trivial", "oracle")
        # The constant, and the ridge regression on all modalities.
        if kind == "oracle" or scores["name"].iloc[0] in ("median", "ridge")
    ]
    found.append((counted(len(data.seeds), "seed"), f"{len(data.rows):,} test utterances"))
    return [
        {"value": value, "label": label, "own": index < 2}
        for index, (value, label) in enumerate(found)
    ]


def lead(data: ReportData) -> str:
    """Describe the corpus in a few sentences."""
    corpus = data.corpus
    counts = ", ".join(f"{len(corpus.index(split)):,} {split}" for split in SPLITS)
    steps = "aligned to words" if corpus.alignment == "word" else "not aligned"
    return (
        f"{'Generated data' if corpus.planted else 'Data'}: {counts} utterances of "
        f"{counted(len(set(corpus.videos)), 'video')}, {data.task}, modalities "
        f"{', '.join(data.modalities)} ({steps}), fold {corpus.fold}. Corpus identity "
        f"{corpus.identity[:12]}, protocol {data.identity.protocol}. Only the evaluation reads "
        "test labels, after all training."
    )


def overview_row(data: ReportData) -> list[str]:
    """Return the dataset's row in the table of all datasets."""
    metric, best, constant = data.primary, best_baseline(data), _constant(data)
    return [
        data.name,
        data.columns[metric],
        mean(data.summary["test"].get(metric, {})),
        str(len(data.seeds)),
        f"{len(data.rows):,}",
        "–" if best is None else f"{best.title}: {mean(best.score)}",
        "–" if constant is None else f"{constant:.3f}",
        f"{data.oracle[metric]:.3f}" if metric in data.oracle else "–",
    ]


def _constant(data: ReportData) -> float | None:
    """Return the score of the baseline that always predicts the same."""
    scores = data.scores.loc[data.scores["title"] == constant_title(data.task), data.primary]
    return float(scores.iloc[0]) if scores.notna().any() else None


def scope(data: ReportData) -> str:
    """Return how many seeds and test utterances a score is computed from."""
    return f"{counted(len(data.seeds), 'seed')} and {len(data.rows):,} test utterances"


def published(data: ReportData) -> dict[str, Any] | None:
    """Return the table of results that others published for the corpus of a dataset, if any.

    ACC2 leaves out utterances labelled 0. Rows with other text features than this run, or with
    unknown ones, are never called comparable.
    """
    every = pd.read_csv(_PUBLISHED)
    found = every[every["corpus"] == data.name.partition("_")[0]]
    if data.task != "regression" or not len(found):
        return None

    def cells(values: Mapping[Any, Any]) -> list[str]:
        known = [(values.get(m), *form) for m, form in _PUBLISHED_METRICS.items()]
        return [
            "–" if v is None or v != v else f"{v * scale:.{digits}f}" for v, scale, digits in known
        ]

    text = data.corpus.features.get("text")
    features = None if text is None else _FEATURES.get(text.values.shape[1])
    own = {m: score["mean"] for m, score in data.summary["test"].items()}
    rows = [["**this run**", *cells(own), features or "another kind", "", ""]]
    for row in found.to_dict("records"):
        if set(data.modalities) != {"text", "audio", "vision"}:
            comparable = "no: this run uses other modalities"
        elif row["features"] not in _FEATURES.values():
            comparable = "no: its text features are not recorded here"
        elif row["features"] != features:
            comparable = "no: other text features"
        else:
            comparable = "with care: fine-tuning, seeds and selection differ"
        recorded = row["features"] if row["features"] in _FEATURES.values() else "not recorded"
        rows.append([row["model"], *cells(row), recorded, row["source"], comparable])
    header = ["model", "ACC2", "ACC7", "MAE", "Corr", "text features", "source", "comparable"]
    return table(header, rows, prose=(0, 5, 6, 7))
