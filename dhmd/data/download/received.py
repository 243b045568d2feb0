"""`sources.json` of a raw folder, and what DVC's cache still has of an earlier one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dhmd.base.errors import DhmdError
from dhmd.base.files import write_text
from dhmd.config.yaml12 import load_yaml

RECEIVED_NAME = "sources.json"

_MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """One file as it was received."""

    sha256: str
    bytes: int


def write_received(folder: Path, files: Mapping[str, FileRecord]) -> None:
    """Write `sources.json`, the same bytes for the same files: no times, no addresses."""
    value = {
        name: {"bytes": record.bytes, "sha256": record.sha256}
        for name, record in sorted(files.items())
    }
    write_text(folder / RECEIVED_NAME, json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_received(folder: Path) -> dict[str, FileRecord]:
    """Read `sources.json`.

    Raises:
        DhmdError: it is missing or damaged.
    """
    path = folder / RECEIVED_NAME
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(name): FileRecord(sha256=str(record["sha256"]), bytes=int(record["bytes"]))
            for name, record in value.items()
        }
    except OSError as error:
        raise DhmdError(f"{path} is missing: run the download stage again") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DhmdError(f"{path} is damaged: run the download stage again") from error


def received_before(lock: Path, cache: Path, output: Path) -> dict[str, Path]:
    """Return the files of a raw folder that DVC's cache still has: name -> path in the cache.

    DVC removes the folder before the download stage runs again. What is not in the cache, or not
    in the form of DVC 3, is left out: it only saves a transfer.

    Args:
        lock: the dvc.lock of the last run.
        cache: DVC's cache, as `dvc cache dir` prints it.
        output: the raw folder, relative to the lock's folder.

    Raises:
        DhmdError: `lock` is not YAML.
    """

    def cached(md5: object) -> Path | None:
        if not isinstance(md5, str) or not _MD5.fullmatch(md5):
            return None
        path = cache / "files" / "md5" / md5[:2] / md5[2:]
        return path if path.is_file() else None

    try:
        stages = load_yaml(lock)["stages"].values() if lock.is_file() else ()  # type: ignore[index]
        listed = [
            out["md5"]
            for stage in stages
            for out in stage.get("outs", ())
            if out["path"] == output.as_posix()
        ]
        tree = cached(listed[0]) if listed else None
        entries = [] if tree is None else json.loads(tree.read_bytes())
        found = {str(entry["relpath"]): cached(entry["md5"]) for entry in entries}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}
    return {name: path for name, path in found.items() if path is not None}
