"""The gate's result for a terminal and for a pull request's comment; rounding happens only here."""

from __future__ import annotations

from collections.abc import Sequence

from dhmd.gate.compare import MetricRow
from dhmd.gate.gate import DatasetResult, GateResult

HEADER = ("metric", "n", "base", "head", "loss", "95 % bounds", "over utterances", "margin", "")
LEGEND = (
    "Loss: head against base, paired by seed, positive is worse. It fails when it exceeds the "
    "margin and its lower bound is above 0. Bounds are one-sided, over seeds: a loss up to the "
    "upper one cannot be excluded. Over utterances: 95 % interval of the same loss, test videos "
    "resampled."
)


def to_text(result: GateResult) -> str:
    """For a terminal."""
    lines = [f"gate: {result.head} against {result.base}", ""]
    for item in result.datasets:
        lines.append(f"{item.dataset}: {item.verdict}")
        lines += [f"  {line}" for line in _aligned([_cells(row) for row in item.rows])]
        lines += [f"  {sentence}" for sentence in _sentences(item)]
        lines.append("")
    if any(item.rows for item in result.datasets):
        lines += [LEGEND, ""]
    lines += list(result.notes)
    lines.append(_verdict(result))
    return "\n".join(lines)


def to_markdown(result: GateResult) -> str:
    """For a comment."""
    lines = [f"### Gate: {_escaped(_verdict(result))}", ""]
    lines += [f"{_escaped(result.head)} against {_escaped(result.base)}", ""]
    rows = [[item.dataset, *_cells(row)] for item in result.datasets for row in item.rows]
    if rows:
        lines += _markdown_table(["dataset", *HEADER], rows)
        lines += ["", LEGEND, ""]
    accepted = [
        [item.dataset, entry.from_, entry.to, entry.reason]
        for item in result.datasets
        for entry in item.accepted
    ]
    if accepted:
        lines += ["Accepted changes:", ""]
        lines += [*_markdown_table(["dataset", "from", "to", "reason"], accepted), ""]
    lines += [
        f"- **{_escaped(item.dataset)}**: {_escaped(sentence)}"
        for item in result.datasets
        for sentence in (*item.reasons, *item.notes)
    ]
    lines += [f"- {_escaped(note)}" for note in result.notes]
    return "\n".join(lines).rstrip() + "\n"


def _verdict(result: GateResult) -> str:
    return f"{result.verdict} (exit {result.exit_status})"


def _sentences(item: DatasetResult) -> list[str]:
    accepted = [
        f"accepted: {entry.from_} became {entry.to} ({entry.reason})" for entry in item.accepted
    ]
    return [*item.reasons, *accepted, *item.notes]


def _cells(row: MetricRow) -> list[str]:
    bounds = None if row.lower is None or row.upper is None else (row.lower, row.upper)
    return [
        row.metric,
        str(row.n) if row.n else "-",
        _mean(row.base),
        _mean(row.head),
        "-" if row.loss is None else _signed(row.loss),
        _interval(bounds),
        _interval(row.utterances),
        f"{row.margin:g}",
        row.verdict,
    ]


def _mean(values: dict[str, float] | None) -> str:
    if values is None:
        return "-"
    return f"{values['mean']:.4f} ± {values['std']:.4f}"


def _interval(ends: tuple[float, float] | None) -> str:
    return "-" if ends is None else f"[{_signed(ends[0])}, {_signed(ends[1])}]"


def _signed(value: float) -> str:
    # Adding zero after rounding: what rounds to nothing has no sign to show.
    return f"{round(value, 4) + 0.0:+.4f}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return []
    table = [HEADER, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(HEADER))]
    return ["  ".join(map(_padded, row, widths)).rstrip() for row in table]


def _padded(cell: str, width: int) -> str:
    return cell.ljust(width)


def _markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return f"| {' | '.join(map(_escaped, cells))} |"

    return [line(header), line(["---"] * len(header)), *map(line, rows)]


def _escaped(text: str) -> str:
    """Text that no markdown reader takes for mark-up, a link, an image, a mention or another cell.

    A backslash keeps a sign a sign; addresses and mentions, which are linked without any mark-up,
    are cut by a space of no width.
    """
    for sign in "\\|<>*_`#~&":
        text = text.replace(sign, "\\" + sign)
    text = text.replace("](", "]\\(")
    for sign in ("@", "://", "www."):
        text = text.replace(sign, sign[0] + "\u200b" + sign[1:])
    return " ".join(text.split())
