"""Test the page in a browser: visible figures, explanations on a click, no requests."""

from __future__ import annotations

from pathlib import Path

from tests.browser import chromium, needs_chromium
from tests.report.corpora import SIZES, DatasetPaths

pytestmark = needs_chromium

MEASURE = """(() => {
const light = colour => {  // relative luminance as in WCAG
  const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
    .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
  return .2126 * parts[0] + .7152 * parts[1] + .0722 * parts[2];
};
const ratio = (a, b) => (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
const all = (where, selector) => [...where.querySelectorAll(selector)];
const ground = light(getComputedStyle(document.querySelector('figure')).backgroundColor);
return {
  ground: ground,
  overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  figures: all(document, 'figure svg').map(svg => {
    const box = svg.getBoundingClientRect();
    const marks = all(svg, 'path, use, circle').map(mark => mark.getBoundingClientRect());
    return [box.width, box.height, marks.filter(b => b.width + b.height > 0).length];
  }),
  contrast: Math.min(...all(document, 'figure svg text').map(text => getComputedStyle(text).fill)
    .filter(fill => fill != 'rgb(255, 255, 255)')  // white on a full cell or vertex
    .map(fill => ratio(light(fill), ground))),
};
})()"""


def test_the_page_is_legible_in_light_and_dark(toy_paths: DatasetPaths, tmp_path: Path) -> None:
    page = toy_paths.report / "index.html"
    count = len(list((toy_paths.report / "pictures").iterdir()))
    grounds = []
    with chromium(tmp_path / "profile") as browser:
        for dark, width in ((False, 1180), (True, 600)):
            browser.open(page, width=width, dark=dark)
            measured = browser.evaluate(MEASURE)
            assert measured["overflow"] == 0
            assert measured["contrast"] > 2.5
            assert len(measured["figures"]) == count
            assert all(w > 300 and h > 80 and marks > 5 for w, h, marks in measured["figures"])
            assert browser.errors == browser.fetched(page) == []
            grounds.append(measured["ground"])
    assert grounds[0] > 0.9 > 0.1 > grounds[1]


def test_utterances_are_sorted_filtered_and_explained(
    toy_paths: DatasetPaths, tmp_path: Path
) -> None:
    page = toy_paths.report / "index.html"
    segments = "document.querySelectorAll('.segment').length"
    errors = "[...document.querySelectorAll('.rows tr')].map(r => Number(r.cells[4].textContent))"
    with chromium(tmp_path / "profile") as browser:
        browser.open(page)
        assert browser.evaluate(segments) == sum(SIZES.values())
        listed = browser.evaluate(errors)
        assert listed == sorted(listed, reverse=True)  # the largest error first
        choose = "(() => {{ const f = document.querySelector('[name={}]'); f.value = '{}';"
        choose += "f.dispatchEvent(new Event('input')); }})()"
        browser.evaluate(choose.format("split", "test"))
        assert browser.evaluate(segments) == SIZES["test"]
        browser.evaluate(choose.format("group", "negative"))
        labels = browser.evaluate(
            "[...document.querySelectorAll('.rows tr')].map(r => r.cells[3].textContent[0])"
        )
        assert 0 < len(labels) < SIZES["test"]
        assert set(labels) == {"−"}
        limit = listed[len(listed) // 2]
        browser.evaluate(choose.format("group", ""))
        browser.evaluate(choose.format("split", ""))
        browser.evaluate(choose.format("least", limit))
        filtered = browser.evaluate(errors)
        assert 0 < len(filtered) < len(listed)
        assert min(filtered) >= limit  # both rounded
        browser.click(".rows tr")
        text = browser.evaluate("document.querySelector('.details').innerText")
        for part in ("Edges, homogeneous", "Edges, heterogeneous", "Active codes", "by seed"):
            assert part in text
        first = browser.evaluate("document.querySelector('.rows tr').cells[0].textContent")
        assert text.startswith(first)
        assert browser.evaluate("document.querySelectorAll('.selected').length") == 2
        assert browser.errors == browser.fetched(page) == []


def test_errors_and_requests_are_seen(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text('<img src="http://127.0.0.1:9/x.png"><script>throw Error("no")</script>')
    with chromium(tmp_path / "profile") as browser:
        browser.open(page)
        assert browser.fetched(page) == ["http://127.0.0.1:9/x.png"]
        assert any("Error: no" in error for error in browser.errors)
