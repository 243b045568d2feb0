"""A model folder's own account of itself: model.json, with a sha256 of every file and of itself.

What a later stage reads of a model folder it checks first: a flipped bit or a cut file is found
before anything is computed from it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from dhmd.base.errors import DhmdError, first_line
from dhmd.base.hashing import file_sha256, json_sha256

DESCRIPTION = "model.json"
_SEAL = "sha256"


def write_description(folder: Path, content: Mapping[str, Any]) -> None:
    """Write model.json; `content["files"]` holds the sha256 of the folder's other files by name."""
    plain = json.loads(json.dumps(dict(content), allow_nan=False))
    sealed = {**plain, _SEAL: json_sha256(plain)}
    text = json.dumps(sealed, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False)
    (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")


def load_description(folder: Path) -> dict[str, Any]:
    """What model.json says, as JSON values.

    Raises:
        DhmdError: it is missing, or not as it was written.
    """
    path = folder / DESCRIPTION
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        seal = content.pop(_SEAL, None)
        whole = seal == json_sha256(content)
    except OSError as error:
        raise DhmdError(f"{folder} is no model folder: {first_line(error)}") from error
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DhmdError(f"{path} is damaged or not a model's: {first_line(error)}") from error
    if seal is None:
        raise DhmdError(
            f"{path} carries no sha256 of itself: an earlier version wrote it, or it is damaged; "
            "train again"
        )
    if not whole:
        raise DhmdError(
            f"{path} is damaged: its content does not match its own sha256; make the folder again "
            "or fetch it again"
        )
    return dict(content)


def checked_artefact(folder: Path, name: str) -> Path:
    """The path of one of the folder's files, once it is known to be as it was written.

    Raises:
        DhmdError: it is missing, cut or changed, or model.json is.
    """
    path = folder / name
    files = load_description(folder).get("files")
    if not path.is_file():
        raise DhmdError(f"{path} does not exist; run the stage that writes {folder}")
    try:
        about = path.stat()
        found = _sha256(path, about.st_size, about.st_mtime_ns, about.st_ino)
    except OSError as error:
        raise DhmdError(f"cannot read {path}: {first_line(error)}") from error
    if not isinstance(files, dict) or files.get(name) != found:
        raise DhmdError(
            f"{path} is damaged: its sha256 is not the one in {DESCRIPTION}; make the folder again "
            "or fetch it again"
        )
    return path


@lru_cache(maxsize=64)
def _sha256(path: Path, _size: int, _time: int, _inode: int) -> str:
    """Of a large file that one stage opens several times, once."""
    return file_sha256(path)
