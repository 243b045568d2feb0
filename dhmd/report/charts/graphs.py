"""The GD-Units: who teaches whom, how much it varies, and whether that follows the planted truth.

S seeds, N utterances, M modalities; edges are [source, target].
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from matplotlib.patches import Arc, Circle, FancyArrowPatch

from dhmd.evaluation.job import RELIABILITY_PREFIX
from dhmd.report.inputs import Inputs, Space
from dhmd.report.sheet import (
    MODALITY,
    OTHER,
    WIDE,
    Array,
    Picture,
    Sheet,
    few_ticks,
    grid,
    heading,
    labels,
    matrix,
    rows,
    say,
    signed,
)
from dhmd.report.svg import Ink

_HEIGHT: Final = 2.75  # of one space's row of panels
_BINS: Final = 6
_LEAST_IN_BIN: Final = 5
_BEND: Final = 0.18
_QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)


def edges(inputs: Inputs) -> Picture | None:
    """Mean edges as heat map and graph, and their spread; None where there is nobody to teach."""
    spaces = [space for space in inputs.spaces if space.edges is not None]
    if not spaces or len(inputs.modalities) < 2:
        return None
    title = f"Distillation edges of {inputs.name}, by space"
    sheet = Sheet("edges", title, inputs.note(), WIDE, _HEIGHT * len(spaces) + 0.05)
    for index, space in enumerate(spaces):
        top = index * _HEIGHT + 0.35
        entry = inputs.tables["edges"][space.name]
        mean = _array(entry["mean"])
        spread = _array(entry["sd_samples"])
        name = gd_unit(space.name)
        heat = sheet.axes(0.8, top, 2.3, 1.8)
        heading(heat, f"{name}: weight, ± sd over samples")
        texts = [
            [f"{m:.2f}\n±{s:.2f}" for m, s in zip(*line, strict=True)]
            for line in zip(mean, spread, strict=True)
        ]
        matrix(heat, mean, inputs.modalities, inputs.modalities, texts=texts, high=1.0)
        labels(heat, "taught (target)", "teacher (source)")
        graph = sheet.axes(3.45, top - 0.1, 2.6, 2.3)
        _graph(graph, mean, inputs.modalities)
        spreads = sheet.axes(7.15, top, 2.65, 1.8)
        heading(spreads, "spread over samples")
        _spread(spreads, _test_edges(inputs, space), inputs.modalities)
        labels(spreads, "edge weight (teacher → taught)")
    return sheet.finish(
        "An utterance's weights into a target sum to 1; a loop is self-distillation. Left: means "
        "over utterances and seeds. Middle: the same as a graph, width by weight. Right: quantiles "
        "over utterances (5–95 % thin, 25–75 % thick, median), averaged over seeds."
    )


def reliability(inputs: Inputs) -> Picture | None:
    """Edges against the planted reliability of their source; None for real data."""
    planted = {
        name: inputs.corpus.planted[RELIABILITY_PREFIX + name]
        for name in inputs.modalities
        if RELIABILITY_PREFIX + name in inputs.corpus.planted
    }
    spaces = [space for space in inputs.spaces if space.edges is not None]
    if not planted or not spaces or len(inputs.modalities) < 2:
        return None
    valid = inputs.corpus.index("valid")
    title = f"Do {inputs.name}'s edges follow the planted reliability of the teacher?"
    note = inputs.note(split="validation", count=len(valid))
    sheet = Sheet("edge_reliability", title, note, WIDE, 2.25 * len(spaces) + 0.1)
    width = (WIDE - 0.75) / max(len(planted), 3)
    for row, space in enumerate(spaces):
        correlation = _array(inputs.tables["edges"][space.name]["rank_correlation"])
        assert space.edges is not None
        first = None
        for column, (name, values) in enumerate(planted.items()):
            place = (0.7 + column * width, row * 2.25 + 0.35, width - 0.45, 1.35)
            axes = sheet.axes(*place)
            source = inputs.modalities.index(name)
            rho = correlation[source]
            known = (
                f", test ρ = {signed(float(np.nanmean(rho)), 2)}" if np.isfinite(rho).any() else ""
            )
            heading(axes, f"{gd_unit(space.name)}: {name} as teacher{known}")
            weights = space.edges[:, valid][:, :, source]
            _binned(axes, weights, values[valid], inputs.modalities)
            labels(axes, f"planted reliability of {name}", "edge weight" if column == 0 else "")
            first = first or axes
            # One scale a row: how steep a line is must compare between teachers.
            axes.sharey(first)
    return sheet.finish(
        f"Mean edge weight by the teacher's planted reliability, in {_BINS} equal steps (those of "
        f"at least {_LEAST_IN_BIN} utterances); a line a target (blue text, orange audio, green "
        "vision), averaged over seeds, with standard errors over utterances. A rising line says "
        "that the edge sees when its teacher can be trusted. The lines are of the validation "
        "split; ρ is the rank correlation on the test split, mean over targets and seeds."
    )


def gd_unit(space: str) -> str:
    """The unit's name as the paper has it."""
    return {"homogeneous": "HomoGD", "heterogeneous": "HeteroGD"}[space]


def _array(nested: Any) -> Array:
    return np.array(
        [[np.nan if value is None else value for value in line] for line in nested], dtype=float
    )


def _test_edges(inputs: Inputs, space: Space) -> Array:
    assert space.edges is not None
    weights = space.edges[:, inputs.rows].astype(np.float64)
    there = inputs.present[inputs.rows]
    known: Array = np.where(there[:, :, None] & there[:, None, :], weights, np.nan)
    return known


def _graph(axes: Any, mean: Array, names: tuple[str, ...]) -> None:
    """Vertices on a circle, arrows as wide as their weight."""
    axes.set_axis_off()
    axes.set_xlim(-1.75, 1.75)
    axes.set_ylim(-1.35, 1.9)
    axes.set_aspect("equal")
    count = len(names)
    angles = [math.pi / 2 - 2 * math.pi * i / count for i in range(count)]
    if count == 2:
        angles = [math.pi, 0.0]
    places = [(math.cos(a), math.sin(a)) for a in angles]
    for source, start in enumerate(places):
        colour = MODALITY.get(names[source], OTHER)
        for target, end in enumerate(places):
            weight = mean[source, target]
            if not np.isfinite(weight):
                continue
            if source == target:
                _loop(axes, start, angles[source], weight, colour)
            else:
                _arrow(axes, start, end, weight, colour)
    for name, (x, y) in zip(names, places, strict=True):
        colour = MODALITY.get(name, OTHER)
        axes.add_patch(Circle((x, y), 0.29, facecolor=colour, edgecolor=Ink.PAPER, zorder=3))
        say(axes, x, y, name, ha="center", va="center", color="#ffffff", fontsize=8, zorder=4)


def _arrow(
    axes: Any, start: tuple[float, float], end: tuple[float, float], weight: float, colour: str
) -> None:
    axes.add_patch(
        FancyArrowPatch(
            start,
            end,
            connectionstyle=f"arc3,rad={_BEND}",
            arrowstyle="-|>,head_length=5,head_width=2.6",
            shrinkA=17,
            shrinkB=18,
            linewidth=0.5 + 6 * weight,
            color=colour,
            alpha=0.85,
            mutation_scale=1.0,
        )
    )
    # On the bend (a parabola with its control point off the middle), a little before its middle.
    t = 0.44
    bend = 2 * t * (1 - t) * _BEND
    x = (1 - t) * start[0] + t * end[0] + bend * (end[1] - start[1])
    y = (1 - t) * start[1] + t * end[1] - bend * (end[0] - start[0])
    _weight(axes, (x, y), weight, colour, ("center", "center"))


def _weight(
    axes: Any, at: tuple[float, float], weight: float, colour: str, side: tuple[str, str]
) -> None:
    ground = {"facecolor": Ink.PAPER, "edgecolor": "none", "pad": 0.8}
    style: dict[str, Any] = {"fontsize": 7.5, "color": colour, "bbox": ground, "zorder": 5}
    say(axes, *at, f"{weight:.2f}", ha=side[0], va=side[1], **style)


def _loop(axes: Any, place: tuple[float, float], angle: float, weight: float, colour: str) -> None:
    x, y = place[0] + 0.36 * math.cos(angle), place[1] + 0.36 * math.sin(angle)
    axes.add_patch(
        Arc((x, y), 0.5, 0.5, linewidth=0.5 + 6 * weight, color=colour, alpha=0.85, zorder=2)
    )
    right = math.cos(angle)
    side = (
        ("center", "bottom") if abs(right) < 0.5 else ("left" if right > 0 else "right", "center")
    )
    at = (place[0] + 0.7 * right, place[1] + 0.7 * math.sin(angle))
    _weight(axes, at, weight, colour, side)


def _spread(axes: Any, weights: Array, names: tuple[str, ...]) -> None:
    """Quantiles over utterances of every edge."""
    pairs = [(i, j) for j in range(len(names)) for i in range(len(names))]
    rows(axes, [f"{names[i]} → {names[j]}" for i, j in pairs])
    axes.tick_params(axis="y", labelsize=7.5)
    axes.set_xlim(0, 1.02)
    grid(axes, "x")
    for place, (i, j) in enumerate(pairs):
        found = weights[:, :, i, j]
        found = found[:, np.isfinite(found).all(0)]
        if not found.shape[1]:
            continue
        low, first, median, third, high = np.quantile(found, _QUANTILES, axis=1).mean(1)
        colour = MODALITY.get(names[i], OTHER)
        axes.plot([low, high], [place, place], color=colour, linewidth=0.9)
        axes.plot(
            [first, third], [place, place], color=colour, linewidth=4.5, solid_capstyle="butt"
        )
        axes.plot([median], [place], "o", markersize=3.6, color=Ink.PAPER, markeredgecolor=colour)
        if i == len(names) - 1 and j < len(names) - 1:
            axes.axhline(place + 0.5, color=Ink.LINE, linewidth=0.8)


def _binned(axes: Any, weights: Array, values: Array, names: tuple[str, ...]) -> None:
    """`weights` [S, N, target] against `values` [N], a line a target."""
    grid(axes, "y")
    few_ticks(axes, "y", 4)
    for target, name in enumerate(names):
        found = weights[:, :, target].astype(np.float64)
        known = np.isfinite(found).all(0) & np.isfinite(values)
        if not known.any():
            continue
        x, y = values[known], found[:, known].mean(0)
        step = np.digitize(x, np.linspace(x.min(), x.max(), _BINS + 1)[1:-1])
        parts = [np.flatnonzero(step == index) for index in range(_BINS)]
        parts = [part for part in parts if len(part) >= _LEAST_IN_BIN]
        axes.errorbar(
            [x[part].mean() for part in parts],
            [y[part].mean() for part in parts],
            [y[part].std(ddof=1) / math.sqrt(len(part)) for part in parts],
            color=MODALITY.get(name, OTHER),
            linewidth=1.3,
            marker="o",
            markersize=3,
            elinewidth=0.8,
        )
