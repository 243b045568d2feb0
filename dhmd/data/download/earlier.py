"""What DVC's cache still holds of a raw folder, which DVC removes before `download` runs again."""

from __future__ import annotations

import json
import re
from pathlib import Path

from dhmd.config.yaml12 import load_yaml

_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


def received_before(lock: Path, cache: Path, output: Path) -> dict[str, Path]:
    """The files of `output` as its stage left them last: name -> their place in DVC's cache.

    They are candidates and no more: whoever takes one compares it with the recipe's sha256. What is
    not there, or not in the form of DVC 3, counts as never received; it only saves a transfer.

    Args:
        lock: the dvc.lock of the last run.
        cache: DVC's cache, as `dvc cache dir` names it.
        output: the raw folder, relative to the lock's folder.

    Raises:
        DhmdError: `lock` is no YAML.
    """
    tree = _cached(cache, _locked(lock, output)) if lock.is_file() else None
    if tree is None:
        return {}
    try:
        entries = [(str(e["relpath"]), str(e["md5"])) for e in json.loads(tree.read_bytes())]
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    found = {name: _cached(cache, md5) for name, md5 in entries}
    return {name: path for name, path in found.items() if path is not None}


def _locked(lock: Path, output: Path) -> str | None:
    """The hash of the folder's listing."""
    value = load_yaml(lock)
    stages = value.get("stages") if isinstance(value, dict) else None
    for stage in stages.values() if isinstance(stages, dict) else ():
        outputs = stage.get("outs") if isinstance(stage, dict) else None
        for out in outputs if isinstance(outputs, list) else ():
            if isinstance(out, dict) and out.get("path") == output.as_posix():
                return str(out.get("md5"))
    return None


def _cached(cache: Path, md5: str | None) -> Path | None:
    if md5 is None or not _MD5.fullmatch(md5):
        return None
    path = cache / "files" / "md5" / md5[:2] / md5[2:]
    return path if path.is_file() else None
