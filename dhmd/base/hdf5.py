"""HDF5 files written whole or not at all, and the exceptions by which h5py reports damage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from dhmd.base.errors import DhmdError, first_line

# What h5py raises on damaged files: HDF5's own errors come as these built-ins.
READ_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError, MemoryError)


@contextmanager
def writing(temporary: Path, target: Path, **options: Any) -> Iterator[h5py.File]:
    """Open `temporary` for writing and close it; `target` is named in the sentence of a failure.

    Raises:
        DhmdError: the disk is full. HDF5 may notice only when it closes the file, and then says it
            with a RuntimeError.
    """
    try:
        with h5py.File(temporary, "w", **options) as file:
            yield file
    except (OSError, RuntimeError) as error:
        raise DhmdError(f"cannot write {target}: {first_line(error)}") from error
