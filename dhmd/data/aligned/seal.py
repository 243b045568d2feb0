"""The file's first 512 bytes: a magic line and the sha256 of all that follows.

HDF5 leaves such a user block alone. Checking it before HDF5 sees the file finds every flipped bit
and every cut, also those in HDF5's own structures, which its checksums do not cover.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from dhmd.base.errors import DhmdError

BLOCK = 512
_MAGIC = b"dhmd aligned cache\nsha256 "


def _block(path: Path) -> bytes:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        stream.seek(BLOCK)
        while piece := stream.read(1 << 22):
            digest.update(piece)
    return (_MAGIC + digest.hexdigest().encode() + b"\n").ljust(BLOCK, b"\0")


def write_seal(path: Path) -> None:
    """Fill the user block of a finished, closed file."""
    block = _block(path)
    with open(path, "r+b") as stream:
        stream.write(block)


def check_file(path: Path, *, verify: bool) -> None:
    """Refuse a file that is absent, no cache, or (with `verify`) not as it was written.

    Raises:
        DhmdError: one sentence, naming the file and what to do.
    """
    try:
        with open(path, "rb") as stream:
            block = stream.read(BLOCK)
    except OSError as error:
        raise DhmdError(
            f"{path}: cannot read the aligned cache ({error.strerror}); run the align stage"
        ) from error
    if not block.startswith(_MAGIC):
        raise DhmdError(f"{path}: not an aligned cache; make it with the align stage")
    if verify and block != _block(path):
        raise DhmdError(
            f"{path}: the aligned cache is damaged (its content does not match its sha256);"
            " make it again with the align stage or fetch it again"
        )
