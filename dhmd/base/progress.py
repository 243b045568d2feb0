"""Progress bars on a terminal and in notebooks."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")


def shown() -> bool:
    """Return whether bars are shown: stderr is a terminal, or a notebook runs the code."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def progress(items: Iterable[T], label: str, **options: Any) -> Iterable[T]:
    """Iterate with a bar where bars are shown; `options` are tqdm's (total, unit, …)."""
    return tqdm(items, desc=label, disable=not shown(), leave=False, **options)
