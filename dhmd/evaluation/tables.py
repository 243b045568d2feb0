"""The tables of results in the README and the report, from the files in `metrics/<dataset>/`.

The numbers in the files are not rounded; the tables round them.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dhmd.base.text import markdown_table, text_table
from dhmd.evaluation import files
from dhmd.evaluation.files import read_json
from dhmd.evaluation.metrics import METRIC_TITLES, PRIMARY_METRIC, Floats
from dhmd.evaluation.statistics import mean_and_std
from dhmd.models.catalogue import model_title

MODEL = "DHMD"
ORACLE = "oracle (label before noise)"


@dataclass(frozen=True)
class Table:
    """A title, a header and rows of cells; a cell between `**` is bold."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def format(self, form: str) -> str:
        """Format as `text`, `markdown` or `latex`."""
        formatted: str = getattr(self, f"to_{form}")()
        return formatted

    def to_text(self) -> str:
        """Format as plain text."""
        plain = [[cell.replace("**", "") for cell in row] for row in self.rows]
        return "\n".join([self.title, *text_table(self.header, plain)])

    def to_markdown(self) -> str:
        """Format as a Markdown table."""
        return "\n".join([f"**{self.title}**", "", *markdown_table(self.header, self.rows)])

    def to_latex(self) -> str:
        """Format as a LaTeX `tabular` with the rules of the package booktabs."""
        lines = [" & ".join(map(_latex, row)) + r" \\" for row in (self.header, *self.rows)]
        columns = "l" + "r" * (len(self.header) - 1)
        return "\n".join(
            [
                f"% {self.title}",
                rf"\begin{{tabular}}{{{columns}}}",
                *(r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"),
                r"\end{tabular}",
            ]
        )


_LATEX = {c: f"\\{c}" for c in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    "<": "$<$",
    ">": "$>$",
    "²": "$^2$",
}


def _latex(cell: str) -> str:
    text = "".join(_LATEX.get(c, c) for c in cell.replace("**", ""))
    # The sign of a number, such as in -0.012 or [-0.012, +0.003].
    text = re.sub(r"(?<![\w.])[-+](?=\d)", r"$\g<0>$", text)
    return rf"\textbf{{{text}}}" if cell.startswith("**") else text


def dataset_names(metrics: Path) -> list[str]:
    """Return the evaluated datasets in alphabetical order."""
    # A hidden directory is the partial output of an evaluation.
    return sorted(path.parent.name for path in metrics.glob(f"[!.]*/{files.METRICS_FILE}"))


def dataset_tables(folder: Path) -> list[Table]:
    """Return the tables of one dataset.

    They are: results, ablations, the missing-modality test of the full model, and that of every
    model. Tables without rows are left out.

    Args:
        folder: the directory `metrics/<dataset>`.
    """
    with files.expect_current_files(folder):
        identity = files.read_identity(folder)
        name, task = identity.dataset, identity.task
        ablations = read_json(folder / f"{files.ABLATIONS}.json")
        missing = read_json(folder / f"{files.MISSING_MODALITIES}.json")
        comparisons = {
            f"{name}: variants and baselines against the full model": ablations,
            f"{name}: missing-modality test": missing,
        }
        path = folder / f"{files.MISSING_BY_VARIANT}.json"
        by_variant = read_json(path) if path.is_file() else {}
        tables = [_results_table(folder, name, task, identity.fold)]
        tables += [_differences_table(title, task, c) for title, c in comparisons.items() if c]
        if by_variant:
            tables.append(_missing_by_variant_table(name, task, folder, missing, by_variant))
        return tables


def model_scores(folder: Path) -> pd.DataFrame:
    """Return the test scores of all models, one row per model and seed.

    The columns are `kind` ("trivial", "unimodal", "variant", "baseline", "model", "missing",
    "oracle"), `name`, `title`, `seed`, and the metrics. Undefined metrics, and the seeds of models
    without seeds, are NaN.
    """
    task = files.read_identity(folder).task
    trivial = [
        {
            "kind": "trivial",
            "name": name,
            "title": trivial_title(task, name, entry),
            **entry["test"],
        }
        for name, entry in read_json(folder / files.TRIVIAL_BASELINES).items()
    ]
    parts = [pd.DataFrame(trivial)]
    for file, kind in (
        (files.UNIMODAL, "unimodal"),
        (f"{files.ABLATIONS}.csv", "variant"),
        (files.SEEDS, "model"),
        (f"{files.MISSING_MODALITIES}.csv", "missing"),
    ):
        table = read_table(folder / file)
        if "split" in table:
            table = table[table["split"] == "test"]
        # The first column is the name; seeds.csv, of one model, has none.
        names = [MODEL] * len(table) if kind == "model" else table.iloc[:, 0].tolist()
        suffix = " alone" if kind == "unimodal" else ""
        parts.append(
            table.assign(
                # Variants that are models of other papers are baselines.
                kind=["baseline" if kind == "variant" and model_title(n) else kind for n in names],
                name=names,
                title=[f"{variant_title(name)}{suffix}" for name in names],
                seed=table["seed"].astype(int),
            )
        )
    if oracle := read_json(folder / files.SUMMARY).get("oracle"):
        row = {"kind": "oracle", "name": ORACLE, "title": ORACLE, **oracle}
        parts.append(pd.DataFrame([row]))
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV file that a stage wrote."""
    # Only empty cells are NaN: a modality or an utterance may be called "null".
    text = io.StringIO(files.read_text(path))
    return pd.read_csv(text, keep_default_na=False, na_values=[""])


def seed_statistics(values: pd.Series[float]) -> dict[str, float]:
    """Return mean and std over seeds like `mean_and_std`; {} if a value is NaN."""
    values_E: Floats = np.asarray(values, dtype=np.float64)
    return mean_and_std(values_E) if np.isfinite(values_E).all() else {}


def _results_table(folder: Path, name: str, task: str, fold: str) -> Table:
    rows, generated = [], ""
    for (kind, title), scores in model_scores(folder).groupby(["kind", "title"], sort=False):
        cells = [
            format_mean(seed_statistics(scores[m])) if m in scores else "-"
            for m in METRIC_TITLES[task]
        ]
        seeds = "-" if scores["seed"].isna().any() else str(len(scores))
        if kind in ("trivial", "unimodal", "baseline", "model", "oracle"):
            rows.append([f"**{title}**" if kind == "model" else str(title), seeds, *cells])
        if kind == "oracle":
            generated = "generated data, "
    count = len(files.read_predictions(folder).ids)
    heading = f"{name}: {generated}{count} test utterances, fold {fold}"
    return Table(heading, ["", "seeds", *METRIC_TITLES[task].values()], rows)


def variant_title(name: str) -> str:
    """Return the title of a variant, or of a condition of the missing-modality test."""
    return model_title(name) or name.replace("_", " ").replace("+", " + ")


def constant_title(task: str) -> str:
    """Return the title of the trivial baseline that predicts the same for every utterance."""
    titles = {"classification": "most frequent class", "multilabel": "majority classes"}
    return titles.get(task, "median label")


def trivial_title(task: str, name: str, entry: Mapping[str, Any]) -> str:
    """Return the title of a trivial baseline from its name and entry in its JSON file."""
    if name == "median":
        return constant_title(task)
    return "ridge, pooled features" if name == "ridge" else f"ridge, {', '.join(entry['inputs'])}"


def _missing_by_variant_table(
    name: str, task: str, folder: Path, full: Mapping[str, Any], by_condition: Mapping[str, Any]
) -> Table:
    """Return means of the primary metric: one row per model, one column per condition.

    Conditions with several modalities dropped are left out.

    Args:
        full: statistics of the full model, by condition and metric.
        by_condition: statistics by condition, variant and metric.
    """
    metric = PRIMARY_METRIC[task]
    complete = read_json(folder / f"{files.ABLATIONS}.json")
    conditions = [condition for condition in by_condition if "+" not in condition]
    entries = {
        variant_title(v): [complete[v], *(by_condition[c].get(v, {}) for c in conditions)]
        for v in dict.fromkeys(v for variants in by_condition.values() for v in variants)
    }
    summary = read_json(folder / files.SUMMARY)["test"]
    entries[f"**{MODEL}**"] = [summary, *(full[c] for c in conditions)]
    rows = [
        [model, *(format_mean(entry.get(metric, {}), with_std=False) for entry in cells)]
        for model, cells in entries.items()
    ]
    title = f"{name}: {METRIC_TITLES[task][metric]} in the missing-modality test, every model"
    return Table(title, ["", "nothing missing", *map(variant_title, conditions)], rows)


def _differences_table(title: str, task: str, comparisons: Mapping[str, Any]) -> Table:
    """Return the comparisons with the full model in the primary metric, one row per variant."""
    metric = PRIMARY_METRIC[task]
    name = METRIC_TITLES[task][metric]
    header = ["", "seeds", name, f"difference in {name}"]
    header += ["95 % over seeds", "95 % over utterances", "p (Holm)"]
    rows = []
    for variant, metrics in comparisons.items():
        entry = metrics.get(metric, {})
        cells = [str(entry.get("n", "-")), format_mean(entry)]
        cells.append(f"{entry['difference']:+.3f}" if "difference" in entry else "-")
        cells += [format_interval(entry, "ci"), format_interval(entry, "utterances")]
        rows.append([variant_title(variant), *cells, format_p_value(entry.get("p"))])
    return Table(f"{title} (difference = the other − full)", header, rows)


def pluralize(count: int, noun: str) -> str:
    """Return the count with the noun in singular or plural: `1 seed`, `5 seeds`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def format_mean(
    values: Mapping[str, float | None], digits: int = 3, *, with_std: bool = True
) -> str:
    """Return `1.398 ± 0.043`, `1.398` if there is no "std", or `-` if there is no "mean"."""
    value, std = values.get("mean"), values.get("std") if with_std else None
    if value is None:
        return "-"
    return f"{value:.{digits}f}" + ("" if std is None else f" ± {std:.{digits}f}")


def format_interval(entry: Mapping[str, float | None], key: str) -> str:
    """Return `[-0.012, +0.003]` from the entry's `<key>_low` and `<key>_high`, or `-`."""
    low, high = entry.get(f"{key}_low"), entry.get(f"{key}_high")
    return "-" if low is None or high is None else f"[{low:+.3f}, {high:+.3f}]"


def format_p_value(value: float | None) -> str:
    """Return `0.012`, `< 0.001`, or `-` for None."""
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
