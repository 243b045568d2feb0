"""The page in a real browser: nothing amiss, nothing fetched, every picture to be seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report.browser import CHROMIUM, Browser
from tests.report.corpora import Places

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt install chromium")

PICTURES = """[...document.querySelectorAll('figure svg')].map(svg => {
  const box = svg.getBoundingClientRect();
  const marks = [...svg.querySelectorAll('path, use, circle')].filter(
    mark => { const b = mark.getBoundingClientRect(); return b.width + b.height > 0; });
  return [svg.getAttribute('aria-label'), box.width, box.height, marks.length];
})"""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
# Relative luminance as in WCAG, of the text of a picture and of the ground that it stands on.
CONTRASTS = """(() => {
  const light = colour => {
    const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
      .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * parts[0] + .7152 * parts[1] + .0722 * parts[2];
  };
  const ratio = (a, b) => (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  const ground = light(getComputedStyle(document.querySelector('figure')).backgroundColor);
  const marked = ['rgb(255, 255, 255)'];  // white on a full cell or vertex
  return [...document.querySelectorAll('figure svg text')]
    .map(text => getComputedStyle(text).fill)
    .filter(fill => !marked.includes(fill))
    .map(fill => ratio(light(fill), ground));
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


def test_the_page_in_light_and_dark(browser: Browser, drawn: Places, tmp_path: Path) -> None:
    page = drawn.report / "index.html"
    browser.open(page)
    assert browser.requests() == [page.resolve().as_uri()]
    count = len(list((drawn.report / "pictures").iterdir()))
    for dark in (False, True):
        browser.dark(dark)
        pictures: list[Any] = browser.value(PICTURES)
        assert len(pictures) == count
        for label, width, height, marks in pictures:
            assert width > 300, label
            assert height > 100, label
            assert marks > 5, label
        assert min(browser.value(CONTRASTS)) > 2.5
        shot = tmp_path / f"{dark}.png"
        browser.picture(shot, {"x": 0, "y": 0, "width": 1180, "height": 900})
        assert shot.stat().st_size > 20_000
    assert (tmp_path / "True.png").read_bytes() != (tmp_path / "False.png").read_bytes()
    assert browser.value(OVERFLOW) == 0
    assert browser.value("document.querySelectorAll('script').length") == 0
    assert browser.complaints() == []


def test_a_picture_of_its_own(browser: Browser, drawn: Places) -> None:
    browser.open(drawn.report / "pictures" / "edges.svg")
    size = browser.value("(() => { const b = document.documentElement.getBoundingClientRect();"
                         " return [b.width, b.height]; })()")  # fmt: skip
    assert min(size) > 200
    assert len(browser.requests()) == 1
    assert browser.complaints() == []


def test_the_watch_sees_what_it_should(browser: Browser, tmp_path: Path) -> None:
    """Otherwise the silence above would prove nothing."""
    page = tmp_path / "loud.html"
    page.write_text(
        '<!doctype html><img src="http://127.0.0.1:9/x.png"><script>console.error("x")</script>'
    )
    browser.open(page)
    assert any(address.startswith("http://127.0.0.1:9/") for address in browser.requests())
    assert any("console" in said or "error" in said for said in browser.complaints())
