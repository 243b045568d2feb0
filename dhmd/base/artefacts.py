"""Read and write model.json, which describes a model folder and has the sha256 of its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.files import file_sha256

DESCRIPTION = "model.json"


def write_description(folder: Path, content: Mapping[str, Any]) -> None:
    """Write model.json; `content["files"]` maps the folder's other files to their sha256."""
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")


def load_description(folder: Path) -> dict[str, Any]:
    """Return the content of model.json.

    Raises:
        DhmdError: it is missing or not a JSON object.
    """
    path = folder / DESCRIPTION
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DhmdError(f"{folder} is no model folder: {first_line(error)}") from error
    except (ValueError, RecursionError) as error:
        raise DhmdError(f"{path} is damaged: {first_line(error)}; train again.") from error
    if not isinstance(content, dict):
        raise DhmdError(f"{path} is damaged: it is not a JSON object; train again.")
    return content


def checked_artefact(folder: Path, name: str) -> Path:
    """Return the path of one of the folder's files after comparing it with its sha256.

    Raises:
        DhmdError: it is missing, cut or changed, or model.json is.
    """
    path = folder / name
    files = load_description(folder).get("files")
    if not path.is_file():
        raise DhmdError(f"{path} does not exist; run the stage that writes {folder}.")
    try:
        found = file_sha256(path)
    except OSError as error:
        raise DhmdError(f"cannot read {path}: {first_line(error)}") from error
    if not isinstance(files, dict) or files.get(name) != found:
        raise DhmdError(
            f"{path} is damaged: its sha256 is not the one in {DESCRIPTION}; run the stage again "
            "or fetch the file again."
        )
    return path
