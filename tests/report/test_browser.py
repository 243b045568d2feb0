"""The page in a real browser, light and dark: figures visible, no overflow, nothing fetched."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.report.corpora import Places

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt install chromium")

# Runs in a copy of the page whose policy allows it; the result is read from the dumped document.
MEASURE = """<script>addEventListener("load", () => {
const light = colour => {  // relative luminance as in WCAG
  const parts = colour.match(/[\\d.]+/g).slice(0, 3).map(v => v / 255)
    .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
  return .2126 * parts[0] + .7152 * parts[1] + .0722 * parts[2];
};
const ratio = (a, b) => (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
const all = (where, selector) => [...where.querySelectorAll(selector)];
const ground = light(getComputedStyle(document.querySelector('figure')).backgroundColor);
const result = {
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
  fetched: performance.getEntriesByType('resource').map(entry => entry.name),
};
document.body.innerHTML = '<pre id="result">' + JSON.stringify(result) + '</pre>';
});</script>"""


def measure(page: str, folder: Path, *options: str, width: int = 1180) -> dict[str, Any]:
    """Open a page in headless Chromium and return what the script above measures."""
    page = re.sub(r"<meta http-equiv=.*?>", "", page).replace("</body>", f"{MEASURE}</body>")
    (folder / "page.html").write_text(page, encoding="utf-8")
    command = [
        str(CHROMIUM),
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--no-first-run", "--disable-background-networking", "--hide-scrollbars"),
        *(f"--window-size={width},900", f"--user-data-dir={folder / 'profile'}", *options),
        *("--dump-dom", (folder / "page.html").as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    found = re.search(r'<pre id="result">(.*?)</pre>', done.stdout)
    assert found, done.stderr
    result: dict[str, Any] = json.loads(found.group(1))
    return result


def test_the_page_in_light_and_dark(drawn: Places, tmp_path: Path) -> None:
    page = (drawn.report / "index.html").read_text("utf-8")
    count = len(list((drawn.report / "pictures").iterdir()))
    dark = "--blink-settings=preferredColorScheme=0"
    grounds = []
    for options, width in (((), 1180), ((dark,), 600)):
        found = measure(page, tmp_path, *options, width=width)
        assert found["overflow"] == 0
        assert found["fetched"] == []
        assert found["contrast"] > 2.5
        assert len(found["figures"]) == count
        assert all(w > 300 and h > 80 and marks > 5 for w, h, marks in found["figures"])
        grounds.append(found["ground"])
    assert grounds[0] > 0.9 > 0.1 > grounds[1]


def test_the_measurement_sees_what_is_fetched(tmp_path: Path) -> None:
    page = '<body><figure><svg><text>x</text></svg></figure><img src="http://127.0.0.1:9/x.png"></body>'
    assert measure(page, tmp_path)["fetched"] == ["http://127.0.0.1:9/x.png"]
