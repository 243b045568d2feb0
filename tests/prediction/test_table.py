"""The CSV text, by hand."""

from __future__ import annotations

import numpy as np

from dhmd.prediction.table import table_text

INTERVALS = np.array([[0.0, 1.25], [2.0, 3.1]])


def test_values_in_their_fewest_digits() -> None:
    prediction_SNO = np.array([[[0.1], [1.0]], [[0.3], [-2.0]]], dtype=np.float32)
    text = table_text(("v[0]", 'a "b", c[1]'), INTERVALS, (1, 5), prediction_SNO, ())
    assert text == (
        "id,start,end,mean,seed_1,seed_5\n"
        "v[0],0.0,1.25,0.2,0.1,0.3\n"
        '"a ""b"", c[1]",2.0,3.1,-0.5,1.0,-2.0\n'
    )


def test_the_mean_of_classes_is_of_their_probabilities() -> None:
    # One seed is sure of "yes", the other leans to "no": the mean says yes.
    prediction_SNO = np.array([[[0.0, 1.0]], [[0.75, 0.25]]], dtype=np.float32)
    text = table_text(("v[0]",), INTERVALS[:1], (1, 2), prediction_SNO, ("no", "yes"))
    assert text == (
        "id,start,end,mean,mean_probability,seed_1,seed_1_probability,seed_2,seed_2_probability\n"
        "v[0],0.0,1.25,yes,0.625,yes,1.0,no,0.75\n"
    )
