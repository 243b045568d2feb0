"""Sets of classes as whole numbers: the labels and predictions of a multi-label task.

A set of classes is the number whose binary digits are a leading 1 and one digit per class, the
first class last: of three classes, 0b1000 is the empty set and 0b1101 has the first and the third.
So the number of classes follows from any label, and a label fits wherever one number does.

Axes: C classes; `…` stands for any leading axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

MOST_CLASSES = 20  # float32 represents every whole number below 2**24


def encode_sets(values: Array) -> Array:
    """Convert values `[…, C]`, above 0 for members, to labels `[…]`, float64.

    A label is NaN if one of its values is not finite.
    """
    count = values.shape[-1]
    labels = (values > 0).astype(np.int64) @ (1 << np.arange(count)) + float(1 << count)
    return np.where(np.isfinite(values).all(-1), labels, np.nan)


def decode_sets(labels: Array) -> Array:
    """Convert labels `[…]`, at least one, to membership `[…, C]` bool."""
    numbers = labels.astype(np.int64)
    count = int(numbers.max()).bit_length() - 1
    return np.asarray((numbers[..., None] >> np.arange(count)) & 1 == 1)


def members(task: str, labels: Array, classes: int) -> Array:
    """Convert labels `[…]` (class indices, or sets of a multi-label task) to `[…, C]` bool."""
    if task == "multilabel":
        return decode_sets(labels)
    return np.asarray(labels[..., None] == np.arange(classes))


def set_names(sets: Array, class_names: Sequence[str]) -> list[str]:
    """Return `happy+sad`, or `none` for the empty set, of each row of `[N, C]`."""
    return ["+".join(np.array(class_names)[row].tolist()) or "none" for row in sets]
