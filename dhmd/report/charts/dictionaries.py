"""The dictionaries' codes: what fires them, and how many are used at all."""

from __future__ import annotations

from typing import Final

import numpy as np
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter

from dhmd.report.dictionary import by_group, mean_activation, used_codes
from dhmd.report.inputs import Inputs, Space
from dhmd.report.sheet import (
    MODALITY,
    OTHER,
    WIDE,
    Picture,
    Sheet,
    grid,
    heading,
    labels,
    matrix,
)
from dhmd.report.svg import Ink

MOST_CODES: Final = 20
_ROW: Final = 0.21


def activations(inputs: Inputs, space: Space) -> Picture | None:
    """Mean activations by modality and class, and codes by rank; None without a dictionary."""
    if space.codes is None:
        return None
    codes = space.codes[inputs.rows]
    there = inputs.present[inputs.rows]
    chosen = used_codes(codes, there, MOST_CODES)
    if not len(chosen):
        return None
    names, values = by_group(inputs, space, chosen)
    height = max(_ROW * len(names), 1.7)
    title = f"Dictionary of {inputs.name}'s {space.name} space"
    sheet = Sheet(f"dictionary_{space.name}", title, inputs.note(seeds=1), WIDE, height + 0.8)
    # Class names take what they need of the heat map's width.
    left = min(max(1.35, 0.15 + 0.075 * max(map(len, names))), 3.0)
    heat = sheet.axes(left, 0.35, 6.65 - left, height)
    top = float(np.nanmax(values, initial=0.0))
    heading(
        heat, f"mean activation of the {len(chosen)} most used codes, colours from 0 to {top:.2f}"
    )
    matrix(heat, values, names, [str(code) for code in chosen])
    heat.tick_params(axis="x", labelsize=7)
    groups = len(names) // len(inputs.modalities)
    for index in range(1, len(inputs.modalities)):
        heat.axhline(index * groups - 0.5, color=Ink.TEXT, linewidth=0.8)
    labels(heat, "code")
    usage = sheet.axes(7.4, 0.35, 2.4, height)
    heading(usage, f"codes by rank, of {codes.shape[2]}")
    grid(usage, "y")
    for index, modality in enumerate(inputs.modalities):
        kept = np.zeros_like(there)
        kept[:, index] = there[:, index]
        ranked = np.sort(mean_activation(codes, kept))[::-1]
        ranked = ranked[ranked > 0]
        usage.plot(
            np.arange(1, len(ranked) + 1),
            ranked,
            "o-",
            markersize=2.5,
            linewidth=1.2,
            color=MODALITY.get(modality, OTHER),
            label=modality,
        )
    usage.set_yscale("log")
    usage.set_xscale("log")
    usage.xaxis.set_major_locator(FixedLocator([1, 2, 5, 10, 20, 50, 100, 200, 500]))
    usage.xaxis.set_major_formatter("{x:.0f}")
    usage.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
    usage.yaxis.set_major_formatter("{x:g}")
    for axis in (usage.xaxis, usage.yaxis):
        axis.set_minor_formatter(NullFormatter())
    labels(usage, "rank of the code", "mean activation")
    usage.legend(fontsize=8, frameon=False, labelcolor=Ink.TEXT, loc="lower left")
    return sheet.finish(
        "Activations of one utterance and modality sum to 1. Left: rows are modality and class of "
        "the label; equal patterns across modalities mean shared codes, different ones across "
        "classes mean codes that tell classes apart. Right: how the activation is spread over "
        "codes; codes that never fire are left out."
    )
