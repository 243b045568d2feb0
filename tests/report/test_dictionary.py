"""Codes and their words, against counts by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from dhmd.report.dictionary import (
    Word,
    by_group,
    code_words,
    label_groups,
    mean_activation,
    used_codes,
    word_index,
)
from dhmd.report.inputs import Inputs, Space

# Six utterances, one modality, two codes: "good" fires code 0, "bad" code 1, "uh" both alike.
WORDS = (
    ("good", "uh"),
    ("good", "good"),
    ("good",),
    ("bad", "uh"),
    ("bad",),
    ("bad", "rare"),
) * 3
CODES = np.array(
    [[[0.9, 0.1]], [[0.8, 0.2]], [[1.0, 0.0]], [[0.1, 0.9]], [[0.0, 1.0]], [[0.2, 0.8]]]
)


def inputs(**change: Any) -> Inputs:
    count = len(WORDS)
    values = {
        "corpus": SimpleNamespace(words=WORDS, class_names=("no", "yes")),
        "modalities": ("text",),
        "present": np.ones((count, 1), dtype=bool),
        "rows": np.arange(count),
        "labels": np.tile([1.0, 1.0, 0.0, -1.0, -2.0, 0.0], 3),
        "task": "regression",
    }
    return cast(Inputs, SimpleNamespace(**(values | change)))


SPACE = Space("homogeneous", None, np.tile(CODES, (3, 1, 1)), None)


def words_of(code: int, codes: Any = SPACE.codes, **change: Any) -> list[Word]:
    index = word_index(inputs(**change))
    assert index is not None
    return code_words(index, codes[:, 0, code], 5)


def test_words_by_how_far_they_lift_a_code() -> None:
    (first,) = words_of(0)
    assert (first.text, first.utterances) == ("good", 9)  # twice in one utterance counts once
    assert first.activation == pytest.approx((0.9 + 0.8 + 1.0) / 3)
    # "rare" is in three utterances: too few. "uh" (mean .5) does not lie above the mean (.5).
    (second,) = words_of(1)
    assert second.text == "bad"


def test_no_words_where_there_is_nothing_to_tell() -> None:
    assert word_index(inputs(modalities=("audio",))) is None
    assert word_index(inputs(corpus=SimpleNamespace(words=None))) is None
    assert words_of(0, np.full((18, 1, 2), 0.5)) == []
    assert words_of(0, corpus=SimpleNamespace(words=((),) * 18)) == []


def test_absent_utterances_count_neither_as_words_nor_in_means() -> None:
    present = np.ones((18, 1), dtype=bool)
    present[0] = False
    (first,) = words_of(0, present=present)
    assert first.utterances == 8
    assert first.activation == pytest.approx((2.7 * 3 - 0.9) / 8)


def test_used_codes_leave_dead_ones_out() -> None:
    codes = np.zeros((4, 2, 5))
    codes[..., 3], codes[..., 1] = 0.7, 0.3
    there = np.ones((4, 2), dtype=bool)
    assert used_codes(codes, there, 5).tolist() == [3, 1]
    assert used_codes(codes, there, 1).tolist() == [3]
    assert mean_activation(codes, np.zeros_like(there)).tolist() == [0] * 5


def test_groups_are_signs_or_classes() -> None:
    groups = label_groups(inputs())
    assert {name: int(members.sum()) for name, members in groups.items()} == {
        "negative": 6,
        "neutral": 6,
        "positive": 6,
    }
    names, values = by_group(inputs(), SPACE, np.array([0, 1]))
    assert names == ["text, negative", "text, neutral", "text, positive"]
    assert values == pytest.approx(np.array([[0.05, 0.95], [0.6, 0.4], [0.85, 0.15]]))
    labels = np.tile([0.0, 1.0], 9)
    classes = label_groups(inputs(task="classification", labels=labels))
    assert list(classes) == ["no", "yes"]
    assert classes["yes"].sum() == 9
