"""`sources.json`: what a raw folder holds, by name, bytes and sha256; no times, no addresses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dhmd.base.errors import DhmdError
from dhmd.base.files import write_text

MANIFEST_NAME = "sources.json"


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """One file as it was received."""

    sha256: str
    bytes: int


def write_manifest(folder: Path, files: Mapping[str, FileRecord]) -> None:
    """Write `folder`/sources.json, byte for byte the same for the same files."""
    value = {
        name: {"bytes": record.bytes, "sha256": record.sha256}
        for name, record in sorted(files.items())
    }
    write_text(folder / MANIFEST_NAME, json.dumps(value, indent=2, sort_keys=True) + "\n")


def read_manifest(folder: Path) -> dict[str, FileRecord]:
    """Read `folder`/sources.json.

    Raises:
        DhmdError: it is missing or not such a file.
    """
    path = folder / MANIFEST_NAME
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
