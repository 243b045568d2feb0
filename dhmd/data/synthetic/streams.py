"""Random streams by purpose, and the grid that keeps bytes equal on every processor."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Processors differ in the last bit of exp, log and matrix products. Values rounded to multiples
# of 2^-12 (exact in float32) give the same bytes all the same.
GRID = 4096.0
# Times are multiples of 2^-10 s: exact in float32 up to 4.5 hours, so that neighbours touch.
TICKS = 1024.0


def stream(seed: int, *purpose: str | int) -> np.random.Generator:
    """A generator for one named purpose: what one purpose draws never shifts another."""
    digest = hashlib.sha256(json.dumps([seed, *purpose]).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def on_grid(values: NDArray[Any]) -> NDArray[np.float32]:
    """Values rounded to the grid, as float32."""
    return (np.round(np.asarray(values, dtype=np.float64) * GRID) / GRID).astype(np.float32)


def on_ticks(seconds: NDArray[Any]) -> NDArray[np.float64]:
    """Times rounded to the ticks, in seconds."""
    return np.round(np.asarray(seconds, dtype=np.float64) * TICKS) / TICKS
