"""Import packages of optional extras; the error for a missing one has the install command."""

from __future__ import annotations

import importlib
from typing import Any

from dhmd.base.errors import DhmdError


def import_optional(module: str, extra: str) -> Any:
    """Import a module of the extra `text`, `media` or `hub`.

    Raises:
        DhmdError: the module is not installed; the sentence has the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        pins = "-c constraints-media.txt " if extra == "media" else ""
        raise DhmdError(f"{module} is not installed: pip install {pins}'dhmd[{extra}]'") from error


def import_transformers(extra: str) -> Any:
    """Import the package transformers and disable its progress bars and warnings."""
    transformers = import_optional("transformers", extra)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    return transformers
