"""Colours, text sizes and drawing helpers that all figures share.

Text and lines are drawn in the four colours of `INK`. The page replaces these by CSS variables, so
that one SVG suits light and dark pages; the separate SVG files are left unchanged.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dhmd.report.data import Array, ReportData
from dhmd.report.page import INK

TEXT, MUTED, LINE, PAPER = INK
# Mid-tones that are legible on white and on near-black, and distinct to colour-blind readers.
SERIES: Final = ("#3d85c6", "#d98324", "#2f9e76", "#a06cc0", "#8f8a2a", "#5b9aa0", "#c2477f")
OWN: Final = "#c2477f"
OTHER: Final = "#8a8f98"
WORSE: Final = "#cc5a43"
BETTER: Final = "#2f8f9e"
# The middle of the scale is grey, which shows on both backgrounds.
DIVERGING: Final = LinearSegmentedColormap.from_list(
    "diverging", ["#2b6cb8", "#6fa0d0", "#9a9a9a", "#dc8f5a", "#c3402b"]
)
# From nearly transparent to opaque: what shines through is the page.
SEQUENTIAL: Final = LinearSegmentedColormap.from_list(
    "sequential", [(0.16, 0.44, 0.75, 0.06), (0.16, 0.44, 0.75, 1.0)]
)
WIDE: Final = 10.0  # inches
HALF: Final = 4.9

_STYLE: Final[Mapping[str, Any]] = {
    "font.size": 8,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial"],
    "text.color": TEXT,
    "text.parse_math": False,
    "figure.facecolor": PAPER,
    "figure.constrained_layout.use": True,
    "figure.titlesize": 10.5,
    "figure.titleweight": "bold",
    "figure.labelsize": 8,
    "figure.labelweight": "normal",
    "axes.facecolor": "none",
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.labelcolor": MUTED,
    "axes.titlesize": 9,
    "axes.titlecolor": TEXT,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "lines.markeredgewidth": 0,
    "legend.frameon": False,
    "legend.labelcolor": TEXT,
    "path.simplify": False,
    "svg.fonttype": "none",  # text stays text: it can be searched and copied
}
_DPI: Final = 150  # of point clouds, which are embedded as images
_GROUP_IDS: Final = re.compile(r'<g id="[^"]*"')  # numbered from 1 in every figure

# A block of the report: kind, name (of the file), title, caption, wide, and svg.
Chart = dict[str, Any]


@contextmanager
def report_style() -> Iterator[None]:
    """Use the report's style instead of the user's matplotlibrc."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


class Canvas:
    """A figure with a title above its panels and a note on the data below them."""

    def __init__(
        self,
        title: str,
        note: str,
        height: float,
        rows: int = 1,
        columns: int = 1,
        *,
        width: float = WIDE,
        **subplots: Any,
    ) -> None:
        self.title, self.wide = title, width == WIDE
        self.figure: Any = Figure(figsize=(width, height + 0.6))
        self.figure.suptitle(title, x=0.008, ha="left")
        self.figure.supxlabel(note, x=0.008, ha="left", color=MUTED)
        self.axes: Any = self.figure.subplots(rows, columns, squeeze=False, **subplots)

    def chart(self, data: ReportData, name: str, caption: str) -> Chart:
        """Finish the figure; the same data give the same bytes."""
        FigureCanvasSVG(self.figure)
        stream = io.StringIO()
        # The salt makes ids differ between the figures of a page; no metadata: no date.
        with mpl.rc_context({"svg.hashsalt": f"{data.name}-{name}"}):
            nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
            self.figure.savefig(stream, format="svg", dpi=_DPI, metadata=nothing)
        svg = _GROUP_IDS.sub("<g", stream.getvalue())
        return {
            "kind": "figure",
            "name": name,
            "title": self.title,
            "caption": caption,
            "wide": self.wide,
            "svg": svg,
        }


def modality_colour(data: ReportData, modality: str) -> str:
    """Return the colour of a modality, the same in all figures of a dataset."""
    return SERIES[data.corpus.modalities.index(modality) % len(SERIES)]


def grid(axes: Any, axis: str, ticks: int | None = None) -> None:
    """Draw grid lines, with at most `ticks` intervals on that axis."""
    axes.grid(axis=axis)
    if ticks is not None:
        getattr(axes, f"{axis}axis").set_major_locator(MaxNLocator(ticks))


def name_rows(axes: Any, names: Sequence[str]) -> None:
    """Use the y axis for named rows, the first on top; only the first column shows the names."""
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0, labelcolor=TEXT)
    axes.spines["left"].set_visible(False)


def dots(axes: Any, x: Array, y: Array, colour: Any, size: float, alpha: float = 1.0) -> None:
    """Draw points; many of them as one image, which keeps the page small."""
    axes.plot(x, y, "o", ms=size, color=colour, alpha=alpha, rasterized=np.size(x) > 300)


def note_right(axes: Any, row: float, text: str) -> None:
    """Write a note to the right of a named row."""
    at = {"transform": axes.get_yaxis_transform(), "va": "center"}
    axes.text(1.03, row, text, color=MUTED, fontsize=7.5, **at)


def heat_map(
    axes: Any,
    values: Array,
    row_names: Sequence[str],
    column_names: Sequence[str],
    *,
    texts: Sequence[Sequence[str]] = (),
    high: float | None = None,
) -> None:
    """Draw a matrix as coloured cells with `texts` in them; a cell without a value stays empty."""
    high = high if high is not None else max(float(np.nanmax(values, initial=0.0)), 1e-9)
    shown = np.ma.masked_invalid(values)
    style = {"vmin": 0, "vmax": high, "edgecolors": PAPER, "linewidth": 1.2}
    axes.pcolormesh(range(values.shape[1]), range(len(values)), shown, cmap=SEQUENTIAL, **style)
    name_rows(axes, row_names)
    axes.set_xticks(range(len(column_names)), column_names)
    axes.tick_params(axis="x", length=0, labelcolor=TEXT)
    axes.spines["bottom"].set_visible(False)
    for row, line in enumerate(texts):
        for column, text in enumerate(line):
            if np.isfinite(value := values[row, column]):
                colour = "#ffffff" if value / high > 0.55 else TEXT
                axes.text(column, row, text, ha="center", va="center", color=colour)
