"""Comparison of tensors up to rounding.

`torch.testing.assert_close` takes seconds on its first call, for imports of torch.distributed.
"""

from __future__ import annotations

import torch
from torch import Tensor

_TOLERANCES = {torch.float32: (1.3e-6, 1e-5), torch.float64: (1e-7, 1e-7)}


def assert_close(
    actual: Tensor,
    expected: Tensor,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    what: str = "",
) -> None:
    """Assert equal shapes and types, and entries within `atol + rtol · |expected|`; fail on NaN."""
    assert actual.shape == expected.shape, f"{what} {actual.shape} is not {expected.shape}"
    assert actual.dtype == expected.dtype, f"{what} {actual.dtype} is not {expected.dtype}"
    relative, absolute = _TOLERANCES[actual.dtype]
    relative = relative if rtol is None else rtol
    absolute = absolute if atol is None else atol
    excess = (actual - expected).abs() - (absolute + relative * expected.abs())
    if not bool((excess <= 0).all()):  # NaN is not <= 0
        difference = (actual - expected).abs()
        position = (
            tuple(int(i) for i in (difference == difference.max()).nonzero()[0])
            if (difference.numel() and difference.isfinite().all())
            else "NaN or inf"
        )
        raise AssertionError(f"{what} differs by up to {difference.max().item():.3g} at {position}")
