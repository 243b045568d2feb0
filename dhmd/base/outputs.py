"""May a file be written where the user says? Asked before the work whose result it takes.

What is written is renamed over its place (dhmd.base.atomic): a device, a pipe or a link there would
be replaced, not written to.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from dhmd.base.errors import DhmdError


def check_output(output: Path, *, inputs: Iterable[Path] = (), kept: Iterable[Path] = ()) -> None:
    """Refuse an `--output` that would destroy something other than an older output.

    Args:
        output: the file to write; it need not exist.
        inputs: files that are read; some may be missing.
        kept: folders that nothing may be written into.

    Raises:
        DhmdError: it is a folder, a link or a special file, an input, or in a kept folder.
    """
    place = output.parent.resolve() / output.name
    for folder in kept:
        if place.is_relative_to(folder.resolve()):
            raise DhmdError(f"{output} lies in {folder}, which is read: choose another --output")
    try:
        mode = os.lstat(output).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return  # writing makes the folders, or says what is in the way
    if stat.S_ISLNK(mode):
        raise DhmdError(
            f"{output} is a link to {os.readlink(output)}: --output must name the file itself"
        )
    if stat.S_ISDIR(mode):
        raise DhmdError(f"{output} is a folder: --output must name a file")
    if not stat.S_ISREG(mode):
        raise DhmdError(f"{output} is a device or a pipe: --output must name a regular file")
    if any(path.exists() and path.samefile(output) for path in inputs):
        raise DhmdError(f"{output} is one of the inputs: choose another --output")
