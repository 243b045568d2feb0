"""The two spaces' features in the plane: do modalities mix, do labels separate?"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D

from dhmd.report.inputs import Inputs, Space
from dhmd.report.sheet import (
    DIVERGING,
    MODALITY,
    OTHER,
    SERIES,
    WIDE,
    Array,
    Picture,
    Sheet,
    dots,
    heading,
    labels,
)
from dhmd.report.svg import Ink

# More points hide each other and only make the page heavy.
MOST_UTTERANCES: Final = 500
_LABEL_STEPS: Final = 9
_HEIGHT: Final = 2.9


def plane(points: Array) -> tuple[Array, Array]:
    """The two main components `[P, 2]` of points `[P, D]`, and their shares of the variance `[2]`.

    Signs are fixed by the largest loading of each component, so that runs look alike.
    """
    centred = points.astype(np.float64) - points.mean(0, dtype=np.float64)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, ::-1][:, :2]
    if axes.shape[1] < 2:
        axes = np.concatenate([axes, np.zeros_like(axes)], axis=1)
    largest = np.abs(axes).argmax(0)
    axes = axes * np.where(axes[largest, [0, 1]] < 0, -1.0, 1.0)
    projected = centred @ axes
    total = float((centred**2).sum())
    share = (projected**2).sum(0) / total if total > 0 else np.zeros(2)
    return projected, share


def embeddings(inputs: Inputs) -> Picture | None:
    """Both spaces, coloured by modality and by label; None where the model has no spaces."""
    spaces = [space for space in inputs.spaces if space.embedding is not None]
    if not spaces:
        return None
    step = -(-len(inputs.rows) // MOST_UTTERANCES)
    shown = np.arange(0, len(inputs.rows), step)
    title = f"Features of {inputs.name}'s two spaces in the plane (PCA)"
    note = inputs.note(seeds=1) + (f" · every {step}th shown" if step > 1 else "")
    sheet = Sheet("embeddings", title, note, WIDE, _HEIGHT * len(spaces) + 0.1)
    for row, space in enumerate(spaces):
        _space(sheet, inputs, space, shown, row * _HEIGHT + 0.35)
    return sheet.finish(
        "One plane a space, found on all modalities together; a dot is one modality of one test "
        "utterance, the same dots left and right. The homogeneous space is meant to mix modalities "
        "and to order labels, the heterogeneous one to keep modalities apart."
    )


def _space(sheet: Sheet, inputs: Inputs, space: Space, shown: Array, top: float) -> None:
    assert space.embedding is not None
    rows = inputs.rows[shown]
    values = space.embedding[rows].astype(np.float64)
    there = inputs.present[rows] & np.isfinite(values).all(2)
    points, share = plane(values[there])
    modality = np.nonzero(there)[1]
    label = np.broadcast_to(inputs.labels[shown][:, None], there.shape)[there]
    left = sheet.axes(0.6, top, 3.4, 2.25)
    right = sheet.axes(5.3, top, 3.4, 2.25)
    heading(left, f"{space.name}, by modality")
    heading(right, f"{space.name}, by label")
    for index, name in enumerate(inputs.modalities):
        _some(left, points[modality == index], MODALITY.get(name, OTHER))
    handles = [_handle(name, MODALITY.get(name, OTHER)) for name in inputs.modalities]
    _legend(left, handles)
    if inputs.task == "classification":
        colours = {n: SERIES[i % len(SERIES)] for i, n in enumerate(inputs.corpus.class_names)}
        for index, colour in enumerate(colours.values()):
            _some(right, points[label == index], colour)
        _legend(right, [_handle(name, colour) for name, colour in colours.items()])
    else:
        _by_value(sheet, right, points, label, inputs, top)
    for axes in (left, right):
        axes.set_xticks([])
        axes.set_yticks([])
        first, second = (f"component {i + 1} ({share[i]:.0%})" for i in range(2))
        labels(axes, first, second)


def _by_value(
    sheet: Sheet, axes: Any, points: Array, label: Array, inputs: Inputs, top: float
) -> None:
    low, high = inputs.corpus.low, inputs.corpus.high
    width = (high - low) / _LABEL_STEPS
    step = np.clip(((label - low) / width).astype(int), 0, _LABEL_STEPS - 1)
    for index in range(_LABEL_STEPS):
        colour = DIVERGING((index + 0.5) / _LABEL_STEPS)
        _some(axes, points[step == index], colour)
    bar = sheet.axes(8.95, top, 0.13, 2.25)
    scale = sheet.figure.colorbar(
        ScalarMappable(Normalize(low, high), DIVERGING.resampled(_LABEL_STEPS)), cax=bar
    )
    scale.outline.set_visible(False)
    scale.set_label("label", fontsize=8, color=Ink.MUTED)
    scale.ax.tick_params(colors=Ink.MUTED, labelsize=8, width=0.7, length=3)


def _some(axes: Any, points: Array, colour: Any) -> None:
    dots(axes, points[:, 0], points[:, 1], colour, 3.4, 0.75)


def _handle(name: str, colour: str) -> Line2D:
    return Line2D([], [], marker="o", linestyle="none", color=colour, markersize=5, label=name)


def _legend(axes: Any, handles: list[Line2D]) -> None:
    axes.legend(
        handles=handles,
        fontsize=8,
        frameon=False,
        labelcolor=Ink.TEXT,
        loc="upper left",
        bbox_to_anchor=(1.0, 1.0),
        handletextpad=0.2,
        borderaxespad=0.2,
    )
