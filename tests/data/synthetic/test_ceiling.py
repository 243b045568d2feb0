from __future__ import annotations

import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.synthetic import GeneratorConfig, ceiling
from dhmd.data.synthetic.latents import plan


def test_it_is_the_mean_distance() -> None:
    assert ceiling(np.array([1.0, -2.0]), np.array([1.5, -3.0])) == 0.75


def test_no_shifted_or_shrunk_truth_does_better() -> None:
    planted = plan(GeneratorConfig(n_train=20000))
    best = ceiling(planted.truth_N, planted.label_N)
    for other in (planted.truth_N + 0.2, planted.truth_N - 0.2, 0.9 * planted.truth_N):
        assert best < ceiling(other, planted.label_N)


def test_arrays_that_do_not_match_are_refused() -> None:
    with pytest.raises(DhmdError, match=r"\(2,\) for \(3,\)"):
        ceiling(np.zeros(2), np.zeros(3))
    with pytest.raises(DhmdError):
        ceiling(np.zeros(0), np.zeros(0))
