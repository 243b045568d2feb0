"""What the model says of the test utterances, beside their labels.

S seeds, T test utterances, C classes.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from dhmd.report.inputs import Inputs, counted
from dhmd.report.sheet import (
    HALF,
    MODEL,
    OTHER,
    Array,
    Picture,
    Sheet,
    dots,
    grid,
    labels,
    matrix,
    say,
)
from dhmd.report.svg import Ink

_BINS: Final = 10
_SIDE: Final = 3.2
_LONGEST_NAME: Final = 16
_MOST_LETTERS: Final = 40  # of the classes' names side by side


def calibration(inputs: Inputs) -> Picture:
    """Labels against predictions; of a classification, accuracy against confidence."""
    return _confidence(inputs) if inputs.probabilities is not None else _values(inputs)


def _values(inputs: Inputs) -> Picture:
    title = f"Calibration of {inputs.name}"
    sheet = Sheet("calibration", title, inputs.note(), HALF, _SIDE + 0.75)
    axes = sheet.axes(0.75, 0.25, 3.9, _SIDE)
    low, high = inputs.corpus.low, inputs.corpus.high
    values = inputs.predictions.values
    mean = values.mean(0)
    axes.plot([low, high], [low, high], color=Ink.MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    dots(axes, mean, inputs.labels, OTHER, 3.2, 0.55)
    flat = values.ravel()
    label = np.broadcast_to(inputs.labels, values.shape).ravel()
    parts = np.array_split(np.argsort(flat, kind="stable"), min(_BINS, values.shape[1]))
    x = np.array([flat[part].mean() for part in parts])
    y = np.array([label[part].mean() for part in parts])
    axes.plot(x, y, "o-", color=MODEL, linewidth=1.6, markersize=5, markeredgecolor=Ink.PAPER)
    room = 0.04 * (high - low)
    axes.set_xlim(min(low, mean.min()) - room, max(high, mean.max()) + room)
    axes.set_ylim(low - room, high + room)
    grid(axes, "both")
    labels(axes, "prediction", "label")
    return sheet.finish(
        "Grey: an utterance at its mean prediction over seeds. Line: mean label in ten bins of "
        "equally many predictions, all seeds together; on the dashed diagonal a prediction means "
        "what it says, a steeper line means that predictions are too timid."
    )


def _confidence(inputs: Inputs) -> Picture:
    assert inputs.probabilities is not None
    error = np.mean([calibration_error(p, inputs.labels) for p in inputs.probabilities])
    title = f"Calibration of {inputs.name}: expected error {error:.3f}"
    sheet = Sheet("calibration", title, inputs.note(), HALF, _SIDE + 0.75)
    axes = sheet.axes(0.75, 0.25, 3.9, _SIDE)
    axes.plot([0, 1], [0, 1], color=Ink.MUTED, linewidth=0.8, linestyle=(0, (4, 3)))
    confidence = inputs.probabilities.max(2).ravel()
    right = (inputs.probabilities.argmax(2) == inputs.labels).ravel()
    x, y, count = confidence_bins(confidence, right)
    axes.plot(x, y, "-", color=MODEL, linewidth=1.4)
    for a, b, n in zip(x, y, count, strict=True):
        axes.plot([a], [b], "o", color=MODEL, markersize=3 + 11 * np.sqrt(n / count.sum()))
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    grid(axes, "both")
    labels(axes, "confidence in the predicted class", "accuracy")
    return sheet.finish(
        "Accuracy of the predictions in ten equal bins of their confidence, all seeds together; "
        "larger dots hold more. On the dashed diagonal confidence means what it says. The expected "
        "calibration error is the distance from it, weighted by count, mean over seeds."
    )


def confidence_bins(confidence: Array, right: Array) -> tuple[Array, Array, Array]:
    """Mean confidence, accuracy and count of the bins that hold anything."""
    place = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    count = np.bincount(place, minlength=_BINS)
    kept = count > 0
    sums = np.bincount(place, weights=confidence, minlength=_BINS)
    good = np.bincount(place, weights=right.astype(np.float64), minlength=_BINS)
    return sums[kept] / count[kept], good[kept] / count[kept], count[kept]


def calibration_error(probabilities: Array, truth: Array) -> float:
    """The expected calibration error of one seed's probabilities `[T, C]`."""
    right = probabilities.argmax(1) == truth
    x, y, count = confidence_bins(probabilities.max(1), right)
    return float((np.abs(x - y) * count).sum() / count.sum())


def confusion_counts(inputs: Inputs) -> Array:
    """How often each class `[true, predicted]` was said, over all seeds."""
    count = len(inputs.classes)
    truth = inputs.class_of(inputs.labels)
    cells = [truth * count + inputs.class_of(values) for values in inputs.predictions.values]
    flat: Array = np.bincount(np.concatenate(cells), minlength=count * count)
    return flat.reshape(count, count)


def confusion(inputs: Inputs) -> Picture:
    """Which classes are taken for which."""
    counts = confusion_counts(inputs)
    support = counts.sum(1, keepdims=True)
    shares = np.where(support > 0, counts / np.maximum(support, 1), np.nan)
    names = [shortened(name) for name in inputs.classes]
    left = 0.55 + 0.075 * max(map(len, names))
    title = f"Confusion of {inputs.name} in {len(names)} classes"
    sheet = Sheet("confusion", title, inputs.note(), HALF, _SIDE + 0.75)
    axes = sheet.axes(left, 0.25, HALF - left - 0.75, _SIDE)
    texts = [[f"{value:.0%}"[:-1] if value >= 0.005 else "" for value in row] for row in shares]
    matrix(axes, shares, names, names, texts=texts)
    if sum(map(len, names)) > _MOST_LETTERS:
        axes.tick_params(axis="x", labelrotation=15)
    labels(axes, "predicted", "label")
    seeds = max(len(inputs.seeds), 1)
    for row, total in enumerate(support[:, 0]):
        text = f"n = {total // seeds}"
        place = axes.get_yaxis_transform()
        say(axes, 1.02, row, text, transform=place, va="center", color=Ink.MUTED, fontsize=7.5)
    rounded = "" if inputs.task == "classification" else ", rounded half to even as for ACC7"
    return sheet.finish(
        f"Per cent of a label's utterances, so that rows sum to 100 (mean over "
        f"{counted(seeds, 'seed')}{rounded}); n counts the label's utterances."
    )


def shortened(name: str) -> str:
    """A class's name, as much of it as fits beside a picture."""
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def worst(inputs: Inputs, most: int) -> list[dict[str, Any]]:
    """The utterances that all seeds together miss most, worst first.

    Each: id, label, prediction, spread (over seeds; of a classification the true class's mean
    probability), error, words, and on generated data the planted truth.
    """
    values, labels_T = inputs.predictions.values, inputs.labels
    if inputs.probabilities is not None:
        truth = labels_T.astype(int)
        chance = inputs.probabilities.mean(0)
        error = 1.0 - chance[np.arange(len(truth)), truth]
    else:
        error = np.abs(values - labels_T).mean(0)
    found = []
    for place in np.argsort(-error, kind="stable")[:most]:
        row = int(inputs.rows[place])
        words = inputs.corpus.words
        entry: dict[str, Any] = {
            "id": inputs.corpus.ids[row],
            "label": float(labels_T[place]),
            "error": float(error[place]),
            "words": None if words is None else " ".join(words[row]),
            "absent": [m for i, m in enumerate(inputs.modalities) if not inputs.present[row, i]],
        }
        if inputs.probabilities is not None:
            entry["prediction"] = int(chance[place].argmax())
        else:
            entry["prediction"] = float(values[:, place].mean())
            entry["spread"] = float(values[:, place].std(ddof=1)) if len(values) > 1 else None
        if inputs.truth is not None:
            entry["truth"] = float(inputs.truth[place])
        found.append(entry)
    return found
