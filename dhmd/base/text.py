"""Tables as text: CSV files that users and stages write, and tables for a terminal or a comment."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from dhmd.base.errors import DhmdError, first_line


def read_csv(path: Path, columns: Sequence[str] = ()) -> dict[int, dict[str, str]]:
    """Read a CSV file and parse it with `parse_csv`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DhmdError(f"{path} is not readable as CSV: {first_line(error)}") from error
    return parse_csv(text, str(path), columns)


def parse_csv(
    text: str, source: str, columns: Sequence[str] = (), delimiter: str = ","
) -> dict[int, dict[str, str]]:
    """Parse CSV with a header to one mapping per line, by its number; empty lines are left out.

    Args:
        text: the content of the file.
        source: its name, for messages.
        columns: those that the file must have; others are allowed.
        delimiter: what separates the cells.

    Raises:
        DhmdError: not CSV, a missing or repeated column, or a row of another length.
    """
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise DhmdError(f"{source} is not readable as CSV: {first_line(error)}") from error
    header = [name.strip() for name in lines[0]] if lines else []
    if not {*columns} <= {*header} or len(set(header)) < len(header):
        wanted = f"the columns {', '.join(columns)}, each once" if columns else "each column once"
        raise DhmdError(f"{source}: the header is {','.join(header)!r}, but must name {wanted}")
    rows = {number: line for number, line in enumerate(lines, 1) if line and number > 1}
    for number, line in rows.items():
        if len(line) != len(header):
            raise DhmdError(
                f"{source}, line {number}: {len(line)} cells, but the header has {len(header)}"
            )
    return {number: dict(zip(header, line, strict=True)) for number, line in rows.items()}


def finite_number(cell: str, where: str) -> float:
    """Parse a number."""
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DhmdError(f"{where} is {cell!r}, but must be a finite number")
    return value


def text_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return the lines of a table; the first column is aligned left, the others right."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    first, *others = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(["", row[0].ljust(first), *map(str.rjust, row[1:], others)]).rstrip()
        for row in cells
    ]


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table in Markdown."""
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]
