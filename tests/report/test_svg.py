"""Pictures as SVG: whose ids they have, whose colours, and that they draw what they should."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np

from dhmd.report.sheet import WIDE, Sheet, dots, matrix, say
from dhmd.report.svg import Ink, draw, for_file, for_page

TEXTS = ("<b>&\"'", "$\\alpha$ 0.123456")


def sheet() -> Sheet:
    found = Sheet("name", "A title <1> & 2", "toy · test, n = 3", WIDE, 2.0)
    axes = found.axes(1, 0.4, 3, 1.2)
    dots(axes, np.array([0.0, 1.0, np.nan, 2.0]), np.array([0.0, 1.0, 1.0, 0.5]), "#123456", 3)
    for place, text in enumerate(TEXTS):
        say(axes, place, 0.5, text)
    other = found.axes(5, 0.4, 2, 1.2)
    matrix(other, np.array([[0.1, np.nan], [0.9, 0.5]]), ["a", "b"], ["c", "d"],
           texts=[["10", "none"], ["90", "50"]])  # fmt: skip
    return found


def texts(svg: str) -> list[str]:
    root = ET.fromstring(svg)
    return ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]


def test_a_file_is_xml_with_text_as_text() -> None:
    svg = for_file(draw(sheet().figure))
    found = texts(svg)
    # Nothing is read as mathematics, and no digit of a text is rounded away.
    assert {*TEXTS, "A title <1> & 2", "toy · test, n = 3", "90"} <= set(found)
    assert "none" not in found  # a cell without a value has no text
    assert "var(--" not in svg
    assert "DejaVu Sans" in svg
    assert not re.search(r"<dc:date>|Matplotlib", svg)


def test_the_same_bytes_again() -> None:
    assert draw(sheet().figure) == draw(sheet().figure)


def test_points_are_strokes_of_no_length() -> None:
    svg = draw(sheet().figure)
    (path,) = re.findall(r'<path d="([^"]*)"[^>]*stroke: #123456', svg)
    # matplotlib keeps the last one's line; the others get one back.
    assert len(re.findall(r"M ", path)) == 3
    assert len(re.findall(r"h0|L ", path)) == 3


def test_a_page_sets_ids_apart_and_chooses_colours() -> None:
    svg = draw(sheet().figure)
    first, second = (for_page(svg, prefix, 'a "label"') for prefix in ("one", "2nd"))
    ids = re.findall(r'\bid="([^"]*)"', first)
    assert ids
    assert all(name.startswith("one-") for name in ids)
    assert not set(ids) & set(re.findall(r'\bid="([^"]*)"', second))
    used = re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', first)
    assert {a or b for a, b in used} == set(ids)
    for colour in (Ink.TEXT, Ink.MUTED, Ink.PAPER):
        assert colour in svg
        assert colour not in first
    assert "var(--ink)" in first
    assert 'role="img" aria-label="a &quot;label&quot;"' in first
    assert "xmlns" not in first
    assert "xlink" not in first
