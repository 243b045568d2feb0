"""The one place where values that are not finite are cleaned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

# The cache holds float32: beyond this a value would become infinite there.
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class Cleaned:
    """Features without values that are not finite.

    Attributes:
        values_Td: `[T, d]`, 0 in place of the bad ones.
        bad_Td: `[T, d]` bool, where they were, or None if there were none. A mean leaves them out.
        count: how many there were.
    """

    values_Td: Array
    bad_Td: Array | None
    count: int


def clean_values(features_Td: Array) -> Cleaned:
    """Replace −inf, inf and NaN (COVAREP has them in silence) and whatever float32 cannot hold.

    The SDK leaves them in, and so a word's mean is not finite either; papers then set the mean to
    0. Here a bad value counts as missing (source: ours).
    """
    # `not (… <= …)` is true of NaN as well.
    bad_Td = ~(np.abs(features_Td) <= _LARGEST)
    count = int(np.count_nonzero(bad_Td))
    if not count:
        return Cleaned(values_Td=features_Td, bad_Td=None, count=0)
    return Cleaned(values_Td=np.where(bad_Td, 0, features_Td), bad_Td=bad_Td, count=count)
