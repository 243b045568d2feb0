"""The page of all datasets (`dhmd report`): their reports, and which runs made the outputs.

Commits, machines and times appear only on this page, because the outputs of the stages must not
depend on them. They come from the records of the runs, which are matched with outputs by the md5 in
dvc.lock.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import dhmd
from dhmd.base.errors import DhmdError, first_line
from dhmd.evaluation.files import METRICS_FILE, read_json, read_text
from dhmd.recipes import load_recipe, recipe_names
from dhmd.report.page import (
    FORMAT,
    PAGE,
    PICTURES,
    REPORT,
    DatasetEntry,
    figure_blocks,
    metrics_sha256,
    render,
    table_block,
)
from dhmd.vcs import Workspace, git_line
from dhmd.vcs.lock import locked_outputs

STAGES: Final = ("download", "align", "pretrain", "train", "ablate", "evaluate", "report")
RECORDS: Final = Path(".dhmd", "records")

Locked = Mapping[str, Mapping[str, str]]  # the md5 of each output by stage, as in dvc.lock


@dataclass(frozen=True)
class Record:
    """One run of a stage, as `stages/_record.py` wrote it when the run ended.

    Attributes:
        start: ISO 8601 time in UTC.
        params: the values of dotted keys, as text.
        versions: the version of each package.
        outputs: the md5 of each output by path; None if it is too large to hash.
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

    def produced(self, md5: Mapping[str, str]) -> bool:
        """Return whether the run produced the outputs with the given hashes by path."""
        common = {path for path, value in self.outputs.items() if value and path in md5}
        return bool(common) and all(self.outputs[path] == md5[path] for path in common)


def reported_datasets(root: Path) -> list[str]:
    """Return the datasets that have a report, in alphabetical order."""
    # A hidden directory is the partial output of a stage.
    return sorted(path.parent.name for path in (root / "reports").glob(f"[!.]*/{PAGE}"))


def build_site(root: Path, names: Sequence[str]) -> tuple[str, list[str]]:
    """Render the reports of several datasets as one page.

    Returns:
        The HTML, and warnings for the terminal.
    """
    records, warnings = read_records(root)
    locked = locked_outputs(Workspace(root))
    entries = [_entry(root, name, _provenance(name, records, locked)) for name in names]
    warnings += [
        f"reports/{name} was made from different metrics than those in metrics/{name}; "
        "run dvc repro"
        for name, entry in zip(names, entries, strict=True)
        if entry.stale
    ]
    commit = git_line(root, "rev-parse", "--short=12", "HEAD") or ""
    software = {"version": dhmd.__version__, "commit": commit}
    return render("DHMD: results", entries, software), warnings


def _entry(root: Path, name: str, provenance: Mapping[str, Any]) -> DatasetEntry:
    folder, metrics = root / "reports" / name, root / "metrics" / name
    scores = metrics / METRICS_FILE
    report = read_json(folder / REPORT)
    if report.get("format") != FORMAT:
        raise DhmdError(
            f"{folder / REPORT} was written by a different version of dhmd; run dvc repro"
        )
    if not scores.is_file():
        raise DhmdError(f"{scores} does not exist, but reports/{name} does; run dvc repro")
    pictures = {path.stem: read_text(path) for path in sorted((folder / PICTURES).glob("*.svg"))}
    if missing := [f["name"] for f in figure_blocks(report) if f["name"] not in pictures]:
        raise DhmdError(f"{folder / PICTURES / missing[0]}.svg does not exist; run dvc repro")
    config = load_recipe(name, root) if name in recipe_names(root) else None
    return DatasetEntry(
        report=report,
        pictures=pictures,
        title=config.title if config else "",
        origin=config.provenance if config else "",
        stale=report["metrics_sha256"] != metrics_sha256(metrics),
        provenance=provenance,
    )


def read_records(root: Path) -> tuple[list[Record], list[str]]:
    """Return all records of a repository, newest first, and a warning for each unreadable one."""
    records, warnings = [], []
    for path in sorted((root / RECORDS).glob("*.json"), reverse=True):
        try:
            records.append(Record(**json.loads(path.read_text(encoding="utf-8"))))
        except (OSError, ValueError, TypeError) as error:
            warnings.append(f"{path} is not a record of a run ({first_line(error)}); it is ignored")
    return sorted(records, key=lambda record: record.start, reverse=True), warnings


def find_record(
    stage: str, dataset: str, records: Sequence[Record], md5: Mapping[str, str]
) -> tuple[Record | None, bool]:
    """Return the record whose output hashes match (else the newest), and whether they match.

    None may match, because the run was on another machine or an output is too large to hash.

    Args:
        records: all records, newest first.
        md5: the md5 of each output by path.
    """
    stage_records = [r for r in records if (r.stage, r.dataset) == (stage, dataset)]
    match = next((record for record in stage_records if record.produced(md5)), None)
    return match or next(iter(stage_records), None), match is not None


def _provenance(dataset: str, records: Sequence[Record], locked: Locked) -> dict[str, Any]:
    """Return the runs of one dataset for the template: a table, facts and parameters."""
    rows, facts, record_by_stage = [], dict[str, list[str]](), dict[str, Record]()
    for stage in STAGES:
        md5 = locked.get(f"{stage}@{dataset}", {})
        record, matches = find_record(stage, dataset, records, md5)
        values = list(dict.fromkeys(value[:8] for value in md5.values() if value))
        text = ", ".join(values) or "–"
        if len(values) > 2:
            text = f"{len(values)} files, the first with md5 {values[0]}"
        if record is None:
            rows.append([stage, "no record", "–", "–", "–", text, "–"])
            continue
        record_by_stage[stage] = record
        commit = "no repository" if record.commit is None else record.commit[:12]
        rows.append(
            [
                stage,
                f"{commit} with uncommitted changes" if record.uncommitted_changes else commit,
                record.start.replace("T", " ").removesuffix("+00:00"),
                str(timedelta(seconds=round(record.wall_seconds))),
                record.params_sha256[:8],
                text if matches or not locked else f"{text} (the record is of another run)",
                record.experiment or "–",
            ]
        )
        versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
        for fact in (f"Machine: {record.machine}", f"Versions: {versions}"):
            facts.setdefault(fact, []).append(stage)
    header = ["stage", "commit", "start (UTC)", "h:mm:ss", "params", "outputs", "experiment"]
    params = None
    if record_by_stage:
        stage = "train" if "train" in record_by_stage else list(record_by_stage)[-1]
        items, folded = list(record_by_stage[stage].params.items()), f"All parameters of {stage}"
        params = table_block(["key", "value"], items, text_columns=(0, 1), folded=folded)
    return {
        "has_lock": bool(locked),
        "table": table_block(header, rows, text_columns=(0, 1, 2, 4, 5, 6)),
        "facts": [f"{fact} ({', '.join(stages)})." for fact, stages in facts.items()],
        "params": params,
    }
