"""Files are read exactly as written; errors name the file and the position."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dhmd.base.errors import DhmdError
from dhmd.evaluation.files import (
    Predictions,
    aggregate_seeds,
    build_summary,
    decimal_round_trip,
    headline_values,
    json_text,
    parse_json,
    parse_predictions,
    parse_seeds,
)


@settings(deadline=None)
@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_float32_survives_a_decimal_round_trip(values):
    single = np.array(values, dtype=np.float32)
    double = decimal_round_trip(single)
    assert (double.astype(np.float32) == single).all()
    assert [repr(value) for value in double.tolist()] == [repr(float(str(x))) for x in single]


def test_float32_keeps_its_digits():
    assert decimal_round_trip(np.array([0.1], dtype=np.float32))[0] == 0.1


def test_json_never_contains_nan():
    with pytest.raises(ValueError, match="JSON"):
        json_text({"mae": float("nan")})
    for text in ('{"mae": NaN}', '{"mae": -Infinity}'):
        with pytest.raises(DhmdError, match="m contains"):
            parse_json(text, "m")
    assert json.loads(json_text({"a": 0.1})) == {"a": 0.1}


def test_quoted_ids_of_predictions_are_parsed():
    predictions = parse_predictions('id,label,seed_3,seed_11\n"a,""b""[0]",0.5,1,-2e-05\n', "p")
    assert (predictions.ids, predictions.seeds) == (('a,"b"[0]',), (3, 11))
    assert predictions.labels.tolist() == [0.5]
    assert predictions.values.tolist() == [[1.0], [-2e-05]]


def test_empty_cells_of_seeds_are_undefined_metrics():
    scores = parse_seeds("seed,split,mae,corr\n1,test,0.5,\n1,valid,0.25,0.1\n", "s")
    assert scores == {"test": {1: {"mae": 0.5}}, "valid": {1: {"mae": 0.25, "corr": 0.1}}}


@pytest.mark.parametrize(
    ("parse", "text", "sentence"),
    [
        (parse_predictions, "", "id, label, each once"),
        (parse_predictions, "id,label\na[0],1\n", "must be id,label,seed_1"),
        (parse_predictions, "id,label,1\na[0],1,1\n", "must be id,label,seed_1"),
        (parse_predictions, "id,label,seed_1,seed_1\na[0],1,1,1\n", "each once"),
        (parse_predictions, "id,label,seed_1\n", "no rows"),
        (parse_predictions, "id,label,seed_1\na[0],1\n", "line 2 has 2 cells"),
        (parse_predictions, "id,label,seed_1\na[0],1,nan\n", r"a\[0\], seed_1 is 'nan'"),
        (parse_predictions, "id,label,seed_1\na[0],1,\n", "seed_1 is ''"),
        (parse_predictions, "id,label,seed_1\na[0],1,2\na[0],1,2\n", "an id has two rows"),
        (parse_predictions, 'id,label,seed_1\n"a[0],1,2\n', "not readable as CSV"),
        (parse_seeds, "seed,mae\n1,2\n", "seed, split, each once"),
        (parse_seeds, "seed,split,mae\n1,train,2\n", "seed '1' and the split 'train'"),
        (parse_seeds, "seed,split,mae\n1,test,2\n1,test,3\n", "seed 1 has two rows"),
        (parse_seeds, "seed,split,mae\n1,test,inf\n", "1, test, mae is 'inf'"),
    ],
)
def test_broken_files_are_named(parse, text, sentence):
    with pytest.raises(DhmdError, match=sentence) as error:
        parse(text, "f.csv")
    assert str(error.value).startswith("f.csv")


def test_a_mean_needs_every_seed():
    aggregated = aggregate_seeds({1: {"mae": 1.0}, 2: {"mae": 2.0, "corr": 0.5}}, ("mae", "corr"))
    assert aggregated == {"mae": {"mean": 1.5, "std": pytest.approx(0.5**0.5)}}
    assert aggregate_seeds({}, ("mae",)) == {}


def test_headline_values_are_means_over_seeds():
    values_EN = np.array([[0.4, 1.6, -0.4], [0.6, 1.4, 0.2]])
    predictions = Predictions(
        ("a[0]", "a[1]", "a[2]"), np.array([0.0, 2.0, -1.0]), (1, 2), values_EN
    )
    by_seed = {1: {"mae": 0.4, "corr": 0.9}, 2: {"mae": 0.6}}
    summary = build_summary("regression", {"test": by_seed, "valid": by_seed}, predictions, None)
    assert headline_values("regression", summary) == {
        "test": {"mae": 0.5, "mae_std": pytest.approx(0.1414, abs=1e-4)},
        "valid": {"mae": 0.5},
        "n_seeds": 2,
    }
    assert {"test.corr", "valid.corr"} <= set(summary["undefined"])
