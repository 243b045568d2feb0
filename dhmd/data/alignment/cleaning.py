"""The one place where missing and impossible feature values are removed.

The rule (ours): a value counts as missing if it is −inf, inf or NaN (COVAREP has them in silence),
or if its magnitude is above `LARGEST`: no feature in use reaches it, and a single one would ruin
the mean and deviation by which the features are normalised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

LARGEST = 1e10


@dataclass(frozen=True, eq=False)
class Cleaned:
    """Features without missing values.

    Attributes:
        values_Td: `[T, d]`, 0 where a value is missing.
        bad_Td: `[T, d]` bool, the missing values, or None if there are none. Means leave them out.
        count: the number of missing values.
    """

    values_Td: Array
    bad_Td: Array | None
    count: int


def clean_values(features_Td: Array) -> Cleaned:
    """Replace missing values by 0 and count them, whatever the type of the features.

    The SDK keeps them, so that a word's mean is not finite either; papers then set that mean to 0.
    """
    wide_Td = features_Td
    if features_Td.dtype not in (np.float32, np.float64):
        # `LARGEST` is infinite in float16, and the smallest int8 has no magnitude in int8.
        wide_Td = features_Td.astype(np.float64)
    # `not (… <= …)` is also true for NaN.
    bad_Td = ~(np.abs(wide_Td) <= LARGEST)
    count = int(np.count_nonzero(bad_Td))
    if not count:
        return Cleaned(values_Td=features_Td, bad_Td=None, count=0)
    return Cleaned(values_Td=np.where(bad_Td, 0, features_Td), bad_Td=bad_Td, count=count)
