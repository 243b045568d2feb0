"""What is written reads back exactly, with this project's reader and with pandas."""

from __future__ import annotations

import io
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhmd.base.errors import DhmdError
from dhmd.evaluation.files import (
    Predictions,
    as_written,
    json_text,
    parse_json,
    parse_predictions,
    parse_seeds,
    parse_truth,
    predictions_text,
    seeds_text,
    truth_text,
    written,
)
from dhmd.evaluation.metrics import score


@settings(deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_written_float32_reads_back_and_is_short(values):
    single = np.array(values, dtype=np.float32)
    texts = written(single)
    assert (texts.astype(np.float32) == single).all()
    assert all(len(text) <= 15 for text in texts)


def test_float32_is_written_in_its_own_digits():
    assert written(np.array([0.1, -2.0], dtype=np.float32)).tolist() == ["0.1", "-2.0"]
    assert as_written(np.array([0.1], dtype=np.float32))[0] == 0.1


def _predictions(task: str = "regression") -> Predictions:
    rng = np.random.default_rng(0)
    values = as_written(rng.normal(size=(2, 6)).astype(np.float32))
    labels = as_written(rng.normal(size=6).astype(np.float32))
    if task == "classification":
        values, labels = np.round(np.abs(values)), np.round(np.abs(labels))
    return Predictions(tuple(f'a,"{n}"[{n}]' for n in range(6)), labels, (3, 11), values)


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_predictions_there_and_back(task):
    predictions = _predictions(task)
    text = predictions_text(predictions, task)
    found = parse_predictions(text, "p")
    assert found.ids == predictions.ids
    assert found.seeds == (3, 11)
    assert (found.labels == predictions.labels).all()
    assert (found.values == predictions.values).all()
    assert predictions_text(found, task) == text
    assert text.splitlines()[0] == "id,label,seed_3,seed_11"


def test_pandas_computes_the_same_scores():
    predictions = _predictions()
    table = pd.read_csv(io.StringIO(predictions_text(predictions, "regression")))
    expected = score("regression", predictions.values[1], predictions.labels).values
    assert (table.seed_11 - table.label).abs().mean() == pytest.approx(expected["mae"], abs=1e-15)
    assert table.seed_11.corr(table.label) == pytest.approx(expected["corr"], abs=1e-12)


def test_classes_are_whole_numbers():
    row = predictions_text(_predictions("classification"), "classification").splitlines()[1]
    assert all(cell.isdecimal() for cell in row.split(",")[-3:])


def test_seeds_leave_undefined_cells_empty():
    constant = score("regression", np.full(3, 0.5), np.arange(3.0))
    good = score("regression", np.array([0.2, 0.9, 2.5]), np.arange(3.0))
    text = seeds_text({"test": {1: good, 2: constant}, "valid": {1: good}}, "regression")
    found = parse_seeds(text, "s")
    assert found["test"][1] == good.values
    assert found["test"][2] == constant.values
    assert "corr" not in found["test"][2]
    assert found["valid"] == {1: good.values}


def test_truth_there_and_back():
    ids, truth = parse_truth(truth_text(["a[0]", "a[1]"], np.array([0.1, -3.0])), "t")
    assert ids == ("a[0]", "a[1]")
    assert truth.tolist() == [0.1, -3.0]


def test_json_never_holds_nan():
    with pytest.raises(ValueError, match="JSON"):
        json_text({"mae": float("nan")})
    for text in ('{"mae": NaN}', '{"mae": -Infinity}'):
        with pytest.raises(DhmdError, match="m holds"):
            parse_json(text, "m")
    assert json.loads(json_text({"a": 0.1})) == {"a": 0.1}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no header"),
        ("id,label\na[0],1\n", "must be id,label,seed_1"),
        ("id,label,1\na[0],1,1\n", "must be id,label,seed_1"),
        ("id,label,seed_1,seed_1\na[0],1,1,1\n", "two columns"),
        ("id,label,seed_1\n", "no rows"),
        ("id,label,seed_1\na[0],1\n", "row 2: 2 cells"),
        ("id,label,seed_1\na[0],1,nan\n", r"a\[0\], seed_1 is 'nan'"),
        ("id,label,seed_1\na[0],1,\n", "is 'empty'"),
        ("id,label,seed_1\na[0],1,2\na[0],1,2\n", r"a\[0\] has two rows"),
        ('id,label,seed_1\n"a[0],1,2\n', "not readable as CSV"),
    ],
)
def test_broken_predictions_are_named(text, sentence):
    with pytest.raises(DhmdError, match=sentence):
        parse_predictions(text, "p.csv")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("seed,mae\n1,2\n", "must begin with seed,split"),
        ("seed,split,mae\n1,train,2\n", "seed '1' and split 'train'"),
        ("seed,split,mae\n1,test,2\n1,test,3\n", "two rows"),
        ("seed,split,mae\n1,test,inf\n", "seed 1, test, mae is 'inf'"),
    ],
)
def test_broken_seeds_are_named(text, sentence):
    with pytest.raises(DhmdError, match=sentence):
        parse_seeds(text, "s.csv")
