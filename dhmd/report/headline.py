"""The headline of a report: scores against the best baseline, trivial baselines and the oracle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from dhmd.data.aligned.corpus import SPLITS
from dhmd.evaluation.metrics import deterioration_sign
from dhmd.models.cards import model_title
from dhmd.report.charts import p_value
from dhmd.report.data import SECONDARY, ReportData, counted


class Baseline(NamedTuple):
    """A baseline and its score in the primary metric.

    Attributes:
        title: as in the tables.
        score: mean, and std if there are several seeds.
        variant: its name among the ablations; "" if it is not one of them.
    """

    title: str
    score: Mapping[str, float]
    variant: str = ""


def best_baseline(data: ReportData) -> Baseline | None:
    """Return the best of the trivial baselines, single modalities and models of other papers."""
    sign = deterioration_sign(data.primary)
    return min(_baselines(data), key=lambda found: sign * found.score["mean"], default=None)


def _baselines(data: ReportData) -> Iterator[Baseline]:
    metric = data.primary
    for title, trivial in data.trivial_scores.items():
        if metric in trivial:
            yield Baseline(title, {"mean": trivial[metric]})
    trained = [(f"{m} alone", scores, "") for m, scores in data.unimodal_scores.items()]
    trained += [
        (model, scores, name)
        for name, scores in data.ablation_scores.items()
        if (model := model_title(name))
    ]
    for title, scores, variant in trained:
        values = [seed[metric] for seed in scores.values() if metric in seed]
        if values:
            std = {"std": float(np.std(values, ddof=1))} if len(values) > 1 else {}
            yield Baseline(title, {"mean": float(np.mean(values)), **std}, variant)


def headline(data: ReportData) -> str:
    """Compare the model with the best baseline, the constant and the oracle, in sentences."""
    metric, name = data.primary, data.columns[data.primary]
    own = data.summary["test"].get(metric, {})
    if "mean" not in own:
        return f"{name} is undefined on the test split."
    first = f"DHMD reaches {name} {mean_and_std(own)} over {scope(data)}"
    if interval := data.intervals.get(metric):
        first += f" (95 % over utterances: {interval['low']:.3f} to {interval['high']:.3f})"
    sentences = [first]

    def compared(value: float) -> str:
        gain = (value - own["mean"]) * deterioration_sign(metric)
        return f"{abs(gain):.3f} {'better' if gain > 0 else 'worse'}"

    best = best_baseline(data)
    if best is not None:
        sentence = (
            f"The best baseline is {best.title} with {mean_and_std(best.score)}: DHMD is "
            f"{compared(best.score['mean'])}"
        )
        p = data.ablations.get(best.variant, {}).get(metric, {}).get("p")
        if p is not None:
            verdict = "a significant" if p < 0.05 else "not a significant"
            sentence += f", {verdict} difference ({p_value(p)} after Holm's correction)"
        sentences.append(sentence)
    constant = data.trivial_scores.get(data.constant, {}).get(metric)
    if constant is not None and best is not None and best.title != data.constant:
        sentences.append(f"DHMD is {compared(constant)} than the {data.constant} ({constant:.3f})")
    if metric in data.oracle:
        sentences.append(
            f"Labels are noisy: the oracle, the true labels before noise, scores "
            f"{data.oracle[metric]:.3f}"
        )
    if metric in data.summary.get("truth", {}):
        score = mean_and_std(data.summary["truth"][metric])
        sentences.append(f"Against the true labels, DHMD reaches {name} {score}")
    if data.summary["undefined"]:
        sentences.append(f"Undefined: {', '.join(data.summary['undefined'])}")
    return ". ".join(sentences) + "."


def tiles(data: ReportData) -> list[dict[str, Any]]:
    """Return the numbers at the top of the page, the model's own first."""
    names, metric = data.columns, data.primary
    found = [
        (mean_and_std(data.summary["test"].get(m, {})), f"DHMD, test {names[m]}")
        for m in (metric, SECONDARY[data.task])
    ]
    if best := best_baseline(data):
        found.append((mean_and_std(best.score), f"best baseline: {best.title}, {names[metric]}"))
    # The constant, and the ridge regression on all modalities.
    others = dict(list(data.trivial_scores.items())[:2])
    others |= {"oracle": data.oracle} if data.oracle else {}
    found += [
        (_number(scores.get(metric)), f"{title}, {names[metric]}")
        for title, scores in others.items()
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
    metric, best = data.primary, best_baseline(data)
    return [
        data.name,
        data.columns[metric],
        mean_and_std(data.summary["test"].get(metric, {})),
        str(len(data.seeds)),
        f"{len(data.rows):,}",
        "–" if best is None else f"{best.title}: {mean_and_std(best.score)}",
        _number(data.trivial_scores.get(data.constant, {}).get(metric)),
        _number(data.oracle.get(metric)),
    ]


def scope(data: ReportData) -> str:
    """Return how many seeds and test utterances a score is computed from."""
    return f"{counted(len(data.seeds), 'seed')} and {len(data.rows):,} test utterances"


def mean_and_std(values: Mapping[str, float], digits: int = 3) -> str:
    """Return `1.398 ± 0.043`, the mean alone of one seed, or a dash."""
    if "mean" not in values:
        return "–"
    std = f" ± {values['std']:.{digits}f}" if "std" in values else ""
    return f"{values['mean']:.{digits}f}{std}"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
