"""Learning curves as tables of docs/results.md and as docs/learning_curve.svg."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from dhmd.base.files import atomic_file

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

_COLOURS = {
    "ridge": "#8a8f98",
    "mult": "#3d85c6",
    "dmd": "#2f9e76",
    "late_fusion": "#d98324",
    "no_distillation": "#a06cc0",
}
_OTHER, _LINE = "#5b9aa0", "#444444"
_MARKER_SHIFT = 1.035  # factor between neighbouring markers on the logarithmic axis


def page(summary: Mapping[str, Any]) -> str:
    """Return the tables of differences and the design, without a newline at the end."""
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
    """Return the tables of mean errors and tuned settings, for the appendix."""
    parts = []
    for regime, points in summary["results"].items():
        parts += [f"**{TITLES[regime]}: mean test MAE**\n", _scores(points)]
    parts += ["**Chosen settings, by validation on the tuning corpora**\n"]
    parts.append(_tuning(summary["tuning"]))
    return "\n".join(parts).rstrip("\n")


def verdict(difference: Mapping[str, float]) -> str:
    """Return DHMD's result from an interval of (other − DHMD): better, worse or neither."""
    if difference["low"] > 0:
        return "better"
    return "worse" if difference["high"] < 0 else "indistinguishable"


def write_figure(summary: Mapping[str, Any], path: Path) -> None:
    """Draw the differences from DHMD by number of training utterances."""
    with mpl.rc_context(
        {"svg.hashsalt": "dhmd", "font.size": 9, "axes.titlesize": 10, "text.parse_math": False}
    ):
        figure = Figure(figsize=(9.5, 3.6), layout="constrained")
        figure.patch.set_facecolor("white")
        axes = figure.subplots(1, 2)
        results = summary["results"]
        _draw_curves(axes[0], results["noisy"])
        # The size with the most corpora, which has the narrowest intervals.
        size, point = max(results["interaction"].items(), key=lambda item: item[1]["dhmd"]["n"])
        _draw_rows(axes[1], point)
        axes[1].set_title(f"{TITLES['interaction']}, {int(size):,} utterances", loc="left")
        with atomic_file(path) as temporary:
            FigureCanvasSVG(figure).print_svg(temporary, metadata={"Date": None})


def _draw_curves(ax: Axes, points: Mapping[str, Any]) -> None:
    sizes = [int(size) for size in points]
    models = [
        name
        for name in _COLOURS
        if any("difference" in point.get(name, {}) for point in points.values())
    ]
    for number, model in enumerate(models):
        shift = _MARKER_SHIFT ** (number - (len(models) - 1) / 2)
        differences = {
            int(size) * shift: point[model]["difference"]
            for size, point in points.items()
            if "difference" in point.get(model, {})
        }
        ax.errorbar(
            list(differences),
            [difference["mean"] for difference in differences.values()],
            yerr=_error_bars(list(differences.values())),
            color=_COLOURS[model],
            marker="o",
            markersize=4,
            linewidth=1.4,
            elinewidth=1.0,
            label=NAMES[model],
        )
    ax.axhline(0, color=_LINE, linewidth=0.8)
    ax.set_xscale("log")
    ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
    ax.minorticks_off()
    ax.set_xlabel("training utterances")
    ax.set_ylabel("test MAE minus DHMD's (above 0: DHMD is better)")
    ax.set_title(TITLES["noisy"], loc="left")
    ax.spines[["top", "right"]].set_visible(False)
    if models:
        ax.legend(frameon=False, fontsize=7.5)


def _draw_rows(ax: Axes, point: Mapping[str, Any]) -> None:
    differences = {
        name: point[name]["difference"]
        for name in NAMES
        if "difference" in point.get(name, {}) and name != "median"
    }
    models = sorted(differences, key=lambda name: differences[name]["mean"])
    for row, model in enumerate(models):
        value, bars = differences[model]["mean"], _error_bars([differences[model]])
        colour = _COLOURS.get(model, _OTHER)
        ax.errorbar(value, row, xerr=bars, color=colour, marker="o", markersize=5)
    ax.axvline(0, color=_LINE, linewidth=0.8)
    ax.set_yticks(range(len(models)), [NAMES[model] for model in models])
    ax.set_xlabel("test MAE minus DHMD's (above 0: DHMD is better)")
    ax.locator_params(axis="x", nbins=5)
    ax.spines[["top", "right"]].set_visible(False)


def _error_bars(intervals: Sequence[Mapping[str, float]]) -> list[list[float]]:
    """Return the distances from the means to the ends of the intervals."""
    return [
        [interval["mean"] - interval["low"] for interval in intervals],
        [interval["high"] - interval["mean"] for interval in intervals],
    ]


def _differences(points: Mapping[str, Any]) -> str:
    def cell(entry: Mapping[str, Any] | None) -> str:
        if entry is None or "difference" not in entry:
            return "–"
        d = entry["difference"]
        text = f"{d['mean']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}], {d['n']}"
        return f"**{text}**" if verdict(d) != "indistinguishable" else text

    return _table("n after the interval", points, cell, skip=("dhmd", "median", "oracle"))


def _scores(points: Mapping[str, Any]) -> str:
    def cell(entry: Mapping[str, Any] | None) -> str:
        return "–" if entry is None else f"{entry['mae']:.3f}, {entry['n']}"

    return _table("n after the MAE", points, cell, skip=())


def _table(corner: str, points: Mapping[str, Any], cell: Any, *, skip: Sequence[str]) -> str:
    models = {name for point in points.values() for name in point if name not in skip}
    models = {name for name in models if any(cell(p.get(name)) != "–" for p in points.values())}
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
