"""The tables of results in the README and the report, from the files in `metrics/<dataset>/`.

Numbers are rounded here and nowhere before.
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
from dhmd.evaluation.files import read_object
from dhmd.evaluation.metrics import COLUMNS, PRIMARY, Floats
from dhmd.evaluation.statistics import summary
from dhmd.models.catalogue import model_title

MODEL = "DHMD"
ORACLE = "oracle (label before noise)"


@dataclass(frozen=True)
class Table:
    """A title, a header and rows of text; `**` surrounds what is bold."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def to_form(self, form: str) -> str:
        """Format as text, markdown or latex."""
        formatted: str = getattr(self, f"to_{form}")()
        return formatted

    def to_text(self) -> str:
        """Format for a terminal."""
        plain = [[cell.replace("**", "") for cell in row] for row in self.rows]
        return "\n".join([self.title, *text_table(self.header, plain)])

    def to_markdown(self) -> str:
        """Format for a page or a comment."""
        return "\n".join([f"**{self.title}**", "", *markdown_table(self.header, self.rows)])

    def to_latex(self) -> str:
        """Format as a `tabular` of the package booktabs."""
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
    # A minus sign of a number, such as in -0.012 or [-0.012, +0.003].
    text = re.sub(r"(?<![\w.])[-+](?=\d)", lambda found: f"${found[0]}$", text)
    return rf"\textbf{{{text}}}" if cell.startswith("**") else text


def dataset_names(metrics: Path) -> list[str]:
    """Return the evaluated datasets in alphabetical order."""
    # Hidden directories belong to an evaluation that runs or was killed.
    return sorted(path.parent.name for path in metrics.glob(f"[!.]*/{files.METRICS_FILE}"))


def dataset_tables(folder: Path) -> list[Table]:
    """Return the tables of one dataset: results, ablations, missing modalities (full, by model)."""
    with files.expect_current_files(folder):
        identity = files.read_identity(folder)
        name, task = identity.dataset, identity.task
        ablations = read_object(folder / f"{files.ABLATIONS}.json")
        missing = read_object(folder / f"{files.MISSING_MODALITIES}.json")
        comparisons = {
            f"{name}: variants and baselines against the full model": ablations,
            f"{name}: missing-modality test": missing,
        }
        path = folder / f"{files.MISSING_BY_VARIANT}.json"
        by_variant = read_object(path) if path.is_file() else {}
        return [
            _results(folder, name, task, identity.fold),
            *(differences(title, task, found) for title, found in comparisons.items() if found),
            *([_missing_by_variant(name, task, folder, missing, by_variant)] if by_variant else []),
        ]


def model_scores(folder: Path) -> pd.DataFrame:
    """Return the scores on the test split of every model, a row per model and seed.

    The columns are `kind` ("trivial", "alone", "variant", "baseline", "model", "missing",
    "oracle"), `name`, `title`, `seed`, and the metrics; NaN where undefined.
    """
    task = files.read_identity(folder).task
    trivial = read_object(folder / files.TRIVIAL_BASELINES)
    single = [
        {
            "kind": "trivial",
            "name": name,
            "title": trivial_title(task, name, entry),
            **entry["test"],
        }
        for name, entry in trivial.items()
    ]
    parts = [pd.DataFrame(single)]
    for file, kind in (
        (files.UNIMODAL, "alone"),
        (f"{files.ABLATIONS}.csv", "variant"),
        (files.SEEDS, "model"),
        (f"{files.MISSING_MODALITIES}.csv", "missing"),
    ):
        table = read_table(folder / file)
        if "split" in table:
            table = table[table["split"] == "test"]
        # The first column is the name; seeds.csv, of one model, has none.
        names = [MODEL] * len(table) if kind == "model" else table.iloc[:, 0].tolist()
        suffix = " alone" if kind == "alone" else ""
        parts.append(
            table.assign(
                # Variants that are other models stand beside the model.
                kind=["baseline" if kind == "variant" and model_title(n) else kind for n in names],
                name=names,
                title=[f"{variant_title(name)}{suffix}" for name in names],
                seed=table["seed"].astype(int),
            )
        )
    if oracle := read_object(folder / files.SUMMARY).get("oracle"):
        row = {"kind": "oracle", "name": ORACLE, "title": ORACLE, **oracle}
        parts.append(pd.DataFrame([row]))
    return pd.concat([part for part in parts if len(part)], ignore_index=True)


def read_table(path: Path) -> pd.DataFrame:
    """Read a CSV file of a stage."""
    # A modality or an utterance may be called "null".
    text = io.StringIO(files.read_text(path))
    return pd.read_csv(text, keep_default_na=False, na_values=[""])


def mean_and_std(values: pd.Series[float]) -> dict[str, float]:
    """Return mean and, of several seeds, std; {} if a seed leaves the metric undefined."""
    known: Floats = np.asarray(values, dtype=np.float64)
    return summary(known) if np.isfinite(known).all() else {}


def _results(folder: Path, name: str, task: str, fold: str) -> Table:
    scores, rows, generated = model_scores(folder), [], ""
    for (kind, title), found in scores.groupby(["kind", "title"], sort=False):
        cells = [mean(mean_and_std(found[m])) if m in found else "-" for m in COLUMNS[task]]
        seeds = "-" if found["seed"].isna().any() else str(len(found))
        if kind in ("trivial", "alone", "baseline", "model", "oracle"):
            rows.append([f"**{title}**" if kind == "model" else str(title), seeds, *cells])
        if kind == "oracle":
            generated = "generated data, "
    count = len(files.read_predictions(folder).ids)
    heading = f"{name}: {generated}{count} test utterances, fold {fold}"
    return Table(heading, ["", "seeds", *COLUMNS[task].values()], rows)


def variant_title(name: str) -> str:
    """Return the readable name of a variant or of a condition of the missing-modality test."""
    return model_title(name) or name.replace("_", " ").replace("+", " + ")


def constant_title(task: str) -> str:
    """Return the title of the trivial baseline without input."""
    names = {"classification": "most frequent class", "multilabel": "classes of the majority"}
    return names.get(task, "median label")


def trivial_title(task: str, name: str, entry: Mapping[str, Any]) -> str:
    """Return the title of a trivial baseline from its name and entry in the file."""
    if name == "median":
        return constant_title(task)
    return "ridge, pooled features" if name == "ridge" else f"ridge, {', '.join(entry['inputs'])}"


def _missing_by_variant(
    name: str, task: str, folder: Path, full: Mapping[str, Any], variants: Mapping[str, Any]
) -> Table:
    """Return means of the primary metric: one row per model, one column per condition.

    Conditions with several modalities dropped are left out.
    """
    metric = PRIMARY[task]
    whole = read_object(folder / f"{files.ABLATIONS}.json")
    conditions = [condition for condition in variants if "+" not in condition]
    rows = []
    for variant in dict.fromkeys(name for found in variants.values() for name in found):
        found = [whole[variant], *(variants[each].get(variant, {}) for each in conditions)]
        rows.append(
            [variant_title(variant), *(mean(each.get(metric, {}), spread=False) for each in found)]
        )
    own = [read_object(folder / files.SUMMARY)["test"], *(full[each] for each in conditions)]
    rows.append(["**DHMD**", *(mean(each.get(metric, {}), spread=False) for each in own)])
    title = f"{name}: {COLUMNS[task][metric]} in the missing-modality test, every model"
    return Table(title, ["", "nothing missing", *map(variant_title, conditions)], rows)


def differences(title: str, task: str, found: Mapping[str, Any]) -> Table:
    """Return the table of comparisons with the full model, in the primary metric."""
    metric = PRIMARY[task]
    name = COLUMNS[task][metric]
    header = ["", "seeds", name, f"difference in {name}"]
    header += ["95 % over seeds", "95 % over utterances", "p (Holm)"]
    rows = []
    for variant, metrics in found.items():
        entry = metrics.get(metric, {})
        cells = [str(entry.get("n", "-")), mean(entry)]
        cells.append(f"{entry['difference']:+.3f}" if "difference" in entry else "-")
        cells += [interval(entry, "ci"), interval(entry, "utterances"), p_value(entry.get("p"))]
        rows.append([variant_title(variant), *cells])
    return Table(f"{title} (difference = the other − full)", header, rows)


def counted(count: int, noun: str) -> str:
    """Return `1 seed`, `5 seeds`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def mean(values: Mapping[str, float | None], digits: int = 3, *, spread: bool = True) -> str:
    """Return `1.398 ± 0.043`, the mean alone of one seed, or `-` without any."""
    value, std = values.get("mean"), values.get("std") if spread else None
    if value is None:
        return "-"
    return f"{value:.{digits}f}" + ("" if std is None else f" ± {std:.{digits}f}")


def interval(entry: Mapping[str, float | None], key: str) -> str:
    low, high = entry.get(f"{key}_low"), entry.get(f"{key}_high")
    return "-" if low is None or high is None else f"[{low:+.3f}, {high:+.3f}]"


def p_value(value: float | None) -> str:
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
