"""One page over all datasets, with what the stage's own pages may not hold: provenance.

The datasets' parts are taken from the pages that the `report` stage wrote.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import dhmd
from dhmd.base.errors import DhmdError
from dhmd.base.files import file_sha256
from dhmd.evaluation.files import (
    IDENTITY,
    METRICS_FILE,
    PREDICTIONS,
    parse_predictions,
    read_object,
    read_text,
    written_by_evaluate,
)
from dhmd.evaluation.identity import identity_from
from dhmd.evaluation.metrics import PRIMARY
from dhmd.evaluation.tables import COLUMNS
from dhmd.recipes import load_recipe, recipe_names
from dhmd.report.markup import (
    ABOUT_MARK,
    PAGE,
    PROVENANCE_MARK,
    document,
    folded,
    mean_and_spread,
    paragraph,
    safe,
    table,
)
from dhmd.report.records import Origin, origins, read_records
from dhmd.vcs import LOCK, Workspace, git_line, locked_outputs

_ARTICLE: Final = re.compile(
    r'<article id="[^"]*" data-task="[^"]*" data-metrics="(?P<metrics>[0-9a-f]{64})">.*</article>',
    re.DOTALL,
)
_SECTION: Final = re.compile(r'<section id="(?P<id>[^"]+-(?P<name>[a-z]+))">')


@dataclass(frozen=True)
class Site:
    """The page, and what its reader should be told in the terminal."""

    html: str
    warnings: Sequence[str]


def reported_datasets(root: Path) -> list[str]:
    """The datasets that have a report, in alphabetical order."""
    # Hidden folders are being written, or were when their writer was killed.
    return sorted(path.parent.name for path in (root / "reports").glob(f"[!.]*/{PAGE}"))


def build_site(root: Path, names: Sequence[str]) -> Site:
    """Join the datasets' reports.

    Args:
        root: the repository.
        names: datasets, at least one; each has a report.

    Raises:
        DhmdError: a page, metrics file or dvc.lock that cannot be read.
    """
    records, warnings = read_records(root)
    locked = locked_outputs(Workspace(root))
    articles, rows = [], []
    links: list[tuple[str, str]] = []
    for name in names:
        article, stale = _article(root, name)
        if stale:
            warnings.append(
                f"reports/{name} was drawn from other metrics than metrics/{name} holds now: run "
                "dvc repro"
            )
        sections = [(s["id"], s["name"].capitalize()) for s in _SECTION.finditer(article)]
        sections.append((f"{name}-provenance", "Provenance"))
        about = _about(root, name, sections if len(names) > 1 else [], stale)
        made = _provenance(name, origins(name, records, locked), bool(locked))
        articles.append(article.replace(ABOUT_MARK, about).replace(PROVENANCE_MARK, made))
        rows.append(_overview_row(root / "metrics" / name))
        links += [("", name), *sections] if len(names) == 1 else [(name, name)]
    if len(names) > 1:
        links = [("", "DHMD"), ("overview", "Overview"), *links]
    return Site(document("DHMD: results", links, _head(root, rows) + "\n".join(articles)), warnings)


def _article(root: Path, name: str) -> tuple[str, bool]:
    """A dataset's part of its page, and whether the metrics have changed since."""
    path = root / "reports" / name / PAGE
    found = _ARTICLE.search(read_text(path))
    if found is None:
        raise DhmdError(f"{path} is no report of this version; run dvc repro")
    metrics = root / "metrics" / name / METRICS_FILE
    if not metrics.is_file():
        raise DhmdError(f"{metrics} does not exist, but reports/{name} does; run dvc repro")
    return found.group(), found["metrics"] != file_sha256(metrics)


def _head(root: Path, rows: Sequence[Sequence[str]]) -> str:
    commit = git_line(root, "rev-parse", "--short=12", "HEAD")
    at = f" at commit {commit}" if commit else ""
    header = ["dataset", "metric", "DHMD", "seeds", "test n", "ridge", "constant", "ceiling"]
    caption = (
        "Test split; each dataset in its task's main metric, mean ± std over seeds. Rows do not "
        "compare with each other: corpora, features and labels differ. Constant: the train "
        "split's median label or most frequent class."
    )
    return (
        "<h1>DHMD: results</h1>\n"
        + paragraph(f"Joined by dhmd {dhmd.__version__}{at}.", "muted")
        + f'<section id="overview">{table(header, rows, words=(0, 1), caption=caption)}</section>\n'
    )


def _overview_row(folder: Path) -> list[str]:
    with written_by_evaluate(folder):
        return _figures(folder)


def _figures(folder: Path) -> list[str]:
    identity = identity_from(read_object(folder / IDENTITY), str(folder / IDENTITY))
    metrics = read_object(folder / METRICS_FILE)
    floors = read_object(folder / "floors.json")
    count = len(parse_predictions(read_text(folder / PREDICTIONS), str(folder / PREDICTIONS)).ids)
    metric = PRIMARY[identity.task]
    others = [floors.get(floor, {}).get("test", {}).get(metric) for floor in ("ridge", "median")]
    others.append(metrics.get("ceiling", {}).get(metric))
    return [
        identity.dataset,
        COLUMNS[identity.task][metric],
        mean_and_spread(metrics["test"].get(metric, {})),
        str(metrics["n_seeds"]),
        f"{count:,}",
        *("–" if value is None else f"{value:.3f}" for value in others),
    ]


def _about(root: Path, name: str, sections: Sequence[tuple[str, str]], stale: bool) -> str:
    parts = []
    if stale:
        parts.append(
            paragraph(
                "These pictures were drawn from other metrics than the repository holds now; run "
                "dvc repro.",
                "warn",
            )
        )
    if name in recipe_names(root):
        recipe = load_recipe(name, root)
        parts.append(paragraph(recipe.title))
        parts.append(folded("Where the data come from", paragraph(recipe.provenance, "quote")))
    if sections:
        found = "".join(f'<a href="#{safe(i)}">{safe(text)}</a>' for i, text in sections)
        parts.append(f'<p class="toc">{found}</p>')
    return "\n".join(parts)


def _provenance(name: str, found: Sequence[Origin], has_lock: bool) -> str:
    head = f'<section id="{safe(name)}-provenance"><h3>Provenance</h3>\n'
    known = [origin.record for origin in found if origin.record is not None]
    text = paragraph(
        "From the records that each run of a stage leaves in .dhmd/records, found by the md5 of "
        f"its outputs in {LOCK}. Outputs that DVC took from its run cache lead to the run that "
        "made them."
    )
    if not has_lock:
        text += paragraph(f"There is no {LOCK}: the newest run of each stage is shown.", "warn")
    header = ["stage", "commit", "start (UTC)", "wall time", "params", "outputs", "experiment"]
    rows = [_origin_row(origin, has_lock) for origin in found]
    parts = [text, table(header, rows, words=(0, 1, 2, 4, 5, 6))]
    for machine in dict.fromkeys(record.machine for record in known):
        stages = [record.stage for record in known if record.machine == machine]
        parts.append(paragraph(f"Machine of {', '.join(stages)}: {machine}."))
    for versions in _distinct(known):
        stages = [record.stage for record in known if _said(record.versions) == versions]
        parts.append(paragraph(f"Versions of {', '.join(stages)}: {versions}."))
    trained = next((record for record in known if record.stage == "train"), None)
    if shown := trained or (known[-1] if known else None):
        values = [[key, value] for key, value in shown.params.items()]
        parts.append(
            folded(
                f"All parameters of {shown.stage}", table(["key", "value"], values, words=(0, 1))
            )
        )
    return head + "\n".join(parts) + "\n</section>"


def _origin_row(origin: Origin, has_lock: bool) -> list[str]:
    md5 = ", ".join(dict.fromkeys(value[:8] for value in origin.md5.values() if value)) or "–"
    if len(origin.md5) > 2:
        md5 = f"{len(origin.md5)} files, the first {next(iter(origin.md5.values()))[:8]}"
    record = origin.record
    if record is None:
        return [origin.stage, "no record here", "–", "–", "–", md5, "–"]
    commit = "no repository" if record.commit is None else record.commit[:12]
    if record.uncommitted_changes:
        commit += " with uncommitted changes"
    if has_lock and not origin.certain:
        md5 += " (of another run than this newest record)"
    return [
        origin.stage,
        commit,
        record.start.replace("T", " ").removesuffix("+00:00"),
        _duration(record.wall_seconds),
        record.params_sha256[:8],
        md5,
        record.experiment or "–",
    ]


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _distinct(records: Sequence[Any]) -> list[str]:
    return list(dict.fromkeys(_said(record.versions) for record in records))


def _said(versions: Any) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
