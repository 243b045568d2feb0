"""Figures of what the model computed: distillation edges, dictionaries, embeddings.

Each function returns a finished `Chart`, or None where the model has no such component.
S seeds, N utterances of the corpus, T utterances of the test split, M modalities, K codes.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Arc, Circle, FancyArrowPatch
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter

from dhmd.report.analysis import (
    activation_by_group,
    mean_activation,
    only,
    principal_plane,
    used_codes,
)
from dhmd.report.data import Array, ReportData, Space
from dhmd.report.style import (
    DIVERGING,
    LINE,
    MUTED,
    PAPER,
    SERIES,
    SMALL,
    Canvas,
    Chart,
    dots,
    grid,
    heat_map,
    modality_colour,
    name_rows,
)

UNITS: Final = {"homogeneous": "HomoGD", "heterogeneous": "HeteroGD"}
_MAX_EMBEDDED: Final = 500  # utterances: more points hide each other


def has_edges(data: ReportData) -> bool:
    """Return whether the model has a distillation graph."""
    return any(space.edges is not None for space in data.spaces)


def edges(data: ReportData) -> Chart | None:
    """Show the mean edge weights as a heat map and a graph, and their spread over utterances."""
    spaces = [space for space in data.spaces if space.edges is not None]
    count = len(data.modalities)
    if not spaces or count < 2:
        return None
    height = max(2.9, 0.17 * count**2 + 0.8) * len(spaces)
    title = f"Distillation edges of {data.name}, by space"
    canvas = Canvas(title, data.note(), height, len(spaces), 3, width_ratios=[1, 1.3, 1])
    for (heat, graph, spread), space in zip(canvas.axes, spaces, strict=True):
        entry = data.edges[space.name]
        mean, sd = matrix(entry["mean"]), matrix(entry["sd_samples"])
        heat.set_title(f"{UNITS[space.name]}: weight, ± std over utterances")
        texts = [
            [f"{m:.2f}\n±{s:.2f}" for m, s in zip(*line, strict=True)]
            for line in zip(mean, sd, strict=True)
        ]
        heat_map(heat, mean, data.modalities, data.modalities, texts=texts, high=1.0)
        heat.set(xlabel="student (target)", ylabel="teacher (source)")
        _graph(graph, mean, data)
        _edge_spread(spread, space, data)
    return canvas.chart(
        data,
        "edges",
        "The weights into one target sum to 1 for every utterance; a loop is self-distillation. "
        "Left: means over utterances and seeds. Middle: the same as a graph, line width by weight. "
        "Right: quantiles over utterances (5–95 % thin, 25–75 % thick, median), averaged over "
        "seeds.",
    )


def edge_reliability(data: ReportData) -> Chart | None:
    """Plot edges against the true reliability of their source, which generated data provide."""
    known = {m: r for m in data.modalities if (r := data.reliability(m)) is not None}
    spaces = [space for space in data.spaces if space.edges is not None]
    if not known or not spaces or len(data.modalities) < 2:
        return None
    valid = data.corpus.index("valid")
    title = f"Do the edges of {data.name} follow the true reliability of the teacher?"
    note = data.note(split="validation", count=len(valid))
    size = (len(spaces), len(known))
    canvas = Canvas(title, note, 2.0 * len(spaces), *size, sharey="row")
    for line, space in zip(canvas.axes, spaces, strict=True):
        assert space.edges is not None
        correlation = matrix(data.edges[space.name]["rank_correlation"])
        for axes, (modality, values) in zip(line, known.items(), strict=True):
            source = data.modalities.index(modality)
            rho = correlation[source]
            text = f", ρ = {np.nanmean(rho):+.2f}" if np.isfinite(rho).any() else ""
            axes.set_title(f"{UNITS[space.name]}: {modality}{text}")
            _binned_edges(axes, space.edges[:, valid][:, :, source], values[valid], data)
            axes.set_xlabel(f"true reliability of {modality}")
        line[0].set_ylabel("edge weight")
    canvas.axes[0, -1].legend(title="target", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return canvas.chart(
        data,
        "edge_reliability",
        "Mean edge weight by the true reliability of the teacher named above each panel, in six "
        "equal steps with at least five utterances; one line per target, averaged over seeds, with "
        "standard errors over utterances. A rising line means that the edge detects when its "
        "teacher can be trusted. Lines show the validation split; ρ is the rank correlation on the "
        "test split, averaged over targets and seeds.",
    )


def dictionary(data: ReportData, space: Space) -> Chart | None:
    """Show mean code activations by modality and class, and the use of codes by rank."""
    if space.codes is None:
        return None
    codes, present = space.codes[data.rows], data.present[data.rows]
    chosen = used_codes(codes, present, 20)
    if not len(chosen):
        return None
    names, values = activation_by_group(data, space, chosen)
    title = f"Dictionary of the {space.name} space of {data.name}"
    height = max(0.21 * len(names), 1.7) + 0.5
    canvas = Canvas(title, data.note(seeds=1), height, 1, 2, width_ratios=[2.4, 1])
    heat, usage = canvas.axes[0]
    top = float(np.nanmax(values, initial=0.0))
    heat.set_title(f"mean activation of the {len(chosen)} most used codes (0 to {top:.2f})")
    heat_map(heat, values, names, [str(code) for code in chosen])
    for index in range(1, len(data.modalities)):
        heat.axhline(index * len(names) / len(data.modalities) - 0.5, color=MUTED, linewidth=0.8)
    heat.set_xlabel("code")
    usage.set_title(f"codes by rank, of {codes.shape[2]}")
    for index, modality in enumerate(data.modalities):
        ranked = np.sort(mean_activation(codes, only(present, index)))[::-1]
        ranked = ranked[ranked > 0]
        style = {"ms": 2.5, "linewidth": 1.2, "color": modality_colour(data, modality)}
        usage.plot(np.arange(1, len(ranked) + 1), ranked, "o-", label=modality, **style)
    usage.set(xscale="log", yscale="log", xlabel="rank of the code", ylabel="mean activation")
    grid(usage, "y")
    usage.xaxis.set_major_locator(FixedLocator([1, 2, 5, 10, 20, 50, 100, 200, 500]))
    usage.xaxis.set_major_formatter("{x:.0f}")
    usage.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    usage.yaxis.set_major_formatter("{x:g}")
    for axis in (usage.xaxis, usage.yaxis):
        axis.set_minor_formatter(NullFormatter())
    usage.legend(loc="lower left")
    return canvas.chart(
        data,
        f"dictionary_{space.name}",
        "The activations of one utterance and modality sum to 1. Left: rows are modality and class "
        "of the label. Equal patterns across modalities are shared codes; different patterns "
        "across classes are codes that separate classes. Right: how the activation is distributed "
        "over codes; codes that are never active are left out.",
    )


def embeddings(data: ReportData) -> Chart | None:
    """Project the pooled features of both spaces onto a plane, by modality and by label."""
    spaces = [space for space in data.spaces if space.embedding is not None]
    if not spaces:
        return None
    step = -(-len(data.rows) // _MAX_EMBEDDED)
    note = data.note(seeds=1) + (f" · every {step}th is shown" if step > 1 else "")
    title = f"Features of the two spaces of {data.name} in the plane (PCA)"
    canvas = Canvas(title, note, 2.8 * len(spaces), len(spaces), 2)
    for (left, right), space in zip(canvas.axes, spaces, strict=True):
        _embedding(canvas.figure, left, right, data, space, np.arange(0, len(data.rows), step))
    return canvas.chart(
        data,
        "embeddings",
        "One projection per space, computed on all modalities together; a dot is one modality of "
        "one test utterance, the same dots left and right. The homogeneous space should mix "
        "modalities and order labels; the heterogeneous space should separate modalities.",
    )


def matrix(nested: Any) -> Array:
    """Read a matrix of metrics/, where an undefined value is null."""
    return np.array(nested, dtype=object).astype(float)


def _graph(axes: Any, mean: Array, data: ReportData) -> None:
    """Draw modalities on a circle, with arrows as wide as their weight."""
    axes.set_axis_off()
    axes.set(xlim=(-1.7, 1.7), ylim=(-1.3, 2.0), aspect="equal")
    count = len(data.modalities)
    start = math.pi if count == 2 else math.pi / 2
    angles = [start - 2 * math.pi * index / count for index in range(count)]
    points = np.array([[math.cos(angle), math.sin(angle)] for angle in angles])
    for source, modality in enumerate(data.modalities):
        colour = modality_colour(data, modality)
        style: dict[str, Any] = {"color": colour, "alpha": 0.85}
        for target in range(count):
            weight = mean[source, target]
            if not np.isfinite(weight):
                continue
            width = 0.5 + 6 * weight
            if source == target:
                at = 1.72 * points[source]
                loop = Arc(1.36 * points[source], 0.5, 0.5, linewidth=width, **style)
                axes.add_patch(loop)
            else:
                # The label is on the curve, slightly before its middle.
                along = points[target] - points[source]
                at = points[source] + 0.44 * along + 0.09 * np.array([along[1], -along[0]])
                arrow = FancyArrowPatch(
                    points[source],
                    points[target],
                    connectionstyle="arc3,rad=0.18",
                    arrowstyle="-|>,head_length=5,head_width=2.6",
                    shrinkA=17,
                    shrinkB=18,
                    linewidth=width,
                    mutation_scale=1.0,
                    **style,
                )
                axes.add_patch(arrow)
            box = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.8}
            text: dict[str, Any] = {"color": colour, "fontsize": SMALL, "bbox": box, "zorder": 5}
            axes.text(*at, f"{weight:.2f}", ha="center", va="center", **text)
        axes.add_patch(Circle(points[source], 0.29, facecolor=colour, edgecolor=PAPER, zorder=3))
        centre = {"ha": "center", "va": "center", "zorder": 4}
        axes.text(*points[source], modality, color="#ffffff", **centre)


def _edge_spread(axes: Any, space: Space, data: ReportData) -> None:
    """Draw the quantiles over test utterances of every edge."""
    assert space.edges is not None
    axes.set(title="spread over utterances", xlabel="edge weight (teacher → student)")
    present = data.present[data.rows]
    weights = space.edges[:, data.rows].astype(np.float64)
    weights = np.where(present[:, :, None] & present[:, None, :], weights, np.nan)
    names, count = data.modalities, len(data.modalities)
    pairs = [(source, target) for target in range(count) for source in range(count)]
    name_rows(axes, [f"{names[source]} → {names[target]}" for source, target in pairs])
    axes.set_xlim(0, 1.02)
    grid(axes, "x")
    for row, (source, target) in enumerate(pairs):
        found = weights[:, :, source, target]
        found = found[:, np.isfinite(found).all(0)]
        if source == 0 and target:
            axes.axhline(row - 0.5, color=LINE, linewidth=0.8)
        if not found.shape[1]:
            continue
        quantiles = np.quantile(found, (0.05, 0.25, 0.5, 0.75, 0.95), axis=1).mean(1)
        colour = modality_colour(data, names[source])
        axes.plot(quantiles[[0, 4]], [row, row], color=colour, linewidth=0.9)
        axes.plot(quantiles[[1, 3]], [row, row], color=colour, lw=4.5, solid_capstyle="butt")
        axes.plot(quantiles[2], row, "o", ms=3.6, color=PAPER, mec=colour, mew=1)


def _binned_edges(axes: Any, weights: Array, reliability: Array, data: ReportData) -> None:
    """Plot `weights` `[S, N, target]` by `reliability` `[N]`, one line per target."""
    grid(axes, "y", 4)
    for target, name in enumerate(data.modalities):
        found = weights[:, :, target].astype(np.float64)
        known = np.isfinite(found).all(0) & np.isfinite(reliability)
        if not known.any():
            continue
        x, y = reliability[known], found[:, known].mean(0)
        bins = np.digitize(x, np.linspace(x.min(), x.max(), 7)[1:-1])
        parts = [part for i in range(6) if len(part := np.flatnonzero(bins == i)) >= 5]
        axes.errorbar(
            [x[part].mean() for part in parts],
            [y[part].mean() for part in parts],
            [y[part].std(ddof=1) / math.sqrt(len(part)) for part in parts],
            color=modality_colour(data, name),
            label=name,
            linewidth=1.3,
            marker="o",
            markersize=3,
            elinewidth=0.8,
        )


def _embedding(
    figure: Any, left: Any, right: Any, data: ReportData, space: Space, shown: Array
) -> None:
    """Draw one space, coloured by modality (left) and by label (right)."""
    assert space.embedding is not None
    rows = data.rows[shown]
    values = space.embedding[rows].astype(np.float64)
    present = data.present[rows] & np.isfinite(values).all(2)
    points, share = principal_plane(values[present])
    modality = np.nonzero(present)[1]
    label = np.broadcast_to(data.labels[shown][:, None], present.shape)[present]
    colours = [modality_colour(data, name) for name in data.modalities]
    _clouds(left, points, modality, colours, data.modalities)
    if data.task != "regression":
        members, names = data.members(label), data.classes
        group = members.argmax(1)
        if data.task == "multilabel":
            count, names = members.sum(1), (*names, "none", "several")
            group = np.where(count == 1, group, len(data.classes) + (count > 1))
        colours = [SERIES[index % len(SERIES)] for index in range(len(data.classes))]
        colours += [LINE, MUTED]
        _clouds(right, points, group, colours, names)
    else:
        steps = 9
        low, high = data.corpus.low, data.corpus.high
        step = np.clip(((label - low) / (high - low) * steps).astype(int), 0, steps - 1)
        _clouds(right, points, step, [DIVERGING((i + 0.5) / steps) for i in range(steps)])
        scale = ScalarMappable(Normalize(low, high), DIVERGING.resampled(steps))
        bar = figure.colorbar(scale, ax=right, label="label")
        bar.outline.set_visible(False)
    for axes, by in ((left, "modality"), (right, "label")):
        axes.set(title=f"{space.name}, by {by}", xticks=[], yticks=[])
        axes.set_xlabel(f"component 1 ({share[0]:.0%})")
        axes.set_ylabel(f"component 2 ({share[1]:.0%})")


def _clouds(
    axes: Any, points: Array, group: Array, colours: list[Any], names: tuple[str, ...] = ()
) -> None:
    for index, colour in enumerate(colours):
        chosen = points[group == index]
        dots(axes, chosen[:, 0], chosen[:, 1], colour, 2.6, 0.75)
    for name, colour in zip(names, colours, strict=False):
        axes.plot([], [], "o", ms=5, color=colour, label=name)
    if names:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), handletextpad=0.2)
