"""Compare the metrics with hand calculations, scipy, and their definitions in plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dhmd.base.errors import DhmdError
from dhmd.evaluation import metrics
from dhmd.evaluation.metrics import UndefinedMetricError, score

P = np.array([-3.4, -1.5, -0.5, 0.0, 0.5, 1.5, 2.5, 0.2])
Y = np.array([-3.0, -2.0, 0.0, -0.4, 1.0, 1.4, 3.0, 0.0])


def test_regression_metrics_equal_a_hand_calculation():
    scores = score("regression", P, Y)
    assert scores.undefined == {}
    # |p - y| = .4 .5 .5 .4 .5 .1 .5 .2
    assert scores.values["mae"] == pytest.approx(3.1 / 8)
    # Rounded half to even, p: -3 -2 0 0 0 2 2 0; y: -3 -2 0 0 1 1 3 0.
    assert scores.values["acc7"] == 5 / 8
    # Clipped at 2, p: -2 -2 0 0 0 2 2 0; y: -2 -2 0 0 1 1 2 0.
    assert scores.values["acc5"] == 6 / 8
    # Clipped at 1, p: -1 -1 0 0 0 1 1 0; y: -1 -1 0 0 1 1 1 0.
    assert scores.values["acc3"] == 7 / 8
    # Non-negative, p: 0 0 0 1 1 1 1 1; y: 0 0 1 0 1 1 1 1.
    assert scores.values["acc2_has0"] == 6 / 8
    # Class 0: support 3, predicted 3, right 2; class 1: support 5, predicted 5, right 4.
    assert scores.values["f1_has0"] == pytest.approx(3 / 8 * 2 / 3 + 5 / 8 * 4 / 5)
    # Without the two labels of 0; positive, p: 0 0 0 1 1 1; y: 0 0 0 1 1 1.
    assert scores.values["acc2_non0"] == 1.0
    assert scores.values["f1_non0"] == 1.0
    assert scores.values["corr"] == pytest.approx(stats.pearsonr(P, Y).statistic, abs=1e-14)


def test_a_prediction_of_zero_is_not_positive_but_is_not_negative():
    p, y = np.array([0.0, 0.0]), np.array([1.0, -1.0])
    values = score("regression", p, y).values
    assert values["acc2_non0"] == 0.5
    assert values["acc2_has0"] == 0.5
    assert score("regression", p, np.array([1.0, 2.0])).values["acc2_non0"] == 0.0
    assert score("regression", p, np.array([1.0, 2.0])).values["acc2_has0"] == 1.0


def test_f1_is_weighted_by_the_true_class():
    y, p = np.array([1, 1, 1, 0]), np.array([1, 0, 0, 0])
    values = score("classification", p.astype(float), y.astype(float)).values
    # Class 1: precision 1, recall 1/3, F1 1/2, support 3; class 0: 1/3, 1, 1/2, support 1.
    assert values["precision"] == pytest.approx((3 * 1 + 1 / 3) / 4)
    assert values["recall"] == pytest.approx((3 / 3 + 1) / 4)
    assert values["f1"] == pytest.approx(0.5)
    assert values["accuracy"] == 0.5


def test_unweighted_accuracy_is_the_mean_recall_of_the_true_classes():
    y, p = np.array([1.0, 1, 1, 0]), np.array([1.0, 0, 2, 0])
    assert score("classification", p, y).values["unweighted_accuracy"] == pytest.approx(
        (1 / 3 + 1) / 2
    )


def test_multilabel_metrics_equal_a_hand_calculation():
    # Two classes; y: {a}, {a, b}, {}, {a}; p: {a}, {b}, {b}, {a}. The last digit is class a.
    y, p = np.array([0b101, 0b111, 0b100, 0b101], float), np.array([5.0, 6, 6, 5])
    values = score("multilabel", p, y).values
    # a: 2 of 3 found, none wrong; b: 1 of 1 found, 1 of 3 wrong.
    assert values["hamming_accuracy"] == pytest.approx(6 / 8)
    assert values["weighted_accuracy"] == pytest.approx(((2 / 3 + 1) / 2 + (1 + 2 / 3) / 2) / 2)
    f1_a, f1_not_a, f1_b, f1_not_b = 4 / 5, 2 / 3, 2 / 3, 4 / 5
    assert values["f1_macro"] == pytest.approx((f1_a + f1_b) / 2)
    weighted = (3 * f1_a + 1 * f1_not_a) / 4, (1 * f1_b + 3 * f1_not_b) / 4
    assert values["f1_weighted"] == pytest.approx(sum(weighted) / 2)
    per_class = metrics.class_scores("multilabel", p, y, ("a", "b"))
    assert per_class["a"]["f1"] == pytest.approx(f1_a)
    assert per_class["b"]["f1_weighted"] == pytest.approx(weighted[1])
    nothing = score("multilabel", p, np.full(4, 7.0))
    assert nothing.undefined["weighted_accuracy"].startswith("every class is present in all")


def _plain_weighted(p: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    totals = [0.0, 0.0, 0.0]
    for c in sorted(set(y.tolist())):
        true = sum(1 for a, b in zip(p, y, strict=True) if a == c and b == c)
        support = sum(1 for b in y if b == c)
        predicted = sum(1 for a in p if a == c)
        precision = true / predicted if predicted else 0.0
        recall = true / support
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        for index, value in enumerate((precision, recall, f1)):
            totals[index] += support * value / len(y)
    return tuple(totals)  # type: ignore[return-value]


classes = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


@settings(deadline=None)
@given(classes)
def test_weighted_scores_equal_the_plain_version(pairs):
    p, y = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    values = score("classification", p, y).values
    actual = values["precision"], values["recall"], values["f1"]
    assert actual == pytest.approx(_plain_weighted(p, y))


values = st.floats(-4, 4, width=32)


@settings(deadline=None)
@given(st.lists(st.tuples(values, values), min_size=1, max_size=30))
def test_rounded_accuracies_equal_the_plain_version(pairs):
    p, y = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    for name, limit in (("acc7", 3), ("acc5", 2), ("acc3", 1)):
        # Python's round is half to even as well.
        plain = [
            round(min(max(a, -limit), limit)) == round(min(max(b, -limit), limit)) for a, b in pairs
        ]
        assert score("regression", p, y).values[name] == pytest.approx(sum(plain) / len(plain))


def test_constant_predictions_leave_only_the_correlation_undefined():
    # Seven times 0.1 has a computed variance above zero.
    scores = score("regression", np.full(7, 0.1), np.arange(7.0) - 3)
    assert scores.undefined == {"corr": "the predictions are constant"}
    assert "corr" not in scores.values
    with pytest.raises(UndefinedMetricError, match="the labels are constant"):
        metrics.corr(np.arange(3.0), np.full(3, 0.1))
    with pytest.raises(UndefinedMetricError, match="at least 2 are needed"):
        metrics.corr(np.ones(1), np.ones(1))


def test_labels_of_zero_only_leave_the_non_zero_metrics_undefined():
    scores = score("regression", np.array([1.0, -1.0]), np.zeros(2))
    assert set(scores.undefined) == {"corr", "acc2_non0", "f1_non0"}
    assert scores.undefined["f1_non0"] == "no label differs from 0"


def test_no_samples_leave_everything_undefined():
    for task, names in metrics.METRICS.items():
        scores = score(task, np.zeros(0), np.zeros(0))
        assert scores.values == {}
        assert set(scores.undefined) == set(names)


def test_the_correlation_of_tiny_huge_and_shifted_values_is_exact():
    y = np.array([1.0, 2.0, 4.0, 3.0])
    for p in (y * 1e-200, y * 1e200, y + 1e6, -y):
        expected = -1.0 if p[0] < 0 else 1.0
        assert metrics.corr(p, y) == pytest.approx(expected, abs=1e-9)


def test_invalid_input_raises_an_error():
    with pytest.raises(DhmdError, match="1 of 2 predictions are not finite"):
        score("regression", np.array([np.nan, 1.0]), np.zeros(2))
    with pytest.raises(DhmdError, match="cannot be scored"):
        score("regression", np.zeros(3), np.zeros(2))
