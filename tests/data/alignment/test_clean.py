"""Values that are not finite."""

import numpy as np

from dhmd.data.alignment import clean_values


def test_finite_values_pass_untouched() -> None:
    features = np.array([[1.5, -2.0], [0.0, 3e38]], dtype=np.float64)
    cleaned = clean_values(features)
    assert cleaned.values_Td is features
    assert cleaned.bad_Td is None
    assert cleaned.count == 0


def test_bad_values_become_zero_and_are_counted() -> None:
    features = np.array([[-np.inf, 1.0], [np.nan, np.inf], [2.0, 1e39]])
    cleaned = clean_values(features)
    np.testing.assert_array_equal(cleaned.values_Td, [[0, 1], [0, 0], [2, 0]])
    np.testing.assert_array_equal(cleaned.bad_Td, [[1, 0], [1, 1], [0, 1]])
    assert cleaned.count == 4
    assert np.isinf(features[0, 0])  # the input is left alone


def test_whole_numbers_and_rows_of_none() -> None:
    assert clean_values(np.array([[-128, 127]], dtype=np.int8)).count == 0
    assert clean_values(np.zeros((0, 3))).count == 0
