"""Wording of what a user should know."""

from __future__ import annotations

from collections.abc import Sequence


def such_as(names: Sequence[str], noun: str, most: int = 3) -> str:
    """`5 videos: a, b, c …`."""
    plural = "s" if len(names) != 1 else ""
    more = " …" if len(names) > most else ""
    return f"{len(names)} {noun}{plural}: {', '.join(names[:most])}{more}"
