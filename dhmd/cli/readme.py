"""Tables of results in README.md.

A table is between the lines `<!-- table:DATASET -->` and `<!-- /table -->`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from dhmd.base.errors import DhmdError
from dhmd.evaluation.tables import ORACLE, dataset_names, dataset_tables

_BEGIN = re.compile(r"^<!-- table:(\S+) -->$")
_END = "<!-- /table -->"

# The rows of the README: the report has the others.
README_ROWS = ("median label", "ridge, pooled features", "late fusion", "**DHMD**", ORACLE)


def with_tables(text: str, tables: Callable[[str], str | None], source: str) -> str:
    """Return `text` with `tables(dataset)` between the markers; None keeps what is there."""
    lines: list[str] = []
    dataset: str | None = None
    found = kept = False
    for number, line in enumerate(text.split("\n"), start=1):
        begins = _BEGIN.match(line)
        if (begins or line == _END) and bool(begins) == (dataset is not None):
            raise DhmdError(f"{source}, line {number}: {line} has no matching marker")
        if begins:
            dataset, found = begins[1], True
            table = tables(dataset)
            kept = table is None
            lines += [line, *([] if table is None else table.split("\n"))]
        elif line == _END:
            dataset = None
            lines.append(line)
        elif dataset is None or kept:
            lines.append(line)
    if dataset is not None:
        raise DhmdError(f"{source}: the table of {dataset} has no {_END}")
    if not found:
        raise DhmdError(f"{source} has no line <!-- table:DATASET --> to write a table after")
    return "\n".join(lines)


def readme_tables(metrics: Path, dataset: str) -> str:
    """Return the README's table of a dataset, or a sentence if there is none yet."""
    if dataset not in dataset_names(metrics):
        return f"No metrics of {dataset} are committed yet."
    results = dataset_tables(metrics / dataset)[0]
    rows = [row for row in results.rows if row[0] in README_ROWS]
    return replace(results, rows=rows).to_markdown()
