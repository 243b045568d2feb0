"""Matplotlib figures as SVG text: the same bytes each time, small, in the colours of their page.

Figures are drawn with the marker colours of `Ink`. In a page these become CSS variables, so that
one picture suits light and dark; in a file of its own they stay, on a background of their own.
"""

from __future__ import annotations

import html
import io
import re
from typing import Any, Final

# Text stays text (found, copied, small); a fixed salt and no date keep the bytes.
_SETTINGS: Final = {
    "svg.fonttype": "none",
    "svg.hashsalt": "dhmd",
    "path.simplify": False,
    "font.family": "sans-serif",
}
_NO_METADATA: Final = {"Date": None, "Creator": None, "Format": None, "Type": None}
_FILE_FONT: Final = "'DejaVu Sans', Arial, sans-serif"
_DECIMALS: Final = re.compile(r"(-?\d+\.\d{2})\d+")
_GEOMETRY: Final = re.compile(r' (?:d|x|y|x1|x2|y1|y2|transform|width|height|viewBox)="[^"]*"')
# A move that draws nothing was a point's zero-length stroke, which matplotlib drops.
_POINT: Final = re.compile(r'(M -?[\d.]+ -?[\d.]+) \n(?=M|")')
_ID: Final = re.compile(r' id="([^"]*)"')
_REFERENCE: Final = re.compile(r'(?:href="#|url\(#)([^")]+)')
_FONT_LIST: Final = re.compile(r"(font:[^;\"]*?[\d.]+px) [^;\"]+")


class Ink:
    """Colours that the page decides; nothing else may be drawn in exactly these."""

    TEXT = "#24292f"
    MUTED = "#656d76"
    LINE = "#d8dee4"
    PAPER = "#fdfdfd"


_VARIABLES: Final = {
    Ink.TEXT: "var(--ink)",
    Ink.MUTED: "var(--muted)",
    Ink.LINE: "var(--line)",
    Ink.PAPER: "var(--paper)",
}


def draw(figure: Any) -> str:
    """The figure as an `<svg>` element, ready for a file once `for_file` has finished it."""
    # Whoever only joins pages needs no drawing library.
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    stream = io.StringIO()
    FigureCanvasSVG(figure)
    with mpl.rc_context(_SETTINGS):
        figure.savefig(stream, format="svg", metadata=_NO_METADATA)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = _GEOMETRY.sub(lambda found: _DECIMALS.sub(r"\1", found.group()), text)
    return _POINT.sub(r"\1h0 ", text)


def for_file(svg: str) -> str:
    """A whole SVG document."""
    text = _FONT_LIST.sub(rf"\1 {_FILE_FONT}", svg)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text.rstrip()}\n'


def for_page(svg: str, prefix: str, label: str) -> str:
    """The element as part of a page: `prefix` keeps its ids apart, `label` says what it shows."""
    used = set(_REFERENCE.findall(svg))
    text = _ID.sub(lambda found: _kept(found.group(1), used, prefix), svg)
    text = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    text = _FONT_LIST.sub(r"\1 var(--font)", text)
    # The namespaces of a document of its own mean nothing within HTML.
    text = re.sub(r' xmlns(?::xlink)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    named = html.escape(label, quote=True)
    return text.replace("<svg", f'<svg role="img" aria-label="{named}"', 1).rstrip()


def _kept(name: str, used: set[str], prefix: str) -> str:
    return f' id="{prefix}-{name}"' if name in used else ""
