"""Write tables of results to README.md, between `<!-- table:DATASET -->` and `<!-- /table -->`."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from dhmd.base.errors import DhmdError
from dhmd.evaluation.tables import ORACLE, dataset_names, dataset_tables

_BEGIN = re.compile(r"^<!-- table:(\S+) -->$")
_END = "<!-- /table -->"

# The README has these rows only; the report has all.
README_ROWS = ("median label", "ridge, pooled features", "late fusion", "**DHMD**", ORACLE)


def replace_tables(text: str, tables: Callable[[str], str | None], source: str) -> str:
    """Replace the lines between the markers of each table by `tables(name)`.

    Args:
        text: the content of the file.
        tables: returns the table of a name, or None to leave its lines unchanged.
        source: the name of the file, for messages.

    Raises:
        DhmdError: there is no marker, or a marker has no counterpart.
    """
    lines: list[str] = []
    name: str | None = None
    table: str | None = None
    for number, line in enumerate(text.split("\n"), start=1):
        begin = _BEGIN.match(line)
        if (begin or line == _END) and bool(begin) == (name is not None):
            raise DhmdError(f"{source}, line {number}: {line} has no matching marker")
        if begin:
            name = begin[1]
            table = tables(name)
            lines += [line, *([] if table is None else table.split("\n"))]
        elif line == _END:
            name = table = None
            lines.append(line)
        elif table is None:
            lines.append(line)
    if name is not None:
        raise DhmdError(f"{source}: the table of {name} has no {_END}")
    if _END not in lines:
        raise DhmdError(
            f"{source} has no line <!-- table:DATASET -->: add it where a table belongs"
        )
    return "\n".join(lines)


def readme_tables(metrics: Path, dataset: str) -> str:
    """Return the README's table of a dataset, or a sentence if it has no metrics yet."""
    if dataset not in dataset_names(metrics):
        return f"No metrics of {dataset} are committed yet."
    results = dataset_tables(metrics / dataset)[0]
    rows = [row for row in results.rows if row[0] in README_ROWS]
    return replace(results, rows=rows).to_markdown()
