"""The numbers behind pictures, against plain loops."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhmd.report.charts.embeddings import plane
from dhmd.report.charts.predictions import calibration_error, confusion_counts, worst
from dhmd.report.charts.training import curves_of, panel_title, short
from dhmd.report.inputs import Inputs, counted
from dhmd.report.sheet import signed


def inputs(task: str, labels: Any, values: Any, **more: Any) -> Inputs:
    """Only what a chart of predictions reads; the methods are the real ones."""
    classification = task == "classification"
    corpus = SimpleNamespace(
        low=more.pop("low", -3.0),
        high=more.pop("high", 3.0),
        class_names=("a", "b", "c") if classification else (),
        ids=tuple(f"v[{n}]" for n in range(len(labels))),
        words=more.pop("words", None),
    )
    bare = Inputs.__new__(Inputs)
    state = {
        "identity": SimpleNamespace(task=task, dataset="toy"),
        "corpus": corpus,
        "seeds": tuple(range(len(values))),
        "rows": np.arange(len(labels)),
        "modalities": ("text",),
        "predictions": SimpleNamespace(labels=np.array(labels), values=np.array(values)),
        "present": np.ones((len(labels), 1), dtype=bool),
        "probabilities": None,
        "truth": None,
    }
    bare.__dict__.update(state | more)
    return bare


def test_confusion_in_seven_classes_rounds_as_acc7() -> None:
    labels = [-2.6, 0.5, 1.5, 3.0]
    values = [[-3.4, 0.49, 2.5, 2.6], [-2.4, -0.6, 1.4, 9.0]]
    counts = confusion_counts(inputs("regression", labels, values))
    expected = np.zeros((7, 7), dtype=int)
    for row in values:
        for label, value in zip(labels, row, strict=True):
            a, b = (int(np.round(np.clip(x, -3, 3))) + 3 for x in (label, value))
            expected[a, b] += 1
    assert counts.tolist() == expected.tolist()
    assert counts[6].tolist() == [0, 0, 0, 0, 0, 0, 2]


def test_a_narrower_range_has_fewer_classes() -> None:
    few = inputs("regression", [-1.0, 0.4, 1.0], [[0.6, 0.0, 2.0]], low=-1.0, high=1.0)
    assert few.classes == ("-1", "0", "1")
    assert confusion_counts(few).tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 1]]


def test_confusion_of_classes() -> None:
    found = confusion_counts(inputs("classification", [0.0, 1.0, 2.0], [[0.0, 2.0, 2.0]]))
    assert found.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]


@given(st.lists(st.tuples(st.floats(0.01, 0.99), st.booleans()), min_size=1, max_size=40))
def test_calibration_error_against_a_loop(pairs: list[tuple[float, bool]]) -> None:
    probabilities = np.array([[p, 1 - p] for p, _ in pairs])
    truth = np.array([int(t) for _, t in pairs])
    bins: dict[int, list[tuple[float, bool]]] = {}
    for (first, second), t in zip(probabilities, truth, strict=True):
        confidence, said = (first, 0) if first >= second else (second, 1)
        bins.setdefault(min(int(confidence * 10), 9), []).append((confidence, said == t))
    expected = sum(
        abs(sum(c for c, _ in members) - sum(right for _, right in members))
        for members in bins.values()
    ) / len(pairs)
    assert calibration_error(probabilities, truth) == pytest.approx(expected, abs=1e-12)


def test_worst_utterances_come_first_and_carry_what_was_said() -> None:
    words = (("fine",), ("quite", "bad"), ("uh",))
    values = [[1.0, 2.0, 0.0], [1.2, 1.0, 0.5]]
    truth = np.array([1.0, -2.0, 0.0])
    given_in = inputs("regression", [1.0, -1.0, 0.0], values, words=words, truth=truth)
    first, second = worst(given_in, 2)
    assert first["id"] == "v[1]"
    assert first["words"] == "quite bad"
    assert first["error"] == pytest.approx(2.5)
    assert first["prediction"] == pytest.approx(1.5)
    assert first["spread"] == pytest.approx(np.sqrt(0.5))
    assert first["truth"] == -2.0
    assert second["id"] == "v[2]"


def test_worst_of_classes_are_those_whose_truth_is_least_believed() -> None:
    chances = np.array([[[0.8, 0.1, 0.1], [0.5, 0.4, 0.1]], [[0.6, 0.2, 0.2], [0.7, 0.2, 0.1]]])
    found = worst(inputs("classification", [0.0, 1.0], [[0.0, 0.0]] * 2, probabilities=chances), 1)
    assert found[0]["id"] == "v[1]"
    assert found[0]["prediction"] == 0
    assert found[0]["error"] == pytest.approx(0.7)


def test_the_plane_keeps_distances_of_what_lies_in_one() -> None:
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(30, 2)) * [3.0, 1.0]
    turned = flat @ np.linalg.qr(rng.normal(size=(6, 6)))[0][:2] + 5
    points, share = plane(turned)
    for a, b in ((0, 1), (2, 9), (17, 29)):
        assert np.linalg.norm(points[a] - points[b]) == pytest.approx(
            np.linalg.norm(flat[a] - flat[b])
        )
    assert share.sum() == pytest.approx(1)
    assert share[0] > share[1]
    again, _ = plane(turned[::-1])
    assert again[::-1] == pytest.approx(points)


def test_the_plane_of_little_is_no_failure() -> None:
    points, share = plane(np.ones((4, 3)))
    assert points == pytest.approx(np.zeros((4, 2)))
    assert share.tolist() == [0, 0]
    assert plane(np.arange(5.0)[:, None])[0].shape == (5, 2)


def test_curves_and_their_names() -> None:
    rows = [
        {"seed": "1", "epoch": "1", "name": "valid/mae", "value": "1.5"},
        {"seed": "2", "epoch": "1", "name": "valid/mae", "value": "1.4"},
        {"seed": "1", "epoch": "2", "name": "valid/mae", "value": "1.2"},
    ]
    assert curves_of(rows) == {"valid/mae": {"1": ([1, 2], [1.5, 1.2]), "2": ([1], [1.4])}}
    assert panel_title("valid/mae") == "validation MAE"
    assert panel_title("train/gd_homogeneous") == "distillation (homo)"
    assert panel_title("lr") == "learning rate"
    assert [short(v) for v in (0.0, 0.002, 1.25, 18.0)] == ["0", "2e-3", "1.25", "18"]


def test_small_words() -> None:
    assert signed(-0.0321) == "\u22120.032"
    assert signed(0.5, 2) == "+0.50"
    assert counted(1, "seed") == "1 seed"
    assert counted(1200, "seed") == "1,200 seeds"
    assert (
        cast(Any, inputs("regression", [0.0], [[0.0]] * 3))
        .note(seeds=1)
        .endswith("n = 1 utterances · seed 0 of 3 seeds")
    )
