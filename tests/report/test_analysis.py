"""The numbers behind the figures, against plain loops and counts by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dhmd.report.analysis import (
    Word,
    activation_by_group,
    calibration_error,
    code_words,
    confusion_counts,
    label_groups,
    mean_activation,
    principal_plane,
    used_codes,
    word_index,
    worst_utterances,
)
from dhmd.report.charts import p_value, panel_title
from dhmd.report.data import ReportData, Space, counted, curves

# Six utterances, one modality, two codes: "good" activates code 0, "bad" code 1, "uh" both.
WORDS = (
    ("good", "uh"),
    ("good", "good"),
    ("good",),
    ("bad", "uh"),
    ("bad",),
    ("bad", "rare"),
) * 3
CODES = np.array(
    [[[0.9, 0.1]], [[0.8, 0.2]], [[1.0, 0.0]], [[0.1, 0.9]], [[0.0, 1.0]], [[0.2, 0.8]]] * 3
)
SPACE = Space("homogeneous", None, CODES, None)


def data(labels: Any, values: Any = ((0.0,),), task: str = "regression", **more: Any) -> ReportData:
    """Build the attributes that the analyses read; the methods are the real ones."""
    count = len(labels)
    corpus = SimpleNamespace(
        low=more.pop("low", -3.0),
        high=more.pop("high", 3.0),
        class_names=more.pop("class_names", ("a", "b", "c")) if task == "classification" else (),
        ids=tuple(f"v[{n}]" for n in range(count)),
        words=more.pop("words", None),
    )
    state = {
        "identity": SimpleNamespace(task=task, dataset="toy"),
        "corpus": corpus,
        "seeds": tuple(range(len(values))),
        "rows": np.arange(count),
        "modalities": ("text",),
        "predictions": SimpleNamespace(labels=np.array(labels), values=np.array(values)),
        "present": np.ones((count, 1), dtype=bool),
        "probabilities": None,
        "truth": None,
    }
    bare = ReportData.__new__(ReportData)
    bare.__dict__.update(state | more)
    return bare


SPOKEN = data([1.0, 1.0, 0.0, -1.0, -2.0, 0.0] * 3, words=WORDS)


def words_of(code: int, codes: Any = CODES, **more: Any) -> list[Word]:
    index = word_index(data([0.0] * 18, **({"words": WORDS} | more)))
    assert index is not None
    return code_words(index, codes[:, 0, code], 5)


def test_words_are_ranked_by_how_far_they_lift_a_code() -> None:
    (first,) = words_of(0)
    assert (first.text, first.utterances) == ("good", 9)  # twice in one utterance counts once
    assert first.activation == pytest.approx((0.9 + 0.8 + 1.0) / 3)
    # "rare" is in three utterances: too few. "uh" (mean .5) does not lie above the mean (.5).
    (second,) = words_of(1)
    assert second.text == "bad"


def test_no_words_where_none_can_stand_out() -> None:
    assert word_index(data([0.0], words=(("a",),), modalities=("audio",))) is None
    assert word_index(data([0.0])) is None
    assert words_of(0, np.full((18, 1, 2), 0.5)) == []
    assert words_of(0, words=((),) * 18) == []


def test_absent_utterances_do_not_count() -> None:
    present = np.ones((18, 1), dtype=bool)
    present[0] = False
    (first,) = words_of(0, present=present)
    assert first.utterances == 8
    assert first.activation == pytest.approx((2.7 * 3 - 0.9) / 8)


def test_used_codes_leave_out_dead_ones() -> None:
    codes = np.zeros((4, 2, 5))
    codes[..., 3], codes[..., 1] = 0.7, 0.3
    present = np.ones((4, 2), dtype=bool)
    assert used_codes(codes, present, 5).tolist() == [3, 1]
    assert used_codes(codes, present, 1).tolist() == [3]
    assert mean_activation(codes, np.zeros_like(present)).tolist() == [0] * 5


def test_groups_are_signs_or_classes() -> None:
    assert {name: int(mask.sum()) for name, mask in label_groups(SPOKEN).items()} == {
        "negative": 6,
        "neutral": 6,
        "positive": 6,
    }
    names, values = activation_by_group(SPOKEN, SPACE, np.array([0, 1]))
    assert names == ["text, negative", "text, neutral", "text, positive"]
    assert values == pytest.approx(np.array([[0.05, 0.95], [0.6, 0.4], [0.85, 0.15]]))
    classes = label_groups(data([0.0, 1.0] * 9, task="classification", class_names=("no", "yes")))
    assert list(classes) == ["no", "yes"]
    assert classes["yes"].sum() == 9


def test_confusion_in_seven_classes_rounds_as_acc7() -> None:
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


@given(st.lists(st.tuples(st.floats(0.01, 0.99), st.booleans()), min_size=1, max_size=40))
def test_calibration_error_against_a_loop(pairs: list[tuple[float, bool]]) -> None:
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
    assert calibration_error(probabilities, labels) == pytest.approx(expected, abs=1e-12)


def test_worst_utterances_of_regression() -> None:
    words = (("fine",), ("quite", "bad"), ("uh",))
    values = [[1.0, 2.0, 0.0], [1.2, 1.0, 0.5]]
    found = data([1.0, -1.0, 0.0], values, words=words, truth=np.array([1.0, -2.0, 0.0]))
    first, second = worst_utterances(found, 2)
    assert (first["id"], first["words"], second["id"]) == ("v[1]", "quite bad", "v[2]")
    assert first["error"] == pytest.approx(2.5)
    assert first["prediction"] == pytest.approx(1.5)
    assert first["spread"] == pytest.approx(np.sqrt(0.5))
    assert first["truth"] == -2.0


def test_worst_utterances_of_classification_have_the_least_probable_class() -> None:
    chances = np.array([[[0.8, 0.1, 0.1], [0.5, 0.4, 0.1]], [[0.6, 0.2, 0.2], [0.7, 0.2, 0.1]]])
    found = data([0.0, 1.0], [[0.0, 0.0]] * 2, "classification", probabilities=chances)
    (first,) = worst_utterances(found, 1)
    assert (first["id"], first["prediction"]) == ("v[1]", 0)
    assert first["error"] == pytest.approx(0.7)


def test_the_plane_keeps_distances_of_planar_points() -> None:
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


def test_the_plane_of_points_without_spread() -> None:
    points, share = principal_plane(np.ones((4, 3)))
    assert points == pytest.approx(np.zeros((4, 2)))
    assert share.tolist() == [0, 0]
    assert principal_plane(np.arange(5.0)[:, None])[0].shape == (5, 2)


def test_curves_and_titles() -> None:
    rows = [
        {"seed": "1", "epoch": "1", "name": "valid/mae", "value": "1.5"},
        {"seed": "2", "epoch": "1", "name": "valid/mae", "value": "1.4"},
        {"seed": "1", "epoch": "2", "name": "valid/mae", "value": "1.2"},
    ]
    assert curves(rows) == {"valid/mae": {"1": ([1, 2], [1.5, 1.2]), "2": ([1], [1.4])}}
    assert panel_title("valid/mae") == "validation MAE"
    assert panel_title("train/gd_homogeneous") == "distillation (homo)"
    assert panel_title("lr") == "learning rate"
    assert [p_value(p) for p in (0.0004, 0.0321)] == ["p < .001", "p = .032"]
    assert [counted(n, "seed") for n in (1, 1200)] == ["1 seed", "1,200 seeds"]
    note = data([0.0], [[0.0]] * 3).note(seeds=1)
    assert note == "toy · test, n = 1 utterances · seed 0 of 3 seeds"
