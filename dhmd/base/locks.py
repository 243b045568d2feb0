"""Locks of the kernel on files and folders: gone with the process that held them, however it ended.

The lock lies on the very thing that it protects, so that no lock file is left to be removed, and
two processes can never hold "the same" lock on two files of one name.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def try_lock(path: Path) -> int | None:
    """A descriptor that holds the lock of an existing file or folder; None where another has it.

    Also None where `path` is gone, or was replaced by another of its name before it was locked.
    The lock ends when the descriptor is closed.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    held = False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = os.path.samestat(os.fstat(descriptor), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        pass  # another's, or gone
    finally:
        if not held:
            os.close(descriptor)
    return descriptor if held else None
