"""Packages of the optional extras, imported where they are used."""

from __future__ import annotations

import importlib
from typing import Any

from dhmd.base.errors import DhmdError


def optional(module: str, extra: str) -> Any:
    """Import a module of the extra `text`, `media` or `hub`.

    Raises:
        DhmdError: it is not installed; the sentence names what to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        pins = "-c constraints-media.txt " if extra == "media" else ""
        raise DhmdError(f"{module} is not installed: pip install {pins}'dhmd[{extra}]'") from error


def transformers(extra: str) -> Any:
    """Return the package transformers, without its progress bars and warnings."""
    found = optional("transformers", extra)
    found.utils.logging.set_verbosity_error()
    found.utils.logging.disable_progress_bar()
    return found
