"""Figures of the components of the model: distillation edges, dictionaries, features.

A function that draws a figure returns None if the model does not have the component.
S seeds, N utterances of the corpus, T utterances of the test split, M modalities, K codes.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from dhmd.evaluation.model_outputs import EDGES, EMBEDDING
from dhmd.report import style
from dhmd.report.data import Array, ReportData

UNITS: Final = {"homogeneous": "HomoGD", "heterogeneous": "HeteroGD"}
_MAX_UTTERANCES: Final = 500  # in the figure of features, where more points would overlap


def edges(data: ReportData) -> style.Chart | None:
    """Show the mean edge weights, and their spread over utterances."""
    spaces, names = data.arrays_by_space(EDGES), data.modalities
    if not spaces or len(names) < 2:
        return None
    height = max(2.4, 0.17 * len(names) ** 2 + 0.6) * len(spaces)
    title = f"Distillation edges of {data.name}, by space"
    canvas = style.Canvas(title, data.note(), height, len(spaces), 2)
    for (heat, spread), (space, weights) in zip(canvas.axes, spaces.items(), strict=True):
        mean, sd = (matrix(data.edges[space][key]) for key in ("mean", "sd_samples"))
        texts = [
            [f"{m:.2f} ± {s:.2f}" for m, s in zip(*line, strict=True)]
            for line in zip(mean, sd, strict=True)
        ]
        style.heat_map(heat, mean, names, names, texts=texts, high=1.0)
        heat.set(title=f"{UNITS.get(space, space)}: weight, ± std over utterances")
        heat.set(xlabel="student (target)", ylabel="teacher (source)")
        _draw_edge_quantiles(spread, weights[:, data.rows].astype(np.float64), data)
    return canvas.chart(
        data,
        "edges",
        "For every utterance, the weights of the edges into one target sum to 1; the diagonal is "
        "self-distillation. Left: means over utterances and seeds. Right: quantiles over "
        "utterances (thin: 5–95 %, thick: 25–75 %, dot: median), averaged over seeds.",
    )


def _draw_edge_quantiles(axes: Any, weights: Array, data: ReportData) -> None:
    """Draw the quantiles over test utterances of every edge, from `weights` `[S, T, M, M]`."""
    axes.set(title="spread over utterances", xlabel="edge weight (teacher → student)")
    present = data.present[data.rows]
    weights = np.where(present[:, :, None] & present[:, None, :], weights, np.nan)
    names, count = data.modalities, len(data.modalities)
    pairs = [(source, target) for target in range(count) for source in range(count)]
    style.label_rows(axes, [f"{names[source]} → {names[target]}" for source, target in pairs])
    axes.set_xlim(0, 1.02)
    style.draw_grid(axes, "x")
    for row, (source, target) in enumerate(pairs):
        edge = weights[:, :, source, target]
        edge = edge[:, np.isfinite(edge).all(0)]
        if source == 0 and target:
            axes.axhline(row - 0.5, color=style.LINE, linewidth=0.8)
        if edge.shape[1]:
            q05, q25, median, q75, q95 = np.quantile(
                edge, (0.05, 0.25, 0.5, 0.75, 0.95), axis=1
            ).mean(1)
            colour = style.modality_colour(data, names[source])
            axes.hlines(row, q05, q95, color=colour, linewidth=0.9)
            axes.hlines(row, q25, q75, color=colour, linewidth=4.5)
            axes.plot(median, row, "o", ms=3.6, color=style.PAPER, mec=colour, mew=1)


def edge_reliability(data: ReportData) -> style.Chart | None:
    """Plot edge weights by the true reliability of their source, which generated data have."""
    planted = data.corpus.planted
    reliability = {
        m: planted[f"reliability_{m}"] for m in data.modalities if f"reliability_{m}" in planted
    }
    spaces = data.arrays_by_space(EDGES)
    if not reliability or not spaces or len(data.modalities) < 2:
        return None
    valid = data.corpus.index("valid")
    title = f"Do the edges of {data.name} follow the true reliability of the teacher?"
    note = data.note(split="validation", count=len(valid))
    size = (len(spaces), len(reliability))
    canvas = style.Canvas(title, note, 2.0 * len(spaces), *size, sharey="row")
    for line, (space, weights) in zip(canvas.axes, spaces.items(), strict=True):
        correlation = matrix(data.edges[space]["rank_correlation"])
        for axes, (modality, values) in zip(line, reliability.items(), strict=True):
            source = data.modalities.index(modality)
            rho = correlation[source]
            text = f", ρ = {np.nanmean(rho):+.2f}" if np.isfinite(rho).any() else ""
            axes.set_title(f"{UNITS.get(space, space)}: {modality}{text}")
            _draw_binned_edges(axes, weights[:, valid][:, :, source], values[valid], data)
            axes.set_xlabel(f"true reliability of {modality}")
        line[0].set_ylabel("edge weight")
    canvas.axes[0, -1].legend(title="target", loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return canvas.chart(
        data,
        "edge_reliability",
        "Mean edge weight by the true reliability of the teacher named above each panel, in six "
        "bins of equal width (those with fewer than five utterances are left out); one line per "
        "target, averaged over seeds, with standard errors over utterances. A rising line means "
        "that the teacher has more weight where it is more reliable. Lines show the validation "
        "split; ρ is the rank correlation on the test split, averaged over targets and seeds.",
    )


def _draw_binned_edges(axes: Any, weights: Array, reliability: Array, data: ReportData) -> None:
    """Plot `weights` `[S, N, target]` by `reliability` `[N]`, one line per target."""
    style.draw_grid(axes, "y", 4)
    for target, name in enumerate(data.modalities):
        # NaN where the target is absent in any seed.
        table = pd.DataFrame({"x": reliability, "y": weights[:, :, target].mean(0)}).dropna()
        if len(table):
            bins = pd.cut(table["x"], 6, labels=False)
            means = table.groupby(bins).agg({"x": "mean", "y": ["mean", "sem", "size"]})
            means = means[means["y", "size"] >= 5]
            colour = style.modality_colour(data, name)
            line = {"color": colour, "label": name, "linewidth": 1.3, "elinewidth": 0.8}
            columns = means["x", "mean"], means["y", "mean"], means["y", "sem"]
            axes.errorbar(*columns, fmt="o-", markersize=3, **line)


def dictionary(data: ReportData, space: str, codes_NMK: Array) -> style.Chart | None:
    """Show mean code activations by modality and class, and the use of codes by rank."""
    codes, present = codes_NMK[data.rows], data.present[data.rows]
    most_used = used_codes(codes, present, 20)
    if not len(most_used):
        return None
    groups = {}
    for m, modality in enumerate(data.modalities):
        modality_mask = restrict_modality(present, m)
        for name, members in data.label_groups().items():
            activation = mean_activation(codes, modality_mask & members[:, None])
            groups[f"{modality}, {name}"] = activation[most_used]
    names, values = list(groups), np.array(list(groups.values()))
    title = f"Dictionary of the {space} space of {data.name}"
    height = max(0.21 * len(names), 1.7) + 0.5
    canvas = style.Canvas(title, data.note(num_seeds=1), height, 1, 2, width_ratios=[2.4, 1])
    heat, usage = canvas.axes[0]
    top = float(np.nanmax(values, initial=0.0))
    heat.set_title(f"mean activation of the {len(most_used)} most used codes (0 to {top:.2f})")
    style.heat_map(heat, values, names, [str(code) for code in most_used])
    for index in range(1, len(data.modalities)):
        heat.axhline(
            index * len(names) / len(data.modalities) - 0.5, color=style.MUTED, linewidth=0.8
        )
    heat.set_xlabel("code")
    usage.set_title(f"activation of {codes.shape[2]} codes by rank")
    for index, modality in enumerate(data.modalities):
        ranked = np.sort(mean_activation(codes, restrict_modality(present, index)))[::-1]
        ranked = ranked[ranked > 0]
        line = {"ms": 2.5, "linewidth": 1.2, "color": style.modality_colour(data, modality)}
        usage.plot(np.arange(1, len(ranked) + 1), ranked, "o-", label=modality, **line)
    usage.set(xscale="log", yscale="log", xlabel="rank of the code", ylabel="mean activation")
    usage.xaxis.set_major_formatter("{x:g}")
    usage.yaxis.set_major_formatter("{x:g}")
    usage.minorticks_off()
    style.draw_grid(usage, "y")
    usage.legend(loc="lower left")
    return canvas.chart(
        data,
        f"dictionary_{space}",
        "The activations of one utterance and modality sum to 1. Left: one row per modality and "
        "label group. Similar rows of different modalities mean that they share codes; different "
        "rows of one modality mean that its codes separate labels. Right: mean activation of all "
        "codes in descending order; codes that are never active are left out.",
    )


def used_codes(codes: Array, present: Array, limit: int) -> Array:
    """Return at most `limit` active codes with the largest mean activation, in descending order."""
    usage = mean_activation(codes, present)
    order = np.argsort(-usage, kind="stable")[:limit]
    used: Array = order[usage[order] > 0]
    return used


def mean_activation(codes: Array, mask: Array) -> Array:
    """Return the mean of `codes` `[N, M, K]` where `mask` `[N, M]` is true: `[K]`, or zeros."""
    if not mask.any():
        return np.zeros(codes.shape[2])
    mean: Array = codes[mask].mean(0, dtype=np.float64)
    return mean


def restrict_modality(present: Array, modality: int) -> Array:
    """Return `present` `[N, M]` with False in the columns of all other modalities."""
    restricted: Array = present & (np.arange(present.shape[1]) == modality)
    return restricted


def embeddings(data: ReportData) -> style.Chart | None:
    """Plot the principal components of the features of both spaces, by modality and label."""
    spaces = data.arrays_by_space(EMBEDDING)
    if not spaces:
        return None
    step = -(-len(data.rows) // _MAX_UTTERANCES)
    note = data.note(num_seeds=1) + (f" · one in {step} is shown" if step > 1 else "")
    title = f"Features of the two spaces of {data.name} (PCA)"
    canvas = style.Canvas(title, note, 2.8 * len(spaces), len(spaces), 2)
    for panels, (space, values) in zip(canvas.axes, spaces.items(), strict=True):
        subset = np.arange(0, len(data.rows), step)
        _draw_embedding(canvas.figure, panels, data, space, values, subset)
    return canvas.chart(
        data,
        "embeddings",
        "First two principal components of each space, computed over all modalities; a dot is "
        "one modality of one test utterance, with the same dots left and right. The homogeneous "
        "space should mix modalities and order labels; the heterogeneous space should separate "
        "modalities.",
    )


def _draw_embedding(
    figure: Any, panels: Any, data: ReportData, space: str, embedding: Array, subset: Array
) -> None:
    """Draw a subset of the test utterances, coloured by modality (left) and by label (right)."""
    rows = data.rows[subset]
    values = embedding[rows].astype(np.float64)
    present = data.present[rows] & np.isfinite(values).all(2)
    points, share = principal_plane(values[present])
    label = np.broadcast_to(data.labels[subset][:, None], present.shape)[present]
    left, right = panels
    colours = [style.modality_colour(data, name) for name in data.modalities]
    _scatter(left, points, np.nonzero(present)[1], colours, data.modalities)
    if data.task != "regression":
        members, names = data.members(label), data.classes
        group = members.argmax(1)
        if data.task == "multilabel":
            count, names = members.sum(1), (*names, "none", "several")
            group = np.where(count == 1, group, len(data.classes) + (count > 1))
        colours = [style.SERIES[index % len(style.SERIES)] for index in range(len(names))]
        _scatter(right, points, group, colours, names)
    else:
        steps, low, high = 9, data.corpus.low, data.corpus.high
        step = np.clip(((label - low) / (high - low) * steps).astype(int), 0, steps - 1)
        _scatter(right, points, step, [style.DIVERGING((i + 0.5) / steps) for i in range(steps)])
        scale = ScalarMappable(Normalize(low, high), style.DIVERGING.resampled(steps))
        figure.colorbar(scale, ax=right, label="label").outline.set_visible(False)
    for axes, by in ((left, "modality"), (right, "label")):
        axes.set(title=f"{space}, by {by}", xticks=[], yticks=[])
        axes.set_xlabel(f"component 1 ({share[0]:.0%})")
        axes.set_ylabel(f"component 2 ({share[1]:.0%})")


def _scatter(
    axes: Any, points: Array, group: Array, colours: list[Any], names: tuple[str, ...] = ()
) -> None:
    """Draw points `[P, 2]` in the colours of their groups `[P]`; `names` are for the legend."""
    for index, colour in enumerate(colours):
        x, y = points[group == index].T
        style.draw_points(axes, x, y, colour, 2.6, 0.75)
    for name, colour in zip(names, colours, strict=False):
        axes.plot([], [], "o", ms=5, color=colour, label=name)
    if names:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), handletextpad=0.2)


def principal_plane(points: Array) -> tuple[Array, Array]:
    """Project points `[P, D]` onto their first two principal components.

    The largest loading of each component is positive, which makes the signs reproducible.

    Returns:
        Points `[P, 2]`, and the share of the variance of each component `[2]`.
    """
    centred = points.astype(np.float64) - points.mean(0, dtype=np.float64)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, ::-1][:, :2]
    if axes.shape[1] < 2:
        axes = np.concatenate([axes, np.zeros_like(axes)], axis=1)
    largest = np.abs(axes).argmax(0)
    projected = centred @ (axes * np.where(axes[largest, [0, 1]] < 0, -1.0, 1.0))
    total = float((centred**2).sum())
    return projected, (projected**2).sum(0) / total if total > 0 else np.zeros(2)


def matrix(nested: Any) -> Array:
    """Convert a matrix from a JSON file, where null becomes NaN."""
    return np.array(nested, dtype=object).astype(float)
