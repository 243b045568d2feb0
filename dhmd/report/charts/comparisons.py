"""Differences from the full model, paired by seed: variants, edge controls, withheld modalities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from dhmd.evaluation.metrics import COLUMNS, deterioration_sign
from dhmd.evaluation.tables import BASELINES
from dhmd.report.inputs import Inputs, Row
from dhmd.report.sheet import (
    BETTER,
    OTHER,
    WIDE,
    WORSE,
    Picture,
    Sheet,
    dots,
    few_ticks,
    grid,
    heading,
    rows,
    say,
    signed,
)
from dhmd.report.svg import Ink

# What is compared beside the main metric, and the controls that concern the GD-Units.
SECOND: Final[Mapping[str, str]] = {"regression": "corr", "classification": "accuracy"}
EDGE_CONTROLS: Final = (
    "self_distillation",
    "uniform_edges",
    "mean_edges",
    "shuffled_edges",
    "prior_edges",
    "kl_edges",
    "no_homogeneous_gd",
    "no_heterogeneous_gd",
    "no_coarse",
    "no_distillation",
)
_SIGNIFICANT: Final = 0.05
_GUTTER: Final = 2.1
_ROW: Final = 0.27
_HOW: Final = (
    "Mean difference from the full model on the same seeds. Dots: seeds; thick line: 95 % interval "
    "over seeds; thin line: over test utterances (bootstrap by video). Coloured where p < 0.05 "
    "after Holm's correction over all that was compared; grey claims nothing."
)


def forest(inputs: Inputs) -> Picture | None:
    """All variants and baselines; None where nothing was ablated."""
    title = f"Variants and baselines of {inputs.name} against the full model"
    entries = inputs.tables["ablations"]
    return _forest(inputs, "ablations", title, entries, inputs.lists["ablations"], "variant")


def edge_controls(inputs: Inputs) -> Picture | None:
    """The variants that tell what the GD-Units' edges are good for; None where there is none."""
    every = inputs.tables["ablations"]
    entries = {name: every[name] for name in EDGE_CONTROLS if name in every}
    title = f"Controls of {inputs.name}'s graph distillation against learned edges"
    listed = inputs.lists["ablations"]
    return _forest(inputs, "edge_controls", title, entries, listed, "variant")


def withheld(inputs: Inputs) -> Picture | None:
    """The full model with modalities withheld at test; None where it has only one."""
    title = f"{inputs.name}: modalities withheld at test"
    entries = inputs.tables["missing_modalities"]
    listed = inputs.lists["missing_modalities"]
    return _forest(inputs, "missing_modalities", title, entries, listed, "missing")


def variant_title(name: str) -> str:
    """A variant's or a withheld set's name, to be read."""
    return BASELINES.get(name) or name.replace("_", " ").replace("+", " + ")


def _forest(
    inputs: Inputs,
    name: str,
    title: str,
    entries: Mapping[str, Any],
    listed: Sequence[Row],
    key: str,
) -> Picture | None:
    metrics = (inputs.primary, SECOND[inputs.task])
    known = {k: v for k, v in entries.items() if any(m in v for m in metrics)}
    if not known:
        return None
    # The largest deterioration on top.
    sign = deterioration_sign(inputs.primary)
    order = sorted(
        known, key=lambda k: -sign * known[k].get(inputs.primary, {}).get("difference", 0.0)
    )
    height = _ROW * len(order)
    sheet = Sheet(name, title, inputs.note(), WIDE, height + 0.85)
    width = (WIDE - _GUTTER - 0.2) / 2
    for index, metric in enumerate(metrics):
        axes = sheet.axes(_GUTTER + index * width + 0.1, 0.32, width - 1.15, height)
        heading(axes, f"{COLUMNS[inputs.task][metric]}: other − full")
        grid(axes, "x")
        few_ticks(axes, "x", 5)
        rows(axes, [variant_title(k) for k in order], named=index == 0)
        axes.axvline(0, color=Ink.MUTED, linewidth=0.9)
        for place, other in enumerate(order):
            seeds = _paired(inputs, listed, key, other, metric)
            _difference(axes, place, known[other].get(metric, {}), seeds, metric)
        worse_right = deterioration_sign(metric) > 0
        ends = (("better", BETTER), ("worse", WORSE))
        left, right = ends if worse_right else ends[::-1]
        below = {"y": -0.32 / height, "transform": axes.transAxes, "va": "top"}
        say(axes, x=0, text=f"← other is {left[0]}", color=left[1], **below)
        say(axes, x=1, text=f"other is {right[0]} →", color=right[1], ha="right", **below)
    return sheet.finish(_HOW)


def _paired(
    inputs: Inputs, listed: Sequence[Row], key: str, name: str, metric: str
) -> dict[int, float]:
    """Seed → difference from the full model."""
    return {
        seed: float(row[metric]) - inputs.test_seeds[seed][metric]
        for row in listed
        if row[key] == name and row.get("split", "test") == "test" and row[metric]
        for seed in [int(row["seed"])]
        if metric in inputs.test_seeds.get(seed, {})
    }


def _difference(
    axes: Any, place: int, entry: Mapping[str, float], seeds: Mapping[int, float], metric: str
) -> None:
    right = axes.get_yaxis_transform()
    if "difference" not in entry:
        said = "one seed: no interval" if len(seeds) == 1 else "undefined"
        if seeds:
            values = np.array(list(seeds.values()))
            dots(axes, values, np.full(len(values), float(place)), OTHER, 4.2, 0.6)
        say(axes, 1.03, place, said, transform=right, va="center", color=Ink.MUTED)
        return
    mean = entry["difference"]
    colour = OTHER
    if entry["p"] < _SIGNIFICANT:
        colour = WORSE if mean * deterioration_sign(metric) > 0 else BETTER
    if "utterances_low" in entry:
        ends = [entry["utterances_low"], entry["utterances_high"]]
        axes.plot(ends, [place, place], color=colour, linewidth=0.9)
    axes.plot(
        [entry["ci_low"], entry["ci_high"]],
        [place, place],
        color=colour,
        linewidth=3.2,
        solid_capstyle="butt",
    )
    values = np.array(list(seeds.values()))
    dots(axes, values, np.full(len(values), place + 0.3), colour, 2.8, 0.8)
    axes.plot([mean], [place], "o", markersize=5.5, color=colour, markeredgecolor=Ink.PAPER)
    p = "p < .001" if entry["p"] < 0.001 else f"p = {entry['p']:.3f}"[:9].replace("0.", ".", 1)
    text = f"{signed(mean)}, {p}"
    say(axes, 1.03, place, text, transform=right, va="center", color=Ink.MUTED, fontsize=7.5)
