from __future__ import annotations

import numpy as np

from dhmd.data.synthetic.streams import on_grid, on_ticks, stream


def test_a_stream_is_its_seed_and_purpose() -> None:
    assert stream(3, "a", 1).random() == stream(3, "a", 1).random()
    draws = {
        float(stream(seed, *purpose).random())
        for seed, purpose in [(3, ("a", 1)), (3, ("a", 2)), (3, ("a1",)), (4, ("a", 1)), (3, ())]
    }
    assert len(draws) == 5


def test_streams_ignore_the_global_state() -> None:
    np.random.seed(1)
    first = stream(0, "x").random(3)
    np.random.seed(2)
    np.testing.assert_array_equal(first, stream(0, "x").random(3))


def test_last_digits_vanish_on_the_grid() -> None:
    values = np.array([0.1, -2.7, 3.14159, 1000.123])
    np.testing.assert_array_equal(on_grid(values), on_grid(values * (1 + 1e-15)))
    assert np.abs(on_grid(values) - values).max() <= 0.5 / 4096 + 1e-9
    ticks = on_ticks(np.array([0.3333, 4321.9]))
    np.testing.assert_array_equal(ticks.astype(np.float32).astype(np.float64), ticks)
