"""Figures of scores, predictions, training and data.

Each function returns a finished `Chart`, or None if there are no values to draw.
S seeds, N utterances of the corpus, T utterances of the test split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.ticker import MaxNLocator

from dhmd.data.aligned.corpus import SPLITS
from dhmd.evaluation.metrics import COLUMNS, deterioration_sign
from dhmd.evaluation.tables import BASELINES, ORACLE
from dhmd.report.analysis import (
    calibration_error,
    confidence_bins,
    confidences,
    confusion_counts,
)
from dhmd.report.data import SECONDARY, Curves, ReportData, Scores, counted
from dhmd.report.style import (
    BETTER,
    HALF,
    MODEL,
    MUTED,
    OTHER,
    PAPER,
    SERIES,
    WORSE,
    Canvas,
    Chart,
    dots,
    grid,
    heat_map,
    modality_colour,
    name_rows,
    note_right,
)

MODEL_NAME: Final = "DHMD"
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
_FIRST_CURVES: Final = ("valid/mae", "valid/f1", "valid/corr", "valid/accuracy", "train/total")
_DASHES: Final = (0, (4, 3))


def results(data: ReportData) -> Chart:
    """Compare every seed's test scores with the baselines and the oracle."""
    metrics = data.columns
    rows: list[tuple[str, Mapping[str, Sequence[float]], str]] = []
    for title, trivial in data.trivial_scores.items():
        rows.append((title, {metric: [value] for metric, value in trivial.items()}, OTHER))
    for modality, scores in data.unimodal_scores.items():
        colour = modality_colour(data, modality)
        rows.append((f"{modality} alone", _by_metric(scores, metrics), colour))
    for name, title in BASELINES.items():
        if name in data.ablation_scores:
            rows.append((title, _by_metric(data.ablation_scores[name], metrics), OTHER))
    rows.append((MODEL_NAME, _by_metric(data.test_scores, metrics), MODEL))
    own = len(rows) - 1
    if data.oracle:
        rows.append((ORACLE, {m: [value] for m, value in data.oracle.items()}, OTHER))
    title = f"Test results of {data.name}: every seed, baselines, oracle"
    canvas = Canvas(title, data.note(), 0.25 * len(rows) + 0.4, 1, len(metrics))
    for axes, (metric, name) in zip(canvas.axes[0], metrics.items(), strict=True):
        _score_panel(axes, metric, name, [row[0] for row in rows])
        for index, (_, values, colour) in enumerate(rows):
            _score_row(axes, index, values.get(metric, ()), colour)
        axes.axhspan(own - 0.5, own + 0.5, color=MODEL, alpha=0.1, linewidth=0)
        _interval(axes, own, data.intervals.get(metric))
        if found := rows[own][1].get(metric):
            axes.axvline(np.mean(found), color=MODEL, linewidth=0.7, linestyle=(0, (3, 3)))
    caption = (
        "A dot is one seed, a bar the mean; a bar without dots has no seeds. The band marks "
        f"{MODEL_NAME}, its thin line the 95 % interval over test utterances (bootstrap by video). "
        "The arrow points to better scores."
    )
    return canvas.chart(data, "results", caption)


def ablations(data: ReportData) -> Chart | None:
    """Compare all variants and baselines with the full model."""
    title = f"Variants and baselines of {data.name} against the full model"
    return _forest(data, "ablations", title, data.ablations, data.ablation_scores)


def missing_modalities(data: ReportData) -> Chart | None:
    """Show how much the full model deteriorates when modalities are dropped at test time."""
    title = f"Missing-modality test of {data.name}: modalities dropped at test time"
    return _forest(data, "missing_modalities", title, data.missing, data.missing_scores)


def variant_title(name: str) -> str:
    """Return the readable name of a variant or of a set of modalities."""
    return BASELINES.get(name) or name.replace("_", " ").replace("+", " + ")


def calibration(data: ReportData) -> Chart:
    """Plot labels against predictions, or accuracy against confidence."""
    dashed = {"color": MUTED, "linewidth": 0.8, "linestyle": _DASHES}
    title = f"Calibration of {data.name}"
    if data.probabilities is None:
        canvas = Canvas(title, data.note(), 3.6, width=HALF)
        axes = canvas.axes[0, 0]
        low, high = data.corpus.low, data.corpus.high
        values, mean = data.predictions.values, data.predictions.values.mean(0)
        axes.plot([low, high], [low, high], **dashed)
        dots(axes, mean, data.labels, OTHER, 3.2, 0.55)
        flat = values.ravel()
        label = np.broadcast_to(data.labels, values.shape).ravel()
        bins = np.array_split(np.argsort(flat, kind="stable"), min(10, values.shape[1]))
        points = np.array([[flat[part].mean(), label[part].mean()] for part in bins]).T
        axes.plot(*points, "o-", color=MODEL, linewidth=1.6, ms=5, mec=PAPER, mew=0.8)
        margin = 0.04 * (high - low)
        axes.set_xlim(min(low, mean.min()) - margin, max(high, mean.max()) + margin)
        axes.set_ylim(low - margin, high + margin)
        axes.set(xlabel="prediction", ylabel="label")
        caption = (
            "Grey: one utterance at its mean prediction over seeds. Line: mean label in ten bins "
            "with equal numbers of predictions, all seeds together. On the dashed diagonal "
            "predictions are calibrated; a steeper line means that predictions are too close to "
            "the mean."
        )
    else:
        probabilities = data.probabilities
        each = [confidences(data, seed) for seed in probabilities]
        error = np.mean([calibration_error(*seed) for seed in each])
        title += f": expected calibration error {error:.3f}"
        canvas = Canvas(title, data.note(), 3.6, width=HALF)
        axes = canvas.axes[0, 0]
        axes.plot([0, 1], [0, 1], **dashed)
        x, y, count = confidence_bins(*map(np.concatenate, zip(*each, strict=True)))
        axes.plot(x, y, "-", color=MODEL, linewidth=1.4)
        axes.scatter(x, y, (3 + 11 * np.sqrt(count / count.sum())) ** 2, color=MODEL)
        several = data.task == "multilabel"
        axes.set(xlim=(0, 1.02), ylim=(0, 1.02), ylabel="present" if several else "accuracy")
        axes.set_xlabel(
            "probability of a class" if several else "confidence in the predicted class"
        )
        shown = (
            "Share of present classes in ten equal bins of their probability"
            if several
            else "Accuracy in ten equal bins of confidence"
        )
        caption = (
            f"{shown}, all seeds together; larger dots contain more predictions. On the dashed "
            "diagonal the two are equal. The expected calibration error is the distance from it, "
            "weighted by count, averaged over seeds."
        )
    grid(axes, "both")
    return canvas.chart(data, "calibration", caption)


def confusion(data: ReportData) -> Chart:
    """Show which classes are predicted for which labels."""
    counts = confusion_counts(data)
    total = data.members(data.labels).sum(0)[:, None] * len(data.seeds)
    shares = np.where(total > 0, counts / np.maximum(total, 1), np.nan)
    names = [_shortened(name) for name in data.classes]
    canvas = Canvas(
        f"Confusion of {data.name} in {len(names)} classes", data.note(), 3.6, width=HALF
    )
    axes = canvas.axes[0, 0]
    texts = [[f"{value:.0%}"[:-1] if value >= 0.005 else "" for value in row] for row in shares]
    heat_map(axes, shares, names, names, texts=texts)
    axes.tick_params(axis="x", labelrotation=15 if sum(map(len, names)) > 40 else 0)
    axes.set(xlabel="predicted", ylabel="label")
    for row, count in enumerate(total[:, 0]):
        note_right(axes, row, f"n = {count // len(data.seeds)}")
    whole = "" if data.task == "multilabel" else ", so that rows sum to 100"
    rounding = ", rounded half to even as for ACC7" if data.task == "regression" else ""
    return canvas.chart(
        data,
        "confusion",
        f"Per cent of the utterances with a label{whole}, averaged over "
        f"{counted(len(data.seeds), 'seed')}{rounding}; n is the number of utterances.",
    )


def training(data: ReportData) -> Chart | None:
    """Plot losses, validation scores and the learning rate by epoch."""
    return _curve_panels(data, "training", f"Training of {data.name}", data.training)


def pretraining(data: ReportData) -> Chart | None:
    """Plot the same for the pretrained encoders, one colour per modality."""
    title = f"Pretraining of the encoders of {data.name}, each modality alone"
    return _curve_panels(data, "pretraining", title, data.pretraining)


def corpus(data: ReportData) -> Chart:
    """Show the distribution of labels and lengths, and the share of absent modalities."""
    note = data.note(split="all splits", count=len(data.corpus.ids), seeds=None)
    canvas = Canvas(f"The data of {data.name}", note, 2.3, 1, 3)
    labels, lengths, absent = canvas.axes[0]
    _label_shares(labels, data)
    _lengths(lengths, data)
    absent.set_title("absent modalities")
    present = [data.corpus.present_NM[data.corpus.index(split)] for split in SPLITS]
    shares = np.array([1 - rows.mean(0) if len(rows) else rows.sum(0) for rows in present]).T
    texts = [[f"{value:.1%}" for value in row] for row in shares]
    high = max(float(shares.max()), 0.05)
    heat_map(absent, shares, data.corpus.modalities, SPLITS, texts=texts, high=high)
    return canvas.chart(
        data,
        "data",
        "Left: distribution of labels in each split. Middle: length of the utterances after "
        "alignment. Right: share of utterances in which a modality is absent.",
    )


def panel_title(name: str) -> str:
    """Return the readable name of a learning curve."""
    metrics = {key: title for columns in COLUMNS.values() for key, title in columns.items()}
    first, _, rest = name.partition("/")
    if first == "valid":
        return f"validation {metrics.get(rest, rest)}"
    if not rest:
        return "learning rate" if name == "lr" else name
    loss, _, space = rest.partition("_")
    suffix = f" ({space.removesuffix('geneous')})" if space else ""
    return f"{_LOSSES.get(loss, loss)}{suffix}"


def _by_metric(
    scores: Mapping[int, Mapping[str, float]], metrics: Mapping[str, str]
) -> dict[str, list[float]]:
    return {m: [seed[m] for seed in scores.values() if m in seed] for m in metrics}


def _score_panel(axes: Any, metric: str, name: str, rows: Sequence[str]) -> None:
    axes.set_title(f"{name} {'←' if deterioration_sign(metric) > 0 else '→'}")
    grid(axes, "x", 3)
    name_rows(axes, rows, labels=axes.get_subplotspec().is_first_col())


def _score_row(axes: Any, row: int, values: Sequence[float], colour: str) -> None:
    if not len(values):
        at = {"transform": axes.get_yaxis_transform(), "ha": "center", "va": "center"}
        axes.text(0.5, row, "undefined", color=MUTED, **at)
        return
    if len(values) > 1:
        dots(axes, np.array(values), np.full(len(values), row), colour, 4.6, 0.65)
    mean = float(np.mean(values))
    axes.plot([mean, mean], [row - 0.32, row + 0.32], color=colour, linewidth=2.0)


def _interval(axes: Any, row: int, interval: Mapping[str, float] | None) -> None:
    if interval:
        axes.plot([interval["low"], interval["high"]], [row, row], color=MODEL, linewidth=0.9)


def _forest(
    data: ReportData, name: str, title: str, entries: Mapping[str, Any], scores: Scores
) -> Chart | None:
    """Draw differences from the full model in two metrics, the largest deterioration on top."""
    metrics = (data.primary, SECONDARY[data.task])
    known = [name for name, entry in entries.items() if any(m in entry for m in metrics)]
    if not known:
        return None

    def improvement(variant: str) -> float:
        difference = entries[variant].get(data.primary, {}).get("difference", 0.0)
        return -deterioration_sign(data.primary) * float(difference)

    known.sort(key=improvement)
    canvas = Canvas(title, data.note(), 0.27 * len(known) + 0.6, 1, 2)
    for axes, metric in zip(canvas.axes[0], metrics, strict=True):
        axes.set_title(f"{data.columns[metric]}: other − full")
        grid(axes, "x", 5)
        first = axes.get_subplotspec().is_first_col()
        name_rows(axes, [variant_title(variant) for variant in known], labels=first)
        axes.axvline(0, color=MUTED, linewidth=0.9)
        for row, variant in enumerate(known):
            seeds = [
                values[metric] - data.test_scores[seed][metric]
                for seed, values in scores.get(variant, {}).items()
                if metric in values and metric in data.test_scores.get(seed, {})
            ]
            _difference(axes, row, entries[variant].get(metric, {}), np.array(seeds), metric)
        left, right = ("better", "worse") if deterioration_sign(metric) > 0 else ("worse", "better")
        axes.set_xlabel(f"← other is {left} · other is {right} →")
    return canvas.chart(
        data,
        name,
        "Mean difference from the full model on the same seeds. Dots: seeds; thick line: 95 % "
        "interval over seeds; thin line: 95 % interval over test utterances (bootstrap by video). "
        "Coloured where p < 0.05 after Holm's correction over all comparisons; grey differences "
        "are not significant.",
    )


def _difference(
    axes: Any, row: int, entry: Mapping[str, float], seeds: np.ndarray[Any, Any], metric: str
) -> None:
    if "difference" not in entry:
        dots(axes, seeds, np.full(len(seeds), row), OTHER, 4.2, 0.6)
        note_right(axes, row, "one seed: no interval" if len(seeds) == 1 else "undefined")
        return
    mean, p = entry["difference"], entry["p"]
    colour = OTHER
    if p < 0.05:
        colour = WORSE if mean * deterioration_sign(metric) > 0 else BETTER
    if "utterances_low" in entry:
        ends = [entry["utterances_low"], entry["utterances_high"]]
        axes.plot(ends, [row, row], color=colour, linewidth=0.9)
    ends = [entry["ci_low"], entry["ci_high"]]
    axes.plot(ends, [row, row], color=colour, linewidth=3.2, solid_capstyle="butt")
    dots(axes, seeds, np.full(len(seeds), row + 0.3), colour, 2.8, 0.8)
    axes.plot([mean], [row], "o", ms=5.5, color=colour, mec=PAPER, mew=0.8)
    note_right(axes, row, f"{mean:+.3f}, {p_value(p)}")


def p_value(p: float) -> str:
    """Return `p = .012`, or `p < .001`."""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".", 1)


def _curve_panels(data: ReportData, name: str, title: str, curves: Curves) -> Chart | None:
    def split(key: str) -> tuple[str, str]:
        """Pretrained encoders name their curves modality/name."""
        first, _, rest = key.partition("/")
        return (first, rest) if first in data.corpus.modalities else ("", key)

    def rank(key: str) -> tuple[int, str]:
        """Validation scores first, then the total loss, its terms, and the learning rate last."""
        curve = split(key)[1]
        if curve in _FIRST_CURVES:
            return _FIRST_CURVES.index(curve), curve
        loss = curve.removeprefix("train/").partition("_")[0]
        position = list(_LOSSES).index(loss) if loss in _LOSSES else 99
        return len(_FIRST_CURVES) + position + 100 * (curve == "lr"), curve

    panels: dict[str, list[str]] = {}
    for key in sorted(curves, key=rank):
        if split(key)[1] not in ("selected", "diverged"):
            panels.setdefault(split(key)[1], []).append(key)
    if not panels:
        return None
    columns, rows = 5, -(-len(panels) // 5)
    note = data.note(split="train", count=int((data.corpus.split_N == "train").sum()))
    canvas = Canvas(title, note, 1.5 * rows, rows, columns)
    for axes in canvas.axes.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (panel, keys) in zip(canvas.axes.flat, panels.items(), strict=False):
        axes.set_title(panel_title(panel))
        grid(axes, "y", 3)
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_formatter("{x:g}")
        for key in keys:
            modality = split(key)[0]
            selected = curves.get(f"{modality}/selected" if modality else "selected", {})
            colour = modality_colour(data, modality) if modality else MODEL
            _seed_curves(axes, curves[key], selected, colour, modality)
    for axes in canvas.axes.flat[max(len(panels) - columns, 0) : len(panels)]:
        axes.set_xlabel("epoch")
    if any(split(key)[0] for keys in panels.values() for key in keys):
        handles = canvas.axes.flat[0].get_legend_handles_labels()
        canvas.figure.legend(*handles, loc="outside upper right", ncols=len(handles[0]))
    return canvas.chart(
        data,
        name,
        f"Thin lines are seeds ({counted(len(data.seeds), 'seed')}), the thick line their mean "
        "while all of them train; a dot marks the epoch that is kept for a seed. Losses are means "
        "over the train split.",
    )


def _seed_curves(axes: Any, by_seed: Any, selected: Any, colour: str, label: str) -> None:
    for seed, (epochs, values) in by_seed.items():
        axes.plot(epochs, values, color=colour, linewidth=0.75, alpha=0.6)
        if seed in selected and (best := selected[seed][0][0]) in epochs:
            axes.plot([best], [values[epochs.index(best)]], "o", ms=4.5, color=colour)
    common = min(len(epochs) for epochs, _ in by_seed.values())
    mean = np.mean([values[:common] for _, values in by_seed.values()], axis=0)
    epochs = next(iter(by_seed.values()))[0][:common]
    axes.plot(epochs, mean, color=colour, linewidth=1.7, label=label)


def _shortened(name: str) -> str:
    return name if len(name) <= 16 else f"{name[:15]}…"


def _label_shares(axes: Any, data: ReportData) -> None:
    count, width = len(data.classes), 0.8 / len(SPLITS)
    for index, split in enumerate(SPLITS):
        share = data.members(data.all_labels[data.corpus.index(split)]).mean(0)
        x = np.arange(count) + (index - 1) * width
        axes.bar(x, share, width * 0.9, color=SERIES[index], label=split)
    axes.set_xticks(range(count), map(_shortened, data.classes))
    axes.tick_params(axis="x", labelrotation=20 if max(map(len, data.classes)) > 8 else 0)
    grid(axes, "y", 4)
    rounded = ", rounded" if data.task == "regression" else ""
    axes.set(title="labels, share of the split", xlabel=f"label{rounded}")
    axes.set_ylim(0, axes.get_ylim()[1] * 1.25)
    axes.legend(ncols=3, loc="upper center", columnspacing=1.0, handlelength=0.9)


def _lengths(axes: Any, data: ReportData) -> None:
    corpus = data.corpus
    aligned = corpus.alignment == "word"
    longest = max(int(corpus.features[m].lengths.max(initial=1)) for m in corpus.modalities)
    width = -(-(longest + 1) // 30)
    edges = np.arange(0, longest + width + 1, width) - 0.5
    # Aligned modalities have the same lengths: one is enough.
    for modality in corpus.modalities[:1] if aligned else corpus.modalities:
        counts, _ = np.histogram(corpus.features[modality].lengths, edges)
        colour = OTHER if aligned else modality_colour(data, modality)
        share = counts / max(len(corpus.ids), 1)
        axes.stairs(share, edges, fill=aligned, color=colour, linewidth=1.4, label=modality)
    grid(axes, "y", 4)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_title("length, share of utterances")
    axes.set_xlabel("words" if aligned else "steps of each modality")
    if not aligned:
        axes.legend()
