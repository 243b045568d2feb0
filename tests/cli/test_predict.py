"""Test the notes, the result and the errors of `dhmd predict`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dhmd.cli import main
from dhmd.prediction.model import Model
from tests.prediction.conftest import one_thread, trained_regression
from tests.prediction.corpora import Pipeline

__all__ = ["one_thread", "trained_regression"]


def test_the_table_is_written_or_printed(
    trained_regression: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output = (
        trained_regression.inputs(tmp_path / "new", "words", "vectors"),
        tmp_path / "p.csv",
    )
    words = ["predict", str(folder), "--model", str(trained_regression.model), "--device", "cpu"]
    words += ["--segments", str(trained_regression.raw / "labels.csd")]
    assert main([*words, "--output", str(output)]) == 0
    captured = capsys.readouterr()
    with pytest.warns(UserWarning, match="has no visual"):
        table = Model(trained_regression.model).predict(
            folder, segments=trained_regression.raw / "labels.csd"
        )
    assert captured.out == f"wrote {output}: {len(table)} segments, 2 seeds and their mean\n"
    assert captured.err.startswith(f"dhmd predict: {folder} has no acoustic.csd or Tiny_acoustic")
    csv = pd.read_csv(output, index_col="id")
    np.testing.assert_array_equal(csv["mean"].astype(np.float32), table["mean"])
    assert main(words) == 0
    assert table.index[0] in capsys.readouterr().out


def error_message(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that fails, and return its line on stderr."""
    assert main(words) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    line, end = captured.err.split("\n")
    assert end == ""
    return line


def test_the_error_for_a_folder_without_a_model_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["predict", str(tmp_path), "--model", str(tmp_path), "--output", "o.csv"]
    assert error_message(words, capsys).startswith(
        f"dhmd predict: {tmp_path} is not a model folder: "
    )


def test_the_output_must_not_replace_inputs_or_the_model(
    trained_regression: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, description = (
        trained_regression.inputs(tmp_path / "new"),
        trained_regression.model / "model.json",
    )
    before = (folder / "words.csd").read_bytes(), description.read_bytes()
    for output, sentence in (
        (folder / "words.csd", "is one of the inputs"),
        (description, "an input"),
        (tmp_path, "is a folder"),
    ):
        words = [
            "predict",
            str(folder),
            "--model",
            str(trained_regression.model),
            "--output",
            str(output),
        ]
        assert sentence in error_message(words, capsys)
    assert ((folder / "words.csd").read_bytes(), description.read_bytes()) == before
