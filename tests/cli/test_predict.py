"""`dhmd predict`: notes, result and errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from dhmd.cli import main
from dhmd.prediction import Predicted


def test_notes_go_to_stderr_and_the_result_to_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: dict[str, object] = {}

    def fake(model: Path, folder: Path, output: Path, **options: object) -> Predicted:
        asked.update(model=model, folder=folder, output=output, **options)
        return Predicted(segments=3, seeds=(1, 2), notes=("audio counts as absent", "and so on"))

    monkeypatch.setattr("dhmd.prediction.predict_folder", fake)
    words = "predict --model m --input i --output o.csv --segments s.csv --device cpu"
    assert main(words.split()) == 0
    captured = capsys.readouterr()
    assert captured.out == "wrote o.csv: 3 segments, 2 seeds and their mean\n"
    assert captured.err == "dhmd predict: audio counts as absent\ndhmd predict: and so on\n"
    assert asked == {
        "model": Path("m"),
        "folder": Path("i"),
        "output": Path("o.csv"),
        "segments": Path("s.csv"),
        "device": "cpu",
    }


def test_a_folder_that_is_no_model_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", "--model", str(tmp_path), "--input", str(tmp_path), "--output", "o.csv"]
    assert main(words) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"dhmd predict: {tmp_path} is no model folder: ")
    assert captured.err.count("\n") == 1
