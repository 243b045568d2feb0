"""Test the predicted sign of twenty clear sentences, which were chosen before the first run."""

from __future__ import annotations

from pathlib import Path

import pytest

import dhmd

HERE = Path(__file__).parent / "twenty_sentences"


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_sign_of_clear_sentences_is_predicted(
    real_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)
    settings = {
        "model.modalities": ["text"],
        "data.sources.mosi_real_text": str(real_folder / "mosi"),
    }
    model = dhmd.train("mosi_real_text", seeds=1, **settings)
    table = model.predict(HERE / "sentences.srt")
    signs = (HERE / "signs.txt").read_text(encoding="utf-8").split()
    predicted = ["+" if mean > 0 else "-" for mean in table["mean"]]
    right = sum(actual == expected for actual, expected in zip(predicted, signs, strict=True))
    assert right >= 16, list(zip(table["text"], table["mean"], signs, strict=True))
