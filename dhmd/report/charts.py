"""Figures of scores, predictions, training and data.

A function that draws a figure returns None if there are no values to draw.
S seeds, N utterances of the corpus, T utterances of the test split, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from dhmd.data.aligned.corpus import SPLITS
from dhmd.evaluation.metrics import METRIC_TITLES, deterioration_sign
from dhmd.evaluation.tables import MODEL, pluralize
from dhmd.report import style
from dhmd.report.data import SECONDARY_METRIC, Array, ReportData

_LOSSES: Final = {
    "total": "total loss",
    "task": "task loss",
    "dec": "decoupling",
    "rec": "reconstruction",
    "cyc": "cycle",
    "mar": "margin",
    "ort": "orthogonality",
    "vertex": "auxiliary heads",
    "gd": "distillation",
    "edge": "edges",
    "dm": "matching",
}
# Learning curves that are drawn first.
_FIRST_CURVES: Final = ("valid/mae", "valid/f1", "valid/corr", "valid/accuracy", "train/total")
_BINS: Final = 10  # number of bins of a calibration curve


def results(data: ReportData) -> style.Chart:
    """Compare every seed's test scores with the baselines and the oracle."""
    models = list(data.models("trivial", "unimodal", "baseline", "model", "oracle"))
    titles = [title for _, title, _ in models]
    canvas = style.Canvas(
        f"Test results of {data.name}: every seed, baselines, oracle",
        data.note(),
        0.25 * len(models) + 0.4,
        1,
        len(data.metric_titles),
        sharey=True,
    )
    for axes, (metric, name) in zip(canvas.axes[0], data.metric_titles.items(), strict=True):
        axes.set_title(f"{name} {'←' if deterioration_sign(metric) > 0 else '→'}")
        style.draw_grid(axes, "x", 3)
        style.label_rows(axes, titles)
        for row, (kind, _, scores) in enumerate(models):
            values = scores[metric].dropna().to_numpy()
            colour = style.HIGHLIGHT if kind == "model" else style.NEUTRAL
            if kind == "unimodal":
                colour = style.modality_colour(data, scores["name"].iloc[0])
            if not len(values):
                position = {"transform": axes.get_yaxis_transform(), "ha": "center", "va": "center"}
                axes.text(0.5, row, "undefined", color=style.MUTED, **position)
                continue
            if len(values) > 1:
                style.draw_points(axes, values, np.full(len(values), row), colour, 4.6, 0.65)
            mean = values.mean()
            axes.vlines(mean, row - 0.32, row + 0.32, color=colour, linewidth=2.0)
            if kind == "model":
                axes.axhspan(row - 0.5, row + 0.5, color=style.HIGHLIGHT, alpha=0.1, linewidth=0)
                axes.axvline(mean, color=style.HIGHLIGHT, linewidth=0.7, linestyle="--")
                if interval := data.intervals.get(metric):
                    low, high = interval["low"], interval["high"]
                    axes.hlines(row, low, high, color=style.HIGHLIGHT, linewidth=0.9)
    return canvas.chart(
        data,
        "results",
        "Dots: seeds; bars: means. A bar without dots is a single value. The shaded row is "
        f"{MODEL}; its thin line is the 95 % interval over test utterances (bootstrap by video). "
        "Arrows point towards better scores.",
    )


def ablations(data: ReportData) -> style.Chart | None:
    """Compare all variants and baselines with the full model."""
    title = f"Variants and baselines of {data.name} against the full model"
    return _forest(data, "ablations", title, data.ablations, ("variant", "baseline"))


def missing_modalities(data: ReportData) -> style.Chart | None:
    """Show how much the full model deteriorates when modalities are dropped at test time."""
    title = f"Missing-modality test of {data.name}: modalities dropped at test time"
    return _forest(data, "missing_modalities", title, data.missing, ("missing",))


def _forest(
    data: ReportData, name: str, title: str, entries: Mapping[str, Any], kinds: tuple[str, ...]
) -> style.Chart | None:
    """Draw differences from the full model in two metrics, the largest deterioration on top."""
    metrics = (data.primary, SECONDARY_METRIC[data.task])
    models = [
        (scores.set_index("seed"), title, entry)
        for _, title, scores in data.models(*kinds)
        if any(metric in (entry := entries[scores["name"].iloc[0]]) for metric in metrics)
    ]
    if not models:
        return None
    sign = deterioration_sign(data.primary)
    models.sort(key=lambda model: -sign * model[2].get(data.primary, {}).get("difference", 0.0))
    canvas = style.Canvas(title, data.note(), 0.27 * len(models) + 0.6, 1, 2, sharey=True)
    full = data.scores[data.scores.kind == "model"].set_index("seed")
    for axes, metric in zip(canvas.axes[0], metrics, strict=True):
        axes.set_title(f"{data.metric_titles[metric]}: difference from the full model")
        style.draw_grid(axes, "x", 5)
        style.label_rows(axes, [title for _, title, _ in models])
        axes.axvline(0, color=style.MUTED, linewidth=0.9)
        for row, (scores, _, entry) in enumerate(models):
            seeds = (scores[metric] - full[metric]).dropna().to_numpy()
            _draw_difference(axes, row, entry.get(metric, {}), seeds, metric)
        left, right = ("better", "worse") if deterioration_sign(metric) > 0 else ("worse", "better")
        axes.set_xlabel(f"← {left} · {right} →")
    return canvas.chart(
        data,
        name,
        "Differences from the full model, paired by seed. Small dots: seeds; large dot: mean; "
        "thick line: 95 % interval over seeds; thin line: 95 % interval over test utterances "
        "(bootstrap by video). Colour: p < 0.05 after Holm's correction; grey: not significant.",
    )


def _draw_difference(
    axes: Any, row: int, entry: Mapping[str, float], seeds: Array, metric: str
) -> None:
    if "difference" not in entry:
        style.draw_points(axes, seeds, np.full(len(seeds), row), style.NEUTRAL, 4.2, 0.6)
        style.annotate_row(axes, row, "one seed: no interval" if len(seeds) == 1 else "undefined")
        return
    mean, colour = entry["difference"], style.NEUTRAL
    if entry["p"] < 0.05:
        colour = style.WORSE if mean * deterioration_sign(metric) > 0 else style.BETTER
    for key, width in (("utterances", 0.9), ("ci", 3.2)):
        if f"{key}_low" in entry:
            low, high = entry[f"{key}_low"], entry[f"{key}_high"]
            axes.hlines(row, low, high, color=colour, linewidth=width)
    style.draw_points(axes, seeds, np.full(len(seeds), row + 0.3), colour, 2.8, 0.8)
    axes.plot([mean], [row], "o", ms=5.5, color=colour, mec=style.PAPER, mew=0.8)
    style.annotate_row(axes, row, f"{mean:+.3f}, {p_label(entry['p'])}")


def p_label(p: float) -> str:
    """Return `p = 0.012`, or `p < 0.001`."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def calibration(data: ReportData) -> style.Chart:
    """Plot labels against predictions, or accuracy against confidence."""
    dashed = {"color": style.MUTED, "linewidth": 0.8, "linestyle": "--"}
    title = f"Calibration of {data.name}"
    if (probabilities := data.probabilities) is None:
        canvas = style.Canvas(title, data.note(), 3.6, width=style.HALF)
        axes, low, high = canvas.axes[0, 0], data.corpus.low, data.corpus.high
        values = data.predictions.values
        axes.plot([low, high], [low, high], **dashed)
        style.draw_points(axes, values.mean(0), data.labels, style.NEUTRAL, 3.2, 0.55)
        flat, label = values.ravel(), np.broadcast_to(data.labels, values.shape).ravel()
        bins = np.array_split(np.argsort(flat, kind="stable"), min(_BINS, values.shape[1]))
        points = np.array([[flat[part].mean(), label[part].mean()] for part in bins]).T
        axes.plot(
            *points, "o-", color=style.HIGHLIGHT, linewidth=1.6, ms=5, mec=style.PAPER, mew=0.8
        )
        axes.set(xlabel="prediction", ylabel="label")
        caption = (
            "Grey dots: utterances, at their mean prediction over seeds. Line: mean label in ten "
            "bins with equal numbers of predictions, over all seeds. The dashed diagonal is "
            "perfect calibration; a steeper line means that predictions are too close to the mean."
        )
    else:
        by_seed = [confidences(data, seed_probabilities) for seed_probabilities in probabilities]
        error = np.mean([calibration_error(*seed_probabilities) for seed_probabilities in by_seed])
        title += f": expected calibration error {error:.3f}"
        canvas = style.Canvas(title, data.note(), 3.6, width=style.HALF)
        axes = canvas.axes[0, 0]
        axes.plot([0, 1], [0, 1], **dashed)
        x, y, count = confidence_bins(*map(np.concatenate, zip(*by_seed, strict=True)))
        axes.plot(x, y, "-", color=style.HIGHLIGHT, linewidth=1.4)
        axes.scatter(x, y, (3 + 11 * np.sqrt(count / count.sum())) ** 2, color=style.HIGHLIGHT)
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), ylabel="accuracy")
        axes.set_xlabel("confidence in the predicted class")
        content = "Accuracy in ten equal bins of confidence"
        if data.task == "multilabel":
            axes.set(xlabel="probability of a class", ylabel="present")
            content = "Share of present classes in ten equal bins of their probability"
        caption = (
            f"{content}, over all seeds; larger dots have more predictions. The dashed diagonal is "
            "perfect calibration. The expected calibration error is the mean distance from it, "
            "weighted by the number of predictions and averaged over seeds."
        )
    style.draw_grid(axes, "both")
    return canvas.chart(data, "calibration", caption)


def confidence_bins(confidence: Array, correct: Array) -> tuple[Array, Array, Array]:
    """Return mean confidence, accuracy and count of ten bins of equal width; omit empty ones."""
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    table = pd.DataFrame({"confidence": confidence, "accuracy": correct}).groupby(bins)
    return *table.mean().to_numpy(dtype=np.float64).T, table.size().to_numpy()


def confidences(data: ReportData, probabilities: Array) -> tuple[Array, Array]:
    """Return the confidence and the correctness of one seed's predictions.

    Args:
        probabilities: class probabilities `[T, C]`.

    Returns:
        The probability of the predicted class and whether it is the label, `[T]`; for a multi-label
        task, the probability of every class and whether it is present, `[T * C]`.
    """
    truth = data.members(data.labels)
    if data.task == "multilabel":
        return probabilities.ravel(), truth.ravel()
    return probabilities.max(1), truth[np.arange(len(truth)), probabilities.argmax(1)]


def calibration_error(confidence: Array, correct: Array) -> float:
    """Compute the expected calibration error of predictions from `confidences`."""
    confidence, accuracy, count = confidence_bins(confidence, correct)
    return float((np.abs(confidence - accuracy) * count).sum() / count.sum())


def confusion(data: ReportData) -> style.Chart:
    """Show which classes are predicted for which labels."""
    counts = confusion_counts(data)
    total = data.members(data.labels).sum(0)[:, None] * len(data.seeds)
    shares = np.where(total > 0, counts / np.maximum(total, 1), np.nan)
    names = [_shortened(name) for name in data.classes]
    title = f"Confusion matrix of {data.name}, {len(names)} classes"
    canvas = style.Canvas(title, data.note(), 3.6, width=style.HALF)
    axes = canvas.axes[0, 0]
    texts = [[f"{value:.0%}"[:-1] if value >= 0.005 else "" for value in row] for row in shares]
    style.heat_map(axes, shares, names, names, texts=texts)
    axes.tick_params(axis="x", labelrotation=15 if sum(map(len, names)) > 40 else 0)
    axes.set(xlabel="predicted", ylabel="label")
    for row, count in enumerate(total[:, 0]):
        style.annotate_row(axes, row, f"n = {count // len(data.seeds)}")
    sums = "" if data.task == "multilabel" else ", so that rows sum to 100"
    rounding = ", rounded half to even as for ACC7" if data.task == "regression" else ""
    return canvas.chart(
        data,
        "confusion",
        f"Percentage of the utterances with a label{sums}, averaged over "
        f"{pluralize(len(data.seeds), 'seed')}{rounding}; n is the number of utterances.",
    )


def confusion_counts(data: ReportData) -> Array:
    """Count pairs of classes `[label, predicted]` over all seeds.

    In a multi-label task, every class of the label is paired with every predicted class.
    """
    labels = data.members(data.labels).astype(np.int64)
    counts: Array = (labels.T @ data.members(data.predictions.values).astype(np.int64)).sum(0)
    return counts


def training(data: ReportData) -> style.Chart | None:
    """Plot losses, validation scores and the learning rate by epoch."""
    return _curve_panels(data, "training", f"Training of {data.name}", data.training)


def pretraining(data: ReportData) -> style.Chart | None:
    """Plot the learning curves of the pretrained encoders, one colour per modality."""
    title = f"Pretraining of the encoders of {data.name}, each modality alone"
    return _curve_panels(data, "pretraining", title, data.pretraining)


def _curve_panels(
    data: ReportData, name: str, title: str, history: pd.DataFrame
) -> style.Chart | None:
    modalities = "|".join(data.corpus.modalities)
    # The curves of pretrained encoders are named modality/curve.
    parts = history["name"].str.extract(f"^(?:({modalities})/)?(.*)$").fillna("")
    history = history.assign(modality=parts[0], curve=parts[1])
    selected = history[history["curve"] == "selected"].set_index(["modality", "seed"])["epoch"]
    history = history[~history["curve"].isin(["selected", "diverged"])]
    panels = sorted(history["curve"].unique(), key=_rank)
    if not panels:
        return None
    columns, rows = 5, -(-len(panels) // 5)
    note = data.note(split="train", count=int((data.corpus.split_N == "train").sum()))
    canvas = style.Canvas(title, note, 1.5 * rows, rows, columns)
    for axes in canvas.axes.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, panel in zip(canvas.axes.flat, panels, strict=False):
        axes.set_title(panel_title(panel))
        style.draw_grid(axes, "y", 3)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_formatter("{x:g}")
        panel_history = history[history["curve"] == panel]
        for modality, curves in panel_history.groupby("modality", sort=False):
            colour = style.modality_colour(data, modality) if modality else style.HIGHLIGHT
            by_epoch = curves.pivot(index="epoch", columns="seed", values="value")
            axes.plot(by_epoch, color=colour, linewidth=0.75, alpha=0.6)
            for seed, values in by_epoch.items():
                if (best := selected.get((modality, seed))) in values.dropna():
                    axes.plot([best], [values[best]], "o", ms=4.5, color=colour)
            mean = by_epoch.dropna().mean(axis=1)
            axes.plot(mean, color=colour, linewidth=1.7, label=modality)
    for axes in canvas.axes.flat[max(len(panels) - columns, 0) : len(panels)]:
        axes.set_xlabel("epoch")
    if history["modality"].any():
        handles = canvas.axes.flat[0].get_legend_handles_labels()
        canvas.figure.legend(*handles, loc="outside upper right", ncols=len(handles[0]))
    return canvas.chart(
        data,
        name,
        f"Thin lines: seeds ({pluralize(len(data.seeds), 'seed')}); thick line: their mean over "
        "the epochs in which all of them train; dots: the selected epoch of each seed. Losses are "
        "means over the train split.",
    )


def _rank(curve: str) -> tuple[int, str]:
    """Return a sort key: validation scores, the total loss, its terms, the learning rate."""
    if curve in _FIRST_CURVES:
        return _FIRST_CURVES.index(curve), curve
    loss = curve.removeprefix("train/").partition("_")[0]
    position = list(_LOSSES).index(loss) if loss in _LOSSES else 99
    return len(_FIRST_CURVES) + position + 100 * (curve == "lr"), curve


def panel_title(name: str) -> str:
    """Return the title of a learning curve, such as `validation MAE` for `valid/mae`."""
    metrics = {key: title for columns in METRIC_TITLES.values() for key, title in columns.items()}
    first, _, rest = name.partition("/")
    if first == "valid":
        return f"validation {metrics.get(rest, rest)}"
    if not rest:
        return "learning rate" if name == "lr" else name
    loss, _, space = rest.partition("_")
    suffix = f" ({space.removesuffix('geneous')})" if space else ""
    return f"{_LOSSES.get(loss, loss)}{suffix}"


def corpus(data: ReportData) -> style.Chart:
    """Show the distribution of labels and lengths, and the share of absent modalities."""
    note = data.note(split="all splits", count=len(data.corpus.ids), num_seeds=None)
    title = f"Labels, lengths and absent modalities of {data.name}"
    canvas = style.Canvas(title, note, 2.3, 1, 3)
    labels, lengths, absent = canvas.axes[0]
    _draw_labels(labels, data)
    _draw_lengths(lengths, data)
    absent.set_title("absent modalities")
    present = [data.corpus.present_NM[data.corpus.index(split)] for split in SPLITS]
    shares = np.array([1 - rows.mean(0) if len(rows) else rows.sum(0) for rows in present]).T
    texts = [[f"{value:.1%}" for value in row] for row in shares]
    high = max(float(shares.max()), 0.05)
    style.heat_map(absent, shares, data.corpus.modalities, SPLITS, texts=texts, high=high)
    return canvas.chart(
        data,
        "data",
        "Left: distribution of the labels in each split. Middle: distribution of the lengths of "
        "all utterances after alignment. Right: share of utterances without a modality.",
    )


def _draw_labels(axes: Any, data: ReportData) -> None:
    count, width = len(data.classes), 0.8 / len(SPLITS)
    for index, split in enumerate(SPLITS):
        share = data.members(data.all_labels[data.corpus.index(split)]).mean(0)
        x = np.arange(count) + (index - 1) * width
        axes.bar(x, share, width * 0.9, color=style.SERIES[index], label=split)
    axes.set_xticks(range(count), map(_shortened, data.classes))
    axes.tick_params(axis="x", labelrotation=20 if max(map(len, data.classes)) > 8 else 0)
    style.draw_grid(axes, "y", 4)
    rounded = ", rounded" if data.task == "regression" else ""
    axes.set(title="labels, share of the split", xlabel=f"label{rounded}")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.25)
    axes.legend(ncols=3, loc="upper center", columnspacing=1.0, handlelength=0.9)


def _draw_lengths(axes: Any, data: ReportData) -> None:
    corpus = data.corpus
    aligned = corpus.alignment == "word"
    # Aligned modalities have the same lengths.
    modalities = corpus.modalities[:1] if aligned else corpus.modalities
    longest = max(int(corpus.features[name].lengths.max(initial=1)) for name in modalities)
    width = -(-(longest + 1) // 30)
    edges = np.arange(0, longest + width + 1, width) - 0.5
    for modality in modalities:
        counts, _ = np.histogram(corpus.features[modality].lengths, edges)
        colour = style.NEUTRAL if aligned else style.modality_colour(data, modality)
        share = counts / max(len(corpus.ids), 1)
        axes.stairs(share, edges, fill=aligned, color=colour, linewidth=1.4, label=modality)
    style.draw_grid(axes, "y", 4)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_title("length, share of utterances")
    axes.set_xlabel("words" if aligned else "steps of each modality")
    if not aligned:
        axes.legend()


def _shortened(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:15]}…"
