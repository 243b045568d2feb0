"""Progress bars on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(items: Iterable[T], label: str, **options: Any) -> Iterable[T]:
    """Iterate with a bar if stderr is a terminal; `options` are tqdm's (total, unit, …)."""
    return tqdm(items, desc=label, disable=not sys.stderr.isatty(), leave=False, **options)
