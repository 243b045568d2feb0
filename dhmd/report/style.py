"""Colours, text sizes and drawing helpers that all figures share.

Text and lines are drawn in the four colours of `INK`. The page replaces them by CSS variables, so
that the figures fit its light and its dark style; the separate SVG files are not changed.
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
# Mid-tones that are legible on white and near-black, and distinguishable for colour-blind readers.
SERIES: Final = ("#3d85c6", "#d98324", "#2f9e76", "#a06cc0", "#8f8a2a", "#5b9aa0", "#c2477f")
HIGHLIGHT: Final = "#c2477f"  # the colour of the full model
NEUTRAL: Final = "#8a8f98"
WORSE: Final = "#cc5a43"
BETTER: Final = "#2f8f9e"
# The middle of the scale is grey, which is visible on both backgrounds.
DIVERGING: Final = LinearSegmentedColormap.from_list(
    "diverging", ["#2b6cb8", "#6fa0d0", "#9a9a9a", "#dc8f5a", "#c3402b"]
)
# From nearly transparent to opaque, so that low values have the colour of the page.
SEQUENTIAL: Final = LinearSegmentedColormap.from_list(
    "sequential", [(0.16, 0.44, 0.75, 0.06), (0.16, 0.44, 0.75, 1.0)]
)
WIDE: Final = 10.0  # width in inches
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
    "svg.fonttype": "none",  # write text as text, which can be searched and copied
}
_DPI: Final = 150  # resolution of scatter plots, which are embedded as images
_GROUP_IDS: Final = re.compile(r'<g id="[^"]*"')  # the same in every figure: not unique on the page

# A figure block of the report: kind, name (of the file), title, caption, wide, and svg.
Chart = dict[str, Any]


@contextmanager
def report_style() -> Iterator[None]:
    """Use the report's style instead of the user's matplotlibrc."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield


class Canvas:
    """A figure with a title above its panels and a note below them.

    Args:
        title: title of the figure.
        note: what data the figure shows, from `ReportData.note`.
        height: height of the panels in inches.
        num_rows, num_columns: numbers of rows and columns of panels.
        width: width of the figure in inches: `WIDE` or `HALF`.
        subplots: options of matplotlib's `Figure.subplots`.

    Attributes:
        figure: the matplotlib figure.
        axes: the panels [rows, columns].
    """

    def __init__(
        self,
        title: str,
        note: str,
        height: float,
        num_rows: int = 1,
        num_columns: int = 1,
        *,
        width: float = WIDE,
        **subplots: Any,
    ) -> None:
        self.title, self.wide = title, width == WIDE
        self.figure: Any = Figure(figsize=(width, height + 0.6))
        self.figure.suptitle(title, x=0.008, ha="left")
        self.figure.supxlabel(note, x=0.008, ha="left", color=MUTED)
        self.axes: Any = self.figure.subplots(num_rows, num_columns, squeeze=False, **subplots)

    def chart(self, data: ReportData, name: str, caption: str) -> Chart:
        """Return the figure as a block; the same data give the same SVG bytes."""
        FigureCanvasSVG(self.figure)
        stream = io.StringIO()
        # The salt makes ids differ between the figures of a page. Metadata would contain the date.
        with mpl.rc_context({"svg.hashsalt": f"{data.name}-{name}"}):
            no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            self.figure.savefig(stream, format="svg", dpi=_DPI, metadata=no_metadata)
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


def draw_grid(axes: Any, axis: str, ticks: int | None = None) -> None:
    """Draw the grid lines of an axis ("x", "y" or "both"), with at most `ticks` intervals."""
    axes.grid(axis=axis)
    if ticks is not None:
        getattr(axes, f"{axis}axis").set_major_locator(MaxNLocator(ticks))


def label_rows(axes: Any, names: Sequence[str]) -> None:
    """Use the y axis for rows with names, the first on top."""
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0, labelcolor=TEXT)
    axes.spines["left"].set_visible(False)


def draw_points(
    axes: Any, x: Array, y: Array, colour: Any, size: float, alpha: float = 1.0
) -> None:
    """Draw points; more than 300 become one image, which keeps the page small."""
    axes.plot(x, y, "o", ms=size, color=colour, alpha=alpha, rasterized=np.size(x) > 300)


def annotate_row(axes: Any, row: float, text: str) -> None:
    """Write text to the right of a row."""
    position = {"transform": axes.get_yaxis_transform(), "va": "center"}
    axes.text(1.03, row, text, color=MUTED, fontsize=7.5, **position)


def heat_map(
    axes: Any,
    values: Array,
    row_names: Sequence[str],
    column_names: Sequence[str],
    *,
    texts: Sequence[Sequence[str]] = (),
    high: float | None = None,
) -> None:
    """Draw a matrix as coloured cells; cells without a value stay empty.

    Args:
        values: the matrix; NaN where there is no value.
        texts: text of each cell.
        high: value of the darkest colour; None for the largest value.
    """
    high = high if high is not None else max(float(np.nanmax(values, initial=0.0)), 1e-9)
    masked = np.ma.masked_invalid(values)
    style = {"vmin": 0, "vmax": high, "edgecolors": PAPER, "linewidth": 1.2}
    axes.pcolormesh(range(values.shape[1]), range(len(values)), masked, cmap=SEQUENTIAL, **style)
    label_rows(axes, row_names)
    axes.set_xticks(range(len(column_names)), column_names)
    axes.tick_params(axis="x", length=0, labelcolor=TEXT)
    axes.spines["bottom"].set_visible(False)
    for row, line in enumerate(texts):
        for column, text in enumerate(line):
            if np.isfinite(value := values[row, column]):
                colour = "#ffffff" if value / high > 0.55 else TEXT
                axes.text(column, row, text, ha="center", va="center", color=colour)
