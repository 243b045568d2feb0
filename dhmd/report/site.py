"""The page of all datasets: the stages' reports and the origin of each output.

Commits, machines and times are only in this page: the outputs of the stages must not depend on
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import dhmd
from dhmd.base.errors import DhmdError
from dhmd.evaluation.files import METRICS_FILE, read_object, read_text
from dhmd.recipes import load_recipe, recipe_names
from dhmd.report.page import (
    FORMAT,
    PAGE,
    PICTURES,
    REPORT,
    Entry,
    figures,
    metrics_sha256,
    render,
    table,
)
from dhmd.report.records import Origin, origins, read_records
from dhmd.vcs import Workspace, git_line
from dhmd.vcs.lock import locked_outputs


def reported_datasets(root: Path) -> list[str]:
    """Return the datasets that have a report, in alphabetical order."""
    # Hidden folders are unfinished outputs.
    return sorted(path.parent.name for path in (root / "reports").glob(f"[!.]*/{PAGE}"))


def build_site(root: Path, names: Sequence[str]) -> tuple[str, list[str]]:
    """Render the reports of several datasets as one page.

    Args:
        root: of the repository.
        names: datasets, each with a report.

    Returns:
        The page, and warnings for the terminal.

    Raises:
        DhmdError: a report, metrics.json or dvc.lock cannot be read.
    """
    records, warnings = read_records(root)
    locked = locked_outputs(Workspace(root))
    entries = []
    for name in names:
        found = origins(name, records, locked)
        entry = _entry(root, name, _provenance(found, bool(locked)))
        entries.append(entry)
        if entry.stale:
            warnings.append(
                f"reports/{name} was drawn from other metrics than those in metrics/{name}; run "
                "dvc repro"
            )
    commit = git_line(root, "rev-parse", "--short=12", "HEAD") or ""
    head = {"version": dhmd.__version__, "commit": commit}
    return render("DHMD: results", entries, head), warnings


def _entry(root: Path, name: str, provenance: Mapping[str, Any]) -> Entry:
    folder, metrics = root / "reports" / name, root / "metrics" / name
    scores = metrics / METRICS_FILE
    report = read_object(folder / REPORT)
    if report.get("format") != FORMAT:
        raise DhmdError(f"{folder / REPORT} is no report of this version; run dvc repro")
    if not scores.is_file():
        raise DhmdError(f"{scores} does not exist, but reports/{name} does; run dvc repro")
    pictures = {path.stem: read_text(path) for path in sorted((folder / PICTURES).glob("*.svg"))}
    if missing := [f["name"] for f in figures(report) if f["name"] not in pictures]:
        raise DhmdError(f"{folder / PICTURES / missing[0]}.svg does not exist; run dvc repro")
    config = load_recipe(name, root) if name in recipe_names(root) else None
    return Entry(
        report=report,
        pictures=pictures,
        title=config.title if config else "",
        origin=config.provenance if config else "",
        stale=report["metrics_sha256"] != metrics_sha256(metrics),
        provenance=provenance,
    )


def _provenance(found: Sequence[Origin], has_lock: bool) -> dict[str, Any]:
    """Describe the runs of one dataset for the template."""
    header = ["stage", "commit", "start (UTC)", "h:mm:ss", "params", "outputs", "experiment"]
    rows = [_row(origin, has_lock) for origin in found]
    records = [origin.record for origin in found if origin.record is not None]
    facts: dict[str, list[str]] = {}
    for record in records:
        versions = ", ".join(f"{name} {version}" for name, version in record.versions.items())
        for fact in (f"Machine: {record.machine}", f"Versions: {versions}"):
            facts.setdefault(fact, []).append(record.stage)
    trained = next((record for record in records if record.stage == "train"), None)
    shown = trained or (records[-1] if records else None)
    return {
        "has_lock": has_lock,
        "table": table(header, rows, prose=(0, 1, 2, 4, 5, 6)),
        "facts": [f"{fact} ({', '.join(stages)})." for fact, stages in facts.items()],
        "params": None
        if shown is None
        else table(
            ["key", "value"],
            list(shown.params.items()),
            prose=(0, 1),
            folded=f"All parameters of {shown.stage}",
        ),
    }


def _row(origin: Origin, has_lock: bool) -> list[str]:
    values = [value[:8] for value in origin.md5.values() if value]
    md5 = ", ".join(dict.fromkeys(values)) or "–"
    if len(values) > 2:
        md5 = f"{len(values)} files, the first {values[0]}"
    record = origin.record
    if record is None:
        return [origin.stage, "no record here", "–", "–", "–", md5, "–"]
    commit = "no repository" if record.commit is None else record.commit[:12]
    return [
        origin.stage,
        f"{commit} with uncommitted changes" if record.uncommitted_changes else commit,
        record.start.replace("T", " ").removesuffix("+00:00"),
        str(timedelta(seconds=round(record.wall_seconds))),
        record.params_sha256[:8],
        md5 if origin.certain or not has_lock else f"{md5} (this record is of another run)",
        record.experiment or "–",
    ]
