"""Format histograms, percentages and file sizes for a terminal."""

from __future__ import annotations

from collections.abc import Mapping


def histogram(counts: Mapping[str, int], *, width: int = 40) -> list[str]:
    """Return one line per name, with a bar of at most `width` characters."""
    longest = max((len(name) for name in counts), default=0)
    digits = max((len(str(count)) for count in counts.values()), default=0)
    largest = max(counts.values(), default=0)
    lines = []
    for name, count in counts.items():
        bar = "█" * round(width * count / largest) if largest else ""
        lines.append(f"  {name.rjust(longest)}  {str(count).rjust(digits)}  {bar}".rstrip())
    return lines


def format_percentage(part: int, whole: int) -> str:
    """Return `part` in percent of `whole`; a value below 0.1 % is not rounded to 0 %."""
    if not whole:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "<0.1 %"
    return f"{percent:.1f} %" if part else "0 %"


def format_size(count: int) -> str:
    """Return a number of bytes in a suitable unit, such as 1.5 MiB."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"
