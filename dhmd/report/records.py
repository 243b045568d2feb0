"""Which run made an output: records of runs, found by the md5 that dvc.lock holds."""

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
    """One run of a stage, as it was written down when the run ended."""

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
    """Where a stage's outputs come from.

    md5: of the outputs as dvc.lock has them, by path; empty where it says nothing of them.
    certain: whether the record's outputs are those very bytes.
    """

    stage: str
    record: Record | None
    md5: Mapping[str, str]
    certain: bool


def read_records(root: Path) -> tuple[list[Record], list[str]]:
    """All records below `root`, newest first, and a sentence for each that cannot be read."""
    found, problems = [], []
    for path in sorted((root / FOLDER).glob("*.json"), reverse=True):
        try:
            found.append(Record(**json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError) as error:
            problems.append(f"{path} is no run record ({first_line(error)}): left out")
    return sorted(found, key=lambda record: record.start, reverse=True), problems


def origins(
    dataset: str, records: Sequence[Record], locked: Mapping[str, Mapping[str, str]]
) -> list[Origin]:
    """For every stage of a dataset the run that made its outputs.

    Where no record has these bytes (made on another machine, or too large to be hashed), the newest
    record of the stage is given and called uncertain.
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
