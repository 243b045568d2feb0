"""Render the learning curves: a section of docs/results.md and docs/learning_curve.svg."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from dhmd.base.files import whole_file

NAMES = {
    "late_fusion": "late fusion",
    "mult": "MulT",
    "dmd": "DMD",
    "gru": "GRU on the words",
    "tfn": "TFN",
    "ridge": "ridge regression",
    "median": "median label",
    "dhmd_paper": "DHMD, the paper's form",
    "no_distillation": "DHMD without distillation",
    "self_distillation": "DHMD, each modality teaches itself",
    "uniform_edges": "DHMD, uniform edges",
    "no_dictionary": "DHMD without dictionaries",
}
TITLES = {"noisy": "Additive corpora", "interaction": "Corpora with an interaction"}

_FIGURE = {
    "noisy": ("ridge", "mult", "dmd", "late_fusion", "no_distillation"),
    "interaction": ("gru", "ridge", "tfn", "mult", "dmd", "late_fusion", "no_distillation"),
}
_COLOURS = {
    "ridge": "#8a8f98",
    "mult": "#3d85c6",
    "dmd": "#2f9e76",
    "late_fusion": "#d98324",
    "no_distillation": "#a06cc0",
    "tfn": "#8f8a2a",
    "gru": "#5b9aa0",
}
_SCALE_STEPS = 1.035  # distance of neighbouring markers on the logarithmic axis


def page(summary: Mapping[str, Any]) -> str:
    """Return the section, without a newline at its end."""
    design, results = summary["design"], summary["results"]
    parts = []
    for regime, points in results.items():
        parts += [
            f"**{TITLES[regime]}** (test MAE of the other minus DHMD's, mean and 95 % interval "
            "over n corpora; above 0, DHMD is better)\n",
            _differences(points),
        ]
    parts.append(_design(summary["form"], design))
    return "\n".join(parts).rstrip("\n")


def details(summary: Mapping[str, Any]) -> str:
    """Return the tables of mean errors and tuned settings for the appendix."""
    parts = []
    for regime, points in summary["results"].items():
        parts += [f"**{TITLES[regime]}: mean test MAE**\n", _scores(points)]
    parts += ["**Chosen settings, by validation on the tuning corpora**\n"]
    parts.append(_tuning(summary["tuning"]))
    return "\n".join(parts).rstrip("\n")


def verdict(difference: Mapping[str, float]) -> str:
    """Return what an interval of (other − DHMD) says of DHMD."""
    if difference["low"] > 0:
        return "better"
    return "worse" if difference["high"] < 0 else "indistinguishable"


def write_figure(summary: Mapping[str, Any], path: Path) -> None:
    """Draw the differences from DHMD by number of training utterances."""
    with mpl.rc_context({"svg.hashsalt": "dhmd", "font.size": 9, "text.parse_math": False}):
        figure = Figure(figsize=(9.5, 3.6), layout="constrained")
        figure.patch.set_facecolor("white")
        axes = figure.subplots(1, 2, sharey=False)
        for ax, regime in zip(axes, TITLES, strict=True):
            _draw(ax, summary["results"][regime], _FIGURE[regime])
            ax.set_title(TITLES[regime], loc="left", fontsize=10)
        axes[0].set_ylabel("test MAE minus DHMD's\n(above 0: DHMD is better)")
        with whole_file(path) as temporary:
            FigureCanvasSVG(figure).print_svg(temporary, metadata={"Date": None})


def _draw(ax: Axes, points: Mapping[str, Any], models: Sequence[str]) -> None:
    sizes = [int(size) for size in points]
    for number, model in enumerate(models):
        shift = _SCALE_STEPS ** (number - (len(models) - 1) / 2)
        found = [
            (size * shift, points[str(size)][model]["difference"])
            for size in sizes
            if "difference" in points[str(size)].get(model, {})
        ]
        if not found:
            continue
        x = [position for position, _ in found]
        y = [each["mean"] for _, each in found]
        bars = [
            [each["mean"] - each["low"] for _, each in found],
            [each["high"] - each["mean"] for _, each in found],
        ]
        ax.errorbar(
            x,
            y,
            yerr=bars,
            color=_COLOURS[model],
            marker="o",
            markersize=4,
            linewidth=1.4,
            elinewidth=1.0,
            capsize=2,
            label=NAMES[model],
        )
    ax.axhline(0, color="#444444", linewidth=0.8)
    ax.set_xscale("log")
    ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
    ax.minorticks_off()
    ax.set_xlabel("training utterances")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.legend(frameon=False, fontsize=7.5)


def _differences(points: Mapping[str, Any]) -> str:
    def cell(entry: Mapping[str, Any] | None) -> str:
        if entry is None or "difference" not in entry:
            return "–"
        gap = entry["difference"]
        text = f"{gap['mean']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}], {gap['n']}"
        return f"**{text}**" if verdict(gap) != "indistinguishable" else text

    return _table("n after the interval", points, cell, skip=("dhmd", "median", "oracle"))


def _scores(points: Mapping[str, Any]) -> str:
    def cell(entry: Mapping[str, Any] | None) -> str:
        return "–" if entry is None else f"{entry['mae']:.3f}, {entry['n']}"

    return _table("n after the MAE", points, cell, skip=())


def _table(corner: str, points: Mapping[str, Any], cell: Any, *, skip: Sequence[str]) -> str:
    models = {name for point in points.values() for name in point if name not in skip}
    order = ["dhmd", *NAMES, "oracle"]
    rows = [
        f"| {corner} | {' | '.join(f'{int(size):,} utterances' for size in points)} |",
        "|---" * (len(points) + 1) + "|",
    ]
    for name in sorted(models, key=order.index):
        cells = [cell(point.get(name)) for point in points.values()]
        title = "DHMD" if name == "dhmd" else NAMES.get(name, name)
        rows.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _tuning(tuning: Mapping[str, Any]) -> str:
    points = {f"{r}, {int(size):,}": tuning[r][size] for r in tuning for size in tuning[r]}
    models = list(dict.fromkeys(name for point in points.values() for name in point))
    rows = [f"| | {' | '.join(points)} |", "|---" * (len(points) + 1) + "|"]
    for model in models:
        cells = [
            point[model]["chosen"].replace("_", " ") if model in point else "–"
            for point in points.values()
        ]
        rows.append(f"| {NAMES.get(model, 'DHMD')} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def _design(form: str, design: Mapping[str, Any]) -> str:
    seeds = design["seeds per model"]
    updates = ", ".join(
        f"{count} at {int(size):,}" for size, count in design["greatest number of updates"].items()
    )
    corpora = design["tuning corpora"]
    return (
        f"The {form} form of the study: {seeds} seed{'s' * (seeds > 1)} per model and corpus, "
        f"{design['test utterances']:,} test utterances per corpus, at most {updates} updates for "
        f"every model, {len(design['candidates'])} candidate settings per model on {corpora} "
        f"tuning {'corpus' if corpora == 1 else 'corpora'}. Bold: the interval leaves out 0.\n"
    )
