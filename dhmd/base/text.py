"""Read CSV files, and format tables for a terminal or in Markdown."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path

from dhmd.base.errors import DhmdError, first_line


def read_csv(path: Path, columns: Sequence[str] = ()) -> dict[int, dict[str, str]]:
    """Read a CSV file; arguments and result are those of `parse_csv`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DhmdError(f"{path} is not readable as CSV: {first_line(error)}") from error
    return parse_csv(text, str(path), columns)


def parse_csv(
    text: str, source: str, columns: Sequence[str] = (), delimiter: str = ","
) -> dict[int, dict[str, str]]:
    """Parse CSV text with a header.

    Args:
        text: the content of the file.
        source: the name of the file, for messages.
        columns: required columns; others are allowed.
        delimiter: the character between cells.

    Returns:
        The cells of each line, by line number and column; empty lines are omitted.

    Raises:
        DhmdError: not CSV, a missing or repeated column, or a row with a missing or extra cell.
    """
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error as error:
        raise DhmdError(f"{source} is not readable as CSV: {first_line(error)}") from error
    header = [name.strip() for name in lines[0]] if lines else []
    if not {*columns} <= {*header} or len(set(header)) < len(header):
        required = f"the columns {', '.join(columns)}, each once" if columns else "each column once"
        raise DhmdError(f"{source}: the header is {','.join(header)!r}, but must name {required}")
    rows: dict[int, dict[str, str]] = {}
    for number, cells in enumerate(lines[1:], 2):
        if len(cells) not in (0, len(header)):
            raise DhmdError(
                f"{source}, line {number} has {len(cells)} cells, but must have {len(header)} like "
                "the header"
            )
        if cells:
            rows[number] = dict(zip(header, cells, strict=True))
    return rows


def finite_number(cell: str, where: str) -> float:
    """Return the number in a CSV cell; `where` names the cell in the message of a DhmdError."""
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DhmdError(f"{where} is {cell!r}, but must be a finite number")
    return value


def text_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Return the lines of a plain-text table; the first column is left-aligned, the others right.

    Args:
        header: names of the columns.
        rows: cells of each row.
    """
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    first, *widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(["", row[0].ljust(first), *map(str.rjust, row[1:], widths)]).rstrip()
        for row in cells
    ]


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]
