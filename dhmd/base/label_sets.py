"""Encode sets of classes, the labels of a multi-label task, as integers.

A set is encoded as a leading binary 1 and one binary digit per class, the last digit for the first
class: with three classes, 0b1000 is the empty set and 0b1101 has the first and the third class. So
a label is one number in every task, and the number of classes can be computed from any label.

Axes: C classes; `…` stands for any leading axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

MAX_CLASSES = 20  # float32 represents every integer below 2**24


def encode_sets(values: Array) -> Array:
    """Encode sets of classes.

    Args:
        values: shape [..., C]; a class is in the set if its value is above 0.

    Returns:
        Labels, float64, shape [...]; NaN if a value of the set is not finite.
    """
    count = values.shape[-1]
    labels = (values > 0).astype(np.int64) @ (1 << np.arange(count)) + float(1 << count)
    return np.where(np.isfinite(values).all(-1), labels, np.nan)


def decode_sets(labels: Array) -> Array:
    """Decode labels [...] (at least one) to the membership of each class, bool [..., C]."""
    numbers = labels.astype(np.int64)
    count = int(numbers.max()).bit_length() - 1
    return np.asarray((numbers[..., None] >> np.arange(count)) & 1 == 1)


def class_membership(task: str, labels: Array, num_classes: int) -> Array:
    """Return the classes of each label.

    Args:
        task: classification or multilabel.
        labels: class indices, or encoded sets of a multi-label task, shape [...].
        num_classes: the number C of classes.

    Returns:
        Membership, bool, shape [..., C].
    """
    if task == "multilabel":
        return decode_sets(labels)
    return np.asarray(labels[..., None] == np.arange(num_classes))


def set_names(sets: Array, class_names: Sequence[str]) -> list[str]:
    """Return the names of the classes in each row of `[N, C]`: `happy+sad`, `none` if empty."""
    return ["+".join(np.array(class_names)[row].tolist()) or "none" for row in sets]
