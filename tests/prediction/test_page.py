"""Test the page of predictions in a browser: offline, without errors, for any words."""

from __future__ import annotations

import json
import re
import time
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dhmd.cli import main
from dhmd.evaluation.explanations import Explanations
from dhmd.prediction.model import Model
from dhmd.prediction.page import media_by_video, write_page
from dhmd.report.page import render_template
from dhmd.report.utterances import utterances_view
from tests.browser import Browser, chromium, needs_chromium
from tests.prediction.corpora import CLASSES, Pipeline, change

SEGMENTS = "document.querySelectorAll('.segment').length"
DETAILS = "document.querySelector('.details').innerText"


def embedded(page: Path) -> dict[str, Any]:
    """Return the JSON data in a page."""
    (text,) = re.findall(
        r'<script type="application/json">(.*?)</script>', page.read_text("utf-8"), re.S
    )
    data: dict[str, Any] = json.loads(text)
    return data


def predict(pipeline: Pipeline, folder: Path, *media: Path) -> tuple[Any, Path]:
    """Run the model on the training files; return the table and the path of the page."""
    model = Model(pipeline.model, "cpu")
    outputs = model.run(folder, truncate=True)
    page = folder.parent / "page.html"
    write_page(page, model, outputs, media)
    return outputs.table(), page


def copy_with_hostile_words(pipeline: Pipeline, folder: Path) -> Path:
    """Copy the training files, with words that would end a script element."""
    pipeline.inputs(folder)

    def alter(_: str, words: Any, intervals: Any) -> Any:
        words[0, 0] = b"</script><script>document.title='seized'</script>"
        return words, intervals

    change(folder / "words.csd", alter)
    return folder


def write_silence(path: Path) -> Path:
    """Write a second of silence."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 8000, "NONE", ""))
        file.writeframes(bytes(16000))
    return path


def test_the_page_contains_the_predictions(trained: Pipeline, tmp_path: Path) -> None:
    table, page = predict(trained, trained.inputs(tmp_path / "new"))
    items = embedded(page)["items"]
    assert [item["id"] for item in items] == table.index.tolist()
    for item, (_, row) in zip(items, table.iterrows(), strict=True):
        assert np.mean(item["shown"]) == pytest.approx(row["mean"], abs=1e-3)
        assert item["time"] == pytest.approx([row["start"], row["end"]], abs=0.01)
        assert item["words"] == row["text"]


def test_the_page_plays_media_files_next_to_the_input(
    trained: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, page = trained.inputs(tmp_path / "new"), tmp_path / "out" / "page.html"
    page.parent.mkdir()
    video = Model(trained.model, "cpu").read(folder, truncate=True).ids[0].partition("[")[0]
    write_silence(folder / f"{video}.wav")
    command = ["predict", str(folder), "--model", str(trained.model), "--truncate"]
    assert main([*command, "--html", str(page)]) == 0
    assert capsys.readouterr().out.startswith(f"wrote {page}: a page of ")
    assert embedded(page)["media"][video] == {"src": f"../new/{video}.wav", "element": "audio"}
    assert main([*command, "--html", str(trained.model / "page.html")]) == 1
    assert not (trained.model / "page.html").exists()


@needs_chromium
def test_the_page_of_a_regression_explains_a_segment(trained: Pipeline, tmp_path: Path) -> None:
    table, page = predict(trained, copy_with_hostile_words(trained, tmp_path / "new"))
    with chromium(tmp_path / "profile") as browser:
        browser.open(page)
        assert browser.evaluate(SEGMENTS) == len(table)
        browser.click(".segment:last-child .hit")
        text = browser.evaluate(DETAILS)
        assert text.startswith(table.index[-1])
        for part in (
            "Edges, homogeneous",
            "Auxiliary outputs",
            "Active codes",
            "Contribution of each modality",
        ):
            assert part in text
        browser.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowLeft")
        assert browser.evaluate(DETAILS).startswith(table.index[-2])
        assert browser.evaluate("document.title") == "Predictions"
        check_offline(browser, page)


@needs_chromium
def test_the_page_of_a_classification_plays_audio(
    trained_classes: Pipeline, tmp_path: Path
) -> None:
    folder = trained_classes.inputs(tmp_path / "new", "words", "vectors", "visual")
    (tmp_path / "media").mkdir()
    video = Model(trained_classes.model, "cpu").read(folder, truncate=True).ids[0].partition("[")[0]
    sound = write_silence(tmp_path / "media" / f"{video}.wav")
    table, page = predict(trained_classes, folder, sound.parent)
    with chromium(tmp_path / "profile") as browser:
        browser.open(page)
        assert browser.evaluate(SEGMENTS) == len(table)
        browser.click(".rows tr")
        text = browser.evaluate(DETAILS)
        assert "Probabilities" in text
        assert all(name in text for name in CLASSES)
        source = browser.evaluate("document.querySelector('audio').getAttribute('src')")
        assert source == f"media/{video}.wav"
        wait_for(browser, "document.querySelector('audio').duration > 0.9")
        check_offline(browser, page, sound)


@needs_chromium
def test_a_thousand_segments_stay_usable(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    m, n, s = 3, 1000, 5
    edges = rng.dirichlet(np.ones(m), (s, n, m)).swapaxes(2, 3)
    explanations = Explanations(
        task="regression",
        ids=tuple(f"long[{i}]" for i in range(n)),
        seeds=tuple(range(s)),
        modalities=("text", "audio", "vision"),
        class_names=(),
        arrays={
            "prediction": rng.normal(size=(s, n)),
            **{f"missing/{name}": rng.normal(size=(s, n)) for name in ("text", "audio", "vision")},
            **{f"edges/{space}": edges for space in ("homogeneous", "heterogeneous")},
            **{f"codes/{space}": rng.dirichlet(np.full(128, 0.05), (n, m)) for space in "ab"},
        },
        present_NM=np.ones((n, m), dtype=bool),
        words=[["word"] * 20] * n,
    )
    times = np.stack([np.arange(n) * 5.0, np.arange(n) * 5.0 + 4.0], axis=1)
    data = utterances_view(explanations, -3, 3, intervals_N2=times)
    page = tmp_path / "page.html"
    page.write_text(
        render_template("predictions.html", title="Long", lead="", notes=(), view=data), "utf-8"
    )
    assert page.stat().st_size < 2e6
    with chromium(tmp_path / "profile") as browser:
        browser.open(page)
        assert browser.evaluate(SEGMENTS) == n
        start = time.perf_counter()
        browser.click(".rows tr:nth-child(990)")
        assert browser.evaluate(DETAILS).startswith("long[989]")
        assert time.perf_counter() - start < 3
        widths = browser.evaluate(
            "[...document.querySelectorAll('.hit')].map(e => e.getBoundingClientRect().width)"
        )
        assert min(widths) > 3  # wide enough to click on; the timeline scrolls
        check_offline(browser, page)


def test_media_are_found_by_name(tmp_path: Path) -> None:
    for name in ("a.wav", "a.mp4", "b.wav", "c.txt", "d.mp4"):
        (tmp_path / name).write_bytes(b"")
    files = media_by_video(["a", "b", "c", "a"], [tmp_path, tmp_path / "gone.mp4"])
    assert files == {"a": tmp_path / "a.mp4", "b": tmp_path / "b.wav"}


def check_offline(browser: Browser, page: Path, *media: Path) -> None:
    assert browser.errors == []
    assert set(browser.fetched(page)) == {path.as_uri() for path in media}


def wait_for(browser: Browser, condition: str) -> None:
    for _ in range(100):
        if browser.evaluate(condition):
            return
        time.sleep(0.1)
    raise AssertionError(condition)
