"""Import videos, train, predict a new video, and open the page of predictions in a browser."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from dhmd.api import train
from dhmd.cli import main
from tests.browser import chromium, needs_chromium
from tests.data.text.tiny import write_tiny
from tests.media.conftest import FPS, RATE, skip_without, write_video

ROOT = Path(__file__).parents[2]
TEXTS = ("this film was wonderful", "that was terrible", "it was okay", "a good story", "so boring")
SPLITS = ("train", "train", "train", "valid", "test")


@needs_chromium
@pytest.mark.timeout(900)
def test_a_new_video_is_predicted_and_shown_on_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, say, face, capsys
) -> None:
    skip_without("ffmpeg", "opensmile", "mediapipe", "pocketsphinx", "transformers")
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / "recipes", "recipes")
    shutil.copy(ROOT / "params.yaml", tmp_path)
    Path("videos").mkdir()
    rows = ["file,start,end,label,split"]
    for n, (text, split) in enumerate(zip(TEXTS, SPLITS, strict=True)):
        write_talking_video(Path("videos", f"talk{n}.mp4"), [text], say, face)
        rows.append(f"talk{n}.mp4,,,{n - 2},{split}")
    Path("labels.csv").write_text("\n".join(rows) + "\n")
    assert main(["import", "videos", "videos", "--labels", "labels.csv", "--dataset", "talks"]) == 0
    encoder = write_tiny(tmp_path / "encoder")
    settings = {"features.encoder": str(encoder), "compute.threads": 1, "pretrain.folds": 2}
    model = train("talks", seeds=2, epochs=1, output="model", **settings)

    new = Path("new.mp4")
    write_talking_video(new, TEXTS, say, face, pause=2.5)  # 20 seconds
    assert main(["extract", str(new), "--out", "features"]) == 0
    page = tmp_path / "new.html"
    command = ["predict", "features", "--model", str(model.folder), "--html", str(page)]
    assert main([*command, "--media", str(new)]) == 0
    capsys.readouterr()
    with chromium(tmp_path / "profile") as browser:
        browser.open(page)
        count = browser.evaluate("document.querySelectorAll('.segment').length")
        assert count == len(TEXTS)  # divided at the pauses
        browser.click(".segment .hit")
        details = browser.evaluate("document.querySelector('.details').innerText")
        assert "this film was wonderful" in details
        assert "Edges, homogeneous" in details
        assert browser.evaluate("document.querySelector('video').getAttribute('src')") == "new.mp4"
        assert browser.errors == []
        assert set(browser.fetched(page)) == {new.resolve().as_uri()}


def write_talking_video(path: Path, texts, say, face, pause: float = 0.0) -> None:
    """Write a video of a face that speaks sentences with pauses, and its transcript."""
    silence = np.zeros(int(pause * RATE), dtype=np.int16)
    sound = np.concatenate([part for text in texts for part in (say(text), silence)])
    write_video(path, [face] * round(len(sound) / RATE * FPS), sound)
    path.with_suffix(".txt").write_text(". ".join(texts))
