"""Entry ids: a video, or `video[i]`, the i-th row of that video's reference sequence."""

from __future__ import annotations

import re

# Python makes no whole number of 5000 digits.
_SEGMENT = re.compile(r"(?P<video>[^\[]*)\[(?P<row>\d{1,18})\]")


def video_of(entry_id: str) -> str:
    """The video of an entry: everything before the first `[` (source: SDK).

    Ids are compared whole, never as prefixes: 25522 and 255224 are two videos.
    """
    return entry_id.split("[", 1)[0]


def segment_id(video: str, row: int) -> str:
    """`video[row]`, as the SDK names the rows of its reference."""
    return f"{video}[{row}]"


def segment_row(entry_id: str) -> int | None:
    """The i of `video[i]`, or None for a plain video id."""
    match = _SEGMENT.fullmatch(entry_id)
    return int(match["row"]) if match else None
