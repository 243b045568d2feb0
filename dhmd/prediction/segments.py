"""Which pieces of which videos are to be scored."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError, first_line
from dhmd.data.alignment.sequences import Sequences

Array = np.ndarray[Any, Any]

# Video -> `[S, 2]` seconds, rows in the file's order: the i-th is the segment `video[i]`.
Segments = Mapping[str, Array]

_COLUMNS = ("video", "start", "end")


def read_segments(path: Path) -> Segments:
    """From a CSV file with the columns video, start and end, or a `.csd` whose rows are segments.

    Labels in a `.csd` are not looked at.

    Raises:
        DhmdError: no such file, or a row that says no segment; the sentence names it.
    """
    if not path.is_file():
        raise DhmdError(f"{path} is no file: --segments must name a CSV or a .csd file")
    if path.suffix.lower() == ".csd":
        with Sequences({"segments": path}, ["segments"]) as sequences:
            return {v: sequences.segments("segments", v).intervals for v in sequences.shared}
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise DhmdError(f"{path} is not readable as CSV: {first_line(error)}") from error
    header = [name.strip() for name in rows[0]] if rows else []
    absent = [name for name in _COLUMNS if name not in header]
    if absent:
        raise DhmdError(
            f"{path} has no column {absent[0]}: its first line must name the columns "
            f"{', '.join(_COLUMNS)}"
        )
    places = [header.index(name) for name in _COLUMNS]
    found: dict[str, list[tuple[float, float]]] = {}
    for number, row in enumerate(rows[1:], start=2):
        if not row:
            continue
        if len(row) != len(header):
            raise DhmdError(
                f"{path}, line {number} has {len(row)} cells, but the header has {len(header)}"
            )
        video, start, end = (row[place].strip() for place in places)
        if not video:
            raise DhmdError(f"{path}, line {number} names no video")
        found.setdefault(video, []).append(_interval(start, end, f"{path}, line {number}"))
    if not found:
        raise DhmdError(f"{path} names no segment: add a line for each below the header")
    return {video: np.array(intervals) for video, intervals in found.items()}


def _interval(start: str, end: str, where: str) -> tuple[float, float]:
    seconds = []
    for name, cell in (("start", start), ("end", end)):
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise DhmdError(f"{where}: {name} is {cell!r}, but must be a number of seconds")
        seconds.append(value)
    if seconds[1] < seconds[0]:
        raise DhmdError(f"{where}: the segment ends at {end}, before it starts at {start}")
    return seconds[0], seconds[1]


def whole_videos(sequences: Sequences, names: list[str]) -> Segments:
    """One segment a video: from its first to its last row in any of the sequences `names`.

    Raises:
        DhmdError: a damaged entry.
    """
    found = {}
    for video in sorted({*sequences.shared, *sequences.not_shared}):
        lacking = sequences.not_shared.get(video, [])
        rows = [sequences.rows(name, video).intervals for name in names if name not in lacking]
        joined = np.concatenate([np.zeros((0, 2)), *rows])
        # A video without rows gets a segment of no length, which is then empty like any other.
        found[video] = np.array(
            [[joined[:, 0].min(), joined[:, 1].max()] if len(joined) else [0.0, 0.0]]
        )
    return found
