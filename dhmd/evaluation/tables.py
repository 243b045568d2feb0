"""The tables of results in the README and the report, from the files in `metrics/<dataset>/`.

Numbers are rounded here and nowhere before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dhmd.evaluation import files
from dhmd.evaluation.files import over_seeds, read_object
from dhmd.evaluation.metrics import COLUMNS, PRIMARY

# Variants that are other models under the same protocol (DMD has no dictionary).
BASELINES = {
    "gru": "GRU",
    "late_fusion": "late fusion",
    "mult": "MulT",
    "no_dictionary": "DMD (no dictionary)",
}
ORACLE = "oracle (label before noise)"


@dataclass(frozen=True)
class Table:
    """A title, a header and rows of text."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def to_text(self) -> str:
        """Format for a terminal."""
        plain = [[cell.replace("**", "") for cell in row] for row in (self.header, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*plain, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in plain]
        return "\n".join([self.title, *(f"  {line}" for line in lines)])

    def to_markdown(self) -> str:
        """Format for a page or a comment."""
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        return "\n".join([f"**{self.title}**", "", *(f"| {' | '.join(row)} |" for row in lines)])


def dataset_names(metrics: Path) -> list[str]:
    """Return the evaluated datasets in alphabetical order."""
    # Hidden directories belong to an evaluation that runs or was killed.
    return sorted(path.parent.name for path in metrics.glob(f"[!.]*/{files.METRICS_FILE}"))


def dataset_tables(folder: Path) -> list[Table]:
    """Return the tables of one dataset: results, ablations, missing-modality test.

    Raises:
        DhmdError: a file is missing, cannot be read or has unexpected content.
    """
    with files.expect_current_files(folder):
        identity = files.read_identity(folder)
        name, task = identity.dataset, identity.task
        ablations = read_object(folder / f"{files.ABLATIONS}.json")
        missing = read_object(folder / f"{files.MISSING_MODALITIES}.json")
        comparisons = {
            f"{name}: variants and baselines against the full model": ablations,
            f"{name}: missing-modality test": missing,
        }
        return [
            _results(folder, name, task, identity.fold, ablations),
            *(_differences(title, task, found) for title, found in comparisons.items() if found),
        ]


def _results(folder: Path, name: str, task: str, fold: str, ablations: Mapping[str, Any]) -> Table:
    summary = read_object(folder / files.SUMMARY)
    trivial = read_object(folder / files.TRIVIAL_BASELINES)
    rows = [
        _row(task, trivial_title(task, key, entry), _single(entry["test"]), None)
        for key, entry in trivial.items()
    ]
    alone = [row for row in files.read_rows(folder / files.UNIMODAL) if row["split"] == "test"]
    for modality in dict.fromkeys(row["modality"] for row in alone):
        scores = {
            int(row["seed"]): {
                metric: float(row[metric]) for metric in COLUMNS[task] if row[metric]
            }
            for row in alone
            if row["modality"] == modality
        }
        values = over_seeds(scores, tuple(COLUMNS[task]))
        rows.append(_row(task, f"{modality} alone", values, len(scores)))
    for key, title in BASELINES.items():
        if key in ablations:
            n = max((entry["n"] for entry in ablations[key].values()), default=0)
            rows.append(_row(task, title, ablations[key], n))
    rows.append(_row(task, "**DHMD**", summary["test"], summary["n_seeds"]))
    kind = ""
    if "oracle" in summary:
        kind = "generated data, "
        rows.append(_row(task, ORACLE, _single(summary["oracle"]), None))
    count = len(files.read_predictions(folder).ids)
    title = f"{name}: {kind}{count} test utterances, fold {fold}"
    return Table(title, ["", "seeds", *COLUMNS[task].values()], rows)


def constant_title(task: str) -> str:
    """Return the title of the trivial baseline without input."""
    names = {"classification": "most frequent class", "multilabel": "classes of the majority"}
    return names.get(task, "median label")


def trivial_title(task: str, name: str, entry: Mapping[str, Any]) -> str:
    """Return the title of a trivial baseline from its name and entry in the file."""
    if name == "median":
        return constant_title(task)
    return "ridge, pooled features" if name == "ridge" else f"ridge, {', '.join(entry['inputs'])}"


def _single(values: Mapping[str, float]) -> dict[str, dict[str, float]]:
    return {metric: {"mean": value} for metric, value in values.items()}


def _row(task: str, name: str, values: Mapping[str, Any], n: int | None) -> list[str]:
    cells: Iterable[str] = (_mean(values.get(metric, {})) for metric in COLUMNS[task])
    return [name, "-" if n is None else str(n), *cells]


def _differences(title: str, task: str, found: Mapping[str, Any]) -> Table:
    metric = PRIMARY[task]
    name = COLUMNS[task][metric]
    header = ["", "seeds", name, f"difference in {name}"]
    header += ["95 % over seeds", "95 % over utterances", "p (Holm)"]
    rows = []
    for variant, metrics in found.items():
        entry = metrics.get(metric, {})
        cells = [str(entry.get("n", "-")), _mean(entry)]
        cells.append(f"{entry['difference']:+.3f}" if "difference" in entry else "-")
        cells += [_interval(entry, "ci"), _interval(entry, "utterances"), _p(entry.get("p"))]
        rows.append([variant, *cells])
    return Table(f"{title} (difference = the other − full)", header, rows)


def _mean(values: Mapping[str, float]) -> str:
    if "mean" not in values:
        return "-"
    spread = f" ± {values['std']:.3f}" if "std" in values else ""
    return f"{values['mean']:.3f}{spread}"


def _interval(entry: Mapping[str, float], key: str) -> str:
    low, high = entry.get(f"{key}_low"), entry.get(f"{key}_high")
    return "-" if low is None or high is None else f"[{low:+.3f}, {high:+.3f}]"


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
