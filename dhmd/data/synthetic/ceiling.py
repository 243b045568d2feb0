"""The score of a perfect predictor on noisy labels (ours)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dhmd.base.errors import DhmdError


def ceiling(truth: NDArray[np.floating], labels: NDArray[np.floating]) -> float:
    """Mean absolute error of someone who knows the planted truth, against the given labels.

    The truth is the label before annotator noise, clipped like the label, so it is also the
    median of the labels that annotators would give: no predictor has a lower expected error.

    Args:
        truth: [N] planted truth.
        labels: [N] labels as annotated.

    Raises:
        DhmdError: the arrays differ in shape or are empty.
    """
    if truth.shape != labels.shape or truth.ndim != 1 or truth.size == 0:
        raise DhmdError(
            f"the ceiling needs one planted truth a label, got {truth.shape} for {labels.shape}"
        )
    return float(np.mean(np.abs(truth.astype(np.float64) - labels.astype(np.float64))))
