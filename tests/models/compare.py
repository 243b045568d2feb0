"""Are two tensors equal up to rounding?

As `torch.testing.assert_close`, which imports half of torch.distributed on its first call: seconds.
"""

from __future__ import annotations

import torch
from torch import Tensor

_TOLERANCES = {torch.float32: (1.3e-6, 1e-5), torch.float64: (1e-7, 1e-7)}


def assert_close(
    found: Tensor,
    expected: Tensor,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    what: str = "",
) -> None:
    """Compare shape, type and entries, to within `atol + rtol · |expected|`; refuse NaN."""
    assert found.shape == expected.shape, f"{what} {found.shape} is not {expected.shape}"
    assert found.dtype == expected.dtype, f"{what} {found.dtype} is not {expected.dtype}"
    relative, absolute = _TOLERANCES[found.dtype]
    relative = relative if rtol is None else rtol
    absolute = absolute if atol is None else atol
    excess = (found - expected).abs() - (absolute + relative * expected.abs())
    if not bool((excess <= 0).all()):  # NaN is not <= 0
        difference = (found - expected).abs()
        place = (
            tuple(int(i) for i in (difference == difference.max()).nonzero()[0])
            if (difference.numel() and difference.isfinite().all())
            else "NaN or inf"
        )
        raise AssertionError(f"{what} differs by up to {difference.max().item():.3g} at {place}")
