"""Progress bars where a person watches, nothing where a file or a pipe does."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, TypeVar

from tqdm import tqdm

T = TypeVar("T")


def progress(items: Iterable[T], label: str, **options: Any) -> Iterable[T]:
    """Iterate with a bar on a terminal (`options` go to tqdm: total, unit, unit_scale, …)."""
    return tqdm(items, desc=label, disable=not sys.stderr.isatty(), leave=False, **options)
