"""Compare the numbers in the figures with loops and hand calculations."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhmd.evaluation.tables import format_mean, pluralize, seed_statistics
from dhmd.report.charts import (
    calibration_error,
    confidences,
    confusion_counts,
    p_label,
    panel_title,
)
from dhmd.report.data import ReportData
from dhmd.report.model_charts import mean_activation, principal_plane, used_codes
from dhmd.report.utterances import utterance_errors


def data(labels: Any, values: Any = ((0.0,),), task: str = "regression", **more: Any) -> ReportData:
    """Build a `ReportData` with only the attributes that the functions read."""
    corpus = SimpleNamespace(
        low=more.pop("low", -3.0),
        high=more.pop("high", 3.0),
        class_names=more.pop("class_names", ("a", "b", "c")) if task != "regression" else (),
    )
    seeds = tuple(range(len(values)))
    predictions = SimpleNamespace(labels=np.array(labels), values=np.array(values), seeds=seeds)
    result = ReportData.__new__(ReportData)
    result.__dict__.update(
        identity=SimpleNamespace(task=task, dataset="toy"),
        corpus=corpus,
        rows=np.arange(len(labels)),
        predictions=predictions,
    )
    return result


def test_used_codes_leave_out_dead_ones() -> None:
    codes = np.zeros((4, 2, 5))
    codes[..., 3], codes[..., 1] = 0.7, 0.3
    present = np.ones((4, 2), dtype=bool)
    assert used_codes(codes, present, 5).tolist() == [3, 1]
    assert used_codes(codes, present, 1).tolist() == [3]
    assert mean_activation(codes, np.zeros_like(present)).tolist() == [0] * 5


def test_label_groups_are_signs_or_classes() -> None:
    groups = data([1.0, 1.0, 0.0, -1.0, -2.0]).label_groups()
    assert {name: int(mask.sum()) for name, mask in groups.items()} == {
        "negative": 2,
        "neutral": 1,
        "positive": 2,
    }
    classes = data([0.0, 1.0, 1.0], task="classification", class_names=("no", "yes"))
    assert {n: int(mask.sum()) for n, mask in classes.label_groups().items()} == {"no": 1, "yes": 2}


def test_confusion_counts_round_labels_like_acc7() -> None:
    labels = [-2.6, 0.5, 1.5, 3.0]
    values = [[-3.4, 0.49, 2.5, 2.6], [-2.4, -0.6, 1.4, 9.0]]
    counts = confusion_counts(data(labels, values))
    expected = np.zeros((7, 7), dtype=int)
    for row in values:
        for label, value in zip(labels, row, strict=True):
            a, b = (int(np.round(np.clip(x, -3, 3))) + 3 for x in (label, value))
            expected[a, b] += 1
    assert counts.tolist() == expected.tolist()
    assert counts[6].tolist() == [0, 0, 0, 0, 0, 0, 2]


def test_a_narrower_range_has_fewer_classes() -> None:
    few = data([-1.0, 0.4, 1.0], [[0.6, 0.0, 2.0]], low=-1.0, high=1.0)
    assert few.classes == ("-1", "0", "1")
    assert confusion_counts(few).tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 1]]
    named = data([0.0, 1.0, 2.0], [[0.0, 2.0, 2.0]], "classification")
    assert confusion_counts(named).tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 1]]
    sets = data([0b1011, 0b1100], [[0b1001, 0b1110]], "multilabel")
    assert confusion_counts(sets).tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 1]]
    assert sets.names_of(sets.labels) == ["a+b", "c"]


@given(st.lists(st.tuples(st.floats(0.01, 0.99), st.booleans()), min_size=1, max_size=40))
def test_the_calibration_error_equals_a_loop(pairs: list[tuple[float, bool]]) -> None:
    probabilities = np.array([[p, 1 - p] for p, _ in pairs])
    labels = np.array([int(label) for _, label in pairs])
    bins: dict[int, list[tuple[float, bool]]] = {}
    for (first, second), label in zip(probabilities, labels, strict=True):
        confidence, predicted = (first, 0) if first >= second else (second, 1)
        bins.setdefault(min(int(confidence * 10), 9), []).append((confidence, predicted == label))
    expected = sum(
        abs(sum(c for c, _ in members) - sum(correct for _, correct in members))
        for members in bins.values()
    ) / len(pairs)
    report_data = data(labels, task="classification", class_names=("a", "b"))
    error = calibration_error(*confidences(report_data, probabilities))
    assert error == pytest.approx(expected, abs=1e-12)


def test_errors_are_means_over_seeds() -> None:
    values = np.array([[[1.0], [2.0]], [[1.2], [1.0]]])
    assert utterance_errors("regression", values, np.array([1.0, -1.0])) == pytest.approx(
        [0.1, 2.5]
    )
    probabilities = np.array(
        [[[0.8, 0.1, 0.1], [0.5, 0.4, 0.1]], [[0.6, 0.2, 0.2], [0.7, 0.2, 0.1]]]
    )
    labels = np.array([0.0, 1.0])
    assert utterance_errors("classification", probabilities, labels) == pytest.approx([0.3, 0.7])
    sets = np.array([0b1011, 0b1000])  # the first two classes, and none
    assert utterance_errors("multilabel", probabilities, sets) == pytest.approx([1.3 / 3, 1 / 3])


def test_principal_components_keep_distances_of_planar_points() -> None:
    rng = np.random.default_rng(0)
    flat = rng.normal(size=(30, 2)) * [3.0, 1.0]
    turned = flat @ np.linalg.qr(rng.normal(size=(6, 6)))[0][:2] + 5
    points, share = principal_plane(turned)
    for a, b in ((0, 1), (2, 9), (17, 29)):
        distance = np.linalg.norm(flat[a] - flat[b])
        assert np.linalg.norm(points[a] - points[b]) == pytest.approx(distance)
    assert share.sum() == pytest.approx(1)
    assert share[0] > share[1]
    again, _ = principal_plane(turned[::-1])
    assert again[::-1] == pytest.approx(points)


def test_principal_components_of_equal_points_are_zero() -> None:
    points, share = principal_plane(np.ones((4, 3)))
    assert points == pytest.approx(np.zeros((4, 2)))
    assert share.tolist() == [0, 0]
    assert principal_plane(np.arange(5.0)[:, None])[0].shape == (5, 2)


def test_titles_and_numbers_are_formatted() -> None:
    assert panel_title("valid/mae") == "validation MAE"
    assert panel_title("train/gd_homogeneous") == "distillation (homo)"
    assert panel_title("lr") == "learning rate"
    assert [p_label(p) for p in (0.0004, 0.0321)] == ["p < 0.001", "p = 0.032"]
    assert [pluralize(n, "seed") for n in (1, 1200)] == ["1 seed", "1,200 seeds"]
    assert format_mean(seed_statistics(pd.Series([1.0, 2.0]))) == "1.500 ± 0.707"
    assert format_mean(seed_statistics(pd.Series([1.0]))) == "1.000"
    assert format_mean(seed_statistics(pd.Series([1.0, np.nan]))) == "-"
    note = data([0.0], [[0.0]] * 3).note(num_seeds=1)
    assert note == "toy · test, n = 1 utterances · first of 3 seeds"
