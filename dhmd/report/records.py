"""Find the run that made an output: records of stages, matched by the md5 in dvc.lock."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dhmd.base.errors import first_line

STAGES: Final = ("download", "align", "pretrain", "train", "ablate", "evaluate", "report")
FOLDER: Final = Path(".dhmd", "records")


@dataclass(frozen=True)
class Record:
    """One run of a stage, as `stages/_record.py` wrote it when the run ended.

    Attributes:
        outputs: path -> md5; None where hashing would have taken long.
    """

    stage: str
    dataset: str
    start: str
    wall_seconds: float
    commit: str | None
    uncommitted_changes: bool | None
    experiment: str | None
    params_sha256: str
    params: Mapping[str, str]
    machine: str
    versions: Mapping[str, str]
    outputs: Mapping[str, str | None]


@dataclass(frozen=True)
class Origin:
    """The run that made the outputs of a stage.

    Attributes:
        md5: of the outputs in dvc.lock, by path; empty if it does not list them.
        certain: whether the record's outputs have these md5.
    """

    stage: str
    record: Record | None
    md5: Mapping[str, str]
    certain: bool


def read_records(root: Path) -> tuple[list[Record], list[str]]:
    """Return all records of a repository, newest first, and a warning for each unreadable one."""
    found, warnings = [], []
    for path in sorted((root / FOLDER).glob("*.json"), reverse=True):
        try:
            found.append(Record(**json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError) as error:
            warnings.append(f"{path} is no record of a run ({first_line(error)}); it is ignored")
    return sorted(found, key=lambda record: record.start, reverse=True), warnings


def origins(
    dataset: str, records: Sequence[Record], locked: Mapping[str, Mapping[str, str]]
) -> list[Origin]:
    """Find the run that made the outputs of every stage of a dataset.

    If no record has the same md5 (the run was on another machine, or the output is too large to
    hash), the newest record of the stage is returned and marked as uncertain.
    """
    found = []
    for stage in STAGES:
        md5 = locked.get(f"{stage}@{dataset}", {})
        own = [r for r in records if (r.stage, r.dataset) == (stage, dataset)]
        exact = next((record for record in own if _made(record, md5)), None)
        found.append(Origin(stage, exact or next(iter(own), None), md5, exact is not None))
    return found


def _made(record: Record, md5: Mapping[str, str]) -> bool:
    common = {path for path, value in record.outputs.items() if value and path in md5}
    return bool(common) and all(record.outputs[path] == md5[path] for path in common)
