"""A picture's common ground: size, title, label of dataset and n, colours, marks.

Sizes and places are in inches from the upper left corner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from matplotlib.collections import PathCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.path import Path as Outline
from matplotlib.ticker import MaxNLocator

from dhmd.report.svg import Ink, draw

Array = np.ndarray[Any, Any]

WIDE: Final = 10.0
HALF: Final = 4.9
# Mid-tones that hold on white and on near-black, and apart for colour-blind eyes.
MODALITY: Final[Mapping[str, str]] = {"text": "#3d85c6", "audio": "#d98324", "vision": "#2f9e76"}
MODEL: Final = "#c2477f"
OTHER: Final = "#8a8f98"
WORSE: Final = "#cc5a43"
BETTER: Final = "#2f8f9e"
SERIES: Final = ("#3d85c6", "#d98324", "#2f9e76", "#a06cc0", "#c2477f", "#8f8a2a", "#5b9aa0")
# Low to high, also as a label's colour; its middle is grey and not white, to be seen on both.
DIVERGING: Final = LinearSegmentedColormap.from_list(
    "diverging", ["#2b6cb8", "#6fa0d0", "#9a9a9a", "#dc8f5a", "#c3402b"]
)
# From nearly nothing to full: what shines through is the page, light or dark.
SEQUENTIAL: Final = LinearSegmentedColormap.from_list(
    "sequential", [(0.16, 0.44, 0.75, 0.06), (0.16, 0.44, 0.75, 1.0)]
)

_TEXT: Final = 9.0
_SMALL: Final = 8.0
_HEAD: Final = 0.52  # the title's and the label's height


@dataclass(frozen=True)
class Picture:
    """A finished picture: its name (of the file, too), what it says, and the drawing."""

    name: str
    title: str
    caption: str
    svg: str
    wide: bool = True


class Sheet:
    """A figure being drawn."""

    def __init__(self, name: str, title: str, label: str, width: float, height: float) -> None:
        self.name, self.title, self.label = name, title, label
        self.width, self.height = width, height + _HEAD
        self.figure: Any = Figure(figsize=(self.width, self.height), facecolor=Ink.PAPER)
        place = {"ha": "left", "va": "top"}
        self._text(0.08, 0.06, title, size=10.5, weight="bold", color=Ink.TEXT, **place)
        self._text(0.08, 0.27, label, size=_SMALL, color=Ink.MUTED, **place)

    def _text(self, left: float, top: float, text: str, **style: Any) -> None:
        style["fontsize"] = style.pop("size")
        self.figure.text(left / self.width, 1 - top / self.height, text, parse_math=False, **style)

    def axes(self, left: float, top: float, width: float, height: float) -> Any:
        """Axes with this place and size, below the title."""
        bottom = self.height - _HEAD - top - height
        place = (left / self.width, bottom / self.height)
        size = (width / self.width, height / self.height)
        axes = self.figure.add_axes((*place, *size))
        axes.set_facecolor("none")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        for side in ("left", "bottom"):
            axes.spines[side].set_color(Ink.MUTED)
            axes.spines[side].set_linewidth(0.7)
        axes.tick_params(colors=Ink.MUTED, labelsize=_SMALL, width=0.7, length=3)
        axes.set_axisbelow(True)
        return axes

    def finish(self, caption: str) -> Picture:
        """The picture, with a caption for the page."""
        wide = self.width > HALF + 0.1
        svg = draw(self.figure)
        return Picture(self.name, self.title, caption, svg, wide)


def heading(axes: Any, text: str) -> None:
    """A small title above a panel, left-aligned."""
    axes.set_title(text, loc="left", fontsize=_TEXT, color=Ink.TEXT, pad=5, parse_math=False)


def labels(axes: Any, x: str = "", y: str = "") -> None:
    """Names of the axes."""
    axes.set_xlabel(x, fontsize=_SMALL, color=Ink.MUTED, parse_math=False)
    axes.set_ylabel(y, fontsize=_SMALL, color=Ink.MUTED, parse_math=False)


def grid(axes: Any, axis: str) -> None:
    """Thin lines behind the marks."""
    axes.grid(axis=axis, color=Ink.LINE, linewidth=0.6)


def few_ticks(axes: Any, axis: str, count: int = 4, *, whole: bool = False) -> None:
    """At most `count` intervals on an axis, at whole numbers where `whole`."""
    getattr(axes, f"{axis}axis").set_major_locator(MaxNLocator(count, integer=whole))


def rows(axes: Any, names: Sequence[str], *, named: bool = True) -> None:
    """A row a name, the first on top."""
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)))
    axes.set_yticklabels(names if named else [], fontsize=_TEXT, color=Ink.TEXT, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def say(axes: Any, x: float, y: float, text: str, **style: Any) -> Any:
    """Text at a place; never read as mathematics."""
    style = {"fontsize": _SMALL, "color": Ink.TEXT, "parse_math": False} | style
    return axes.text(x, y, text, **style)


def signed(value: float, digits: int = 3) -> str:
    """A difference, with a real minus."""
    return f"{value:+.{digits}f}".replace("-", "−")


def dots(axes: Any, x: Array, y: Array, colour: str, size: float, alpha: float = 1.0) -> None:
    """Points as one path of zero-length strokes with round ends: a tenth of as many marks' size."""
    known = np.isfinite(x) & np.isfinite(y)
    points = np.column_stack([x[known], y[known]]).astype(np.float64)
    if not len(points):
        return
    codes = np.tile(np.array([Outline.MOVETO, Outline.LINETO], dtype=np.uint8), len(points))
    collection = PathCollection(
        [Outline(np.repeat(points, 2, axis=0), codes)],
        facecolors="none",
        edgecolors=colour,
        linewidths=size,
        alpha=alpha,
        capstyle="round",
        transform=axes.transData,
    )
    axes.add_collection(collection)
    axes.update_datalim(points)
    axes.autoscale_view()


def matrix(
    axes: Any,
    values: Array,
    row_names: Sequence[str],
    column_names: Sequence[str],
    *,
    texts: Sequence[Sequence[str]] | None = None,
    low: float = 0.0,
    high: float | None = None,
) -> None:
    """A heat map, cells as shapes; a cell without a value stays empty. `texts`: in the cells.

    A text is in the page's ink on light cells and white on full ones.
    """
    top = high if high is not None else max(float(np.nanmax(values, initial=low)), low + 1e-9)
    shown = np.ma.masked_invalid(values)
    count_rows, count_columns = values.shape
    axes.pcolormesh(
        np.arange(count_columns + 1) - 0.5,
        np.arange(count_rows + 1) - 0.5,
        shown,
        cmap=SEQUENTIAL,
        vmin=low,
        vmax=top,
        edgecolors=Ink.PAPER,
        linewidth=1.2,
    )
    rows(axes, row_names)
    axes.set_xlim(-0.5, count_columns - 0.5)
    axes.set_xticks(range(count_columns))
    axes.set_xticklabels(column_names, fontsize=_SMALL, color=Ink.TEXT, parse_math=False)
    axes.tick_params(axis="x", length=0)
    axes.spines["bottom"].set_visible(False)
    for r, line in enumerate(texts or ()):
        for c, text in enumerate(line):
            if text and np.isfinite(values[r, c]):
                full = (values[r, c] - low) / (top - low) > 0.55
                colour = "#ffffff" if full else Ink.TEXT
                say(axes, c, r, text, ha="center", va="center", color=colour, linespacing=1.35)
