"""Progress bars on a terminal and in a notebook."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")


def is_interactive() -> bool:
    """Return whether stderr is a terminal or the code runs in a notebook."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules


def progress(items: Iterable[T], label: str, **options: Any) -> Iterable[T]:
    """Iterate over items with a progress bar if `is_interactive()`; `options` are those of tqdm."""
    return tqdm(items, desc=label, disable=not is_interactive(), leave=False, **options)
