"""Cleaning of missing values in every data type."""

from typing import Any

import numpy as np
import pytest

from dhmd.data.alignment import clean_values


def test_finite_values_are_not_copied() -> None:
    features = np.array([[1.5, -2.0], [0.0, 1e10]], dtype=np.float64)
    cleaned = clean_values(features)
    assert cleaned.values_Td is features
    assert cleaned.missing_Td is None
    assert cleaned.count == 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
@pytest.mark.filterwarnings("error")
def test_missing_values_become_zero_and_are_counted(dtype: Any) -> None:
    features = np.array([[-np.inf, 1.0], [np.nan, np.inf], [2.0, -60000.0]], dtype=dtype)
    cleaned = clean_values(features)
    np.testing.assert_array_equal(cleaned.values_Td, [[0, 1], [0, 0], [2, dtype(-60000.0)]])
    np.testing.assert_array_equal(cleaned.missing_Td, [[1, 0], [1, 1], [0, 0]])
    assert cleaned.count == 3
    assert np.isinf(features[0, 0])  # the input is not modified


def test_integers_and_empty_arrays_are_supported() -> None:
    assert clean_values(np.array([[-128, 127]], dtype=np.int8)).count == 0
    assert clean_values(np.array([[-(2**63), 5]], dtype=np.int64)).count == 1
    assert clean_values(np.array([[True, False]])).count == 0
    assert clean_values(np.zeros((0, 3))).count == 0
