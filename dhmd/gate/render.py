"""Format the gate's result: as text, as Markdown for the comment of a pull request, as JSON.

Numbers are rounded in text and Markdown only.
"""

from __future__ import annotations

from typing import Any

from dhmd.base.text import markdown_table, text_table
from dhmd.evaluation.metrics import METRIC_TITLES, deterioration_sign
from dhmd.gate.compare import REGRESSED, MetricRow
from dhmd.gate.gate import DatasetResult, GateResult

HEADER = (
    *("metric", "n", "base", "head", "deterioration", "95 % bounds", "over utterances", "margin"),
    "",
)
LEGEND = (
    "Deterioration: mean change from base to head, paired by seed; positive is worse. A metric "
    "regressed if its deterioration exceeds the margin and the lower bound is above 0. The bounds "
    "are one-sided and over seeds: a deterioration up to the upper bound cannot be excluded. Over "
    "utterances: 95 % interval of the same deterioration (bootstrap over test videos)."
)
TITLES = {metric: title for titles in METRIC_TITLES.values() for metric, title in titles.items()}


def to_text(result: GateResult) -> str:
    """Format as plain text."""
    lines = [f"gate: {result.head} against {result.base}", ""]
    for item in result.datasets:
        lines.append(f"{item.dataset}: {item.verdict}")
        if item.rows:
            lines += text_table(HEADER, [_cells(row) for row in item.rows])
        lines += [f"  {sentence}" for sentence in _sentences(item)]
        lines += [f"  accepted: {e.from_} became {e.to} ({e.reason})" for e in item.accepted]
        lines.append("")
    if any(item.rows for item in result.datasets):
        lines += [LEGEND, ""]
    return "\n".join([*lines, *result.notes, _verdict(result)])


def to_markdown(result: GateResult) -> str:
    """Format as Markdown."""
    lines = [f"### Gate: {escape_markdown(_verdict(result))}", ""]
    lines += [f"{escape_markdown(result.head)} against {escape_markdown(result.base)}", ""]
    rows = [
        [escape_markdown(item.dataset), *map(escape_markdown, _cells(row))]
        for item in result.datasets
        for row in item.rows
    ]
    if rows:
        lines += [*markdown_table(["dataset", *HEADER], rows), "", LEGEND, ""]
    accepted = [
        [escape_markdown(text) for text in (item.dataset, entry.from_, entry.to, entry.reason)]
        for item in result.datasets
        for entry in item.accepted
    ]
    if accepted:
        lines += ["Accepted changes:", ""]
        lines += [*markdown_table(["dataset", "from", "to", "reason"], accepted), ""]
    lines += [
        f"- **{escape_markdown(item.dataset)}**: {escape_markdown(sentence)}"
        for item in result.datasets
        for sentence in _sentences(item)
    ]
    lines += [f"- {escape_markdown(note)}" for note in result.notes]
    return "\n".join(lines).rstrip() + "\n"


def to_json(result: GateResult) -> dict[str, Any]:
    """Return the result as JSON values, not rounded."""
    return {
        "base": result.base,
        "head": result.head,
        "verdict": result.verdict,
        "exit_status": result.exit_status,
        "notes": list(result.notes),
        "datasets": {
            item.dataset: {
                "verdict": item.verdict,
                "metrics": {row.metric: vars(row) for row in item.rows},
                "reasons": list(item.reasons),
                "accepted": [
                    {"from": entry.from_, "to": entry.to, "reason": entry.reason}
                    for entry in item.accepted
                ],
                "notes": list(item.notes),
            }
            for item in result.datasets
        },
    }


def _verdict(result: GateResult) -> str:
    return f"{result.verdict} (exit {result.exit_status})"


def _sentences(item: DatasetResult) -> list[str]:
    """Return a sentence per regressed metric, the reasons and the notes."""
    regressed = []
    for row in item.rows:
        if row.verdict == REGRESSED and row.deterioration is not None:
            verb = "rose" if deterioration_sign(row.metric) > 0 else "fell"
            title = TITLES.get(row.metric, row.metric)
            regressed.append(
                f"{title} {verb} by {row.deterioration:.4f}, more than the margin {row.margin:g}"
            )
    return [*regressed, *item.reasons, *item.notes]


def _cells(row: MetricRow) -> list[str]:
    bounds = None if row.lower is None or row.upper is None else (row.lower, row.upper)
    return [
        row.metric,
        str(row.n) if row.n else "-",
        *(f"{v['mean']:.4f} ± {v['std']:.4f}" if v else "-" for v in (row.base, row.head)),
        "-" if row.deterioration is None else _signed(row.deterioration),
        *(f"[{_signed(v[0])}, {_signed(v[1])}]" if v else "-" for v in (bounds, row.utterances)),
        f"{row.margin:g}",
        row.verdict,
    ]


def _signed(value: float) -> str:
    # Adding zero removes the sign of a value that rounds to -0.
    return f"{round(value, 4) + 0.0:+.4f}"


def escape_markdown(text: str) -> str:
    """Escape markup, links, images, mentions and table cells of Markdown.

    Web pages link addresses and mentions without markup: a zero-width space prevents that.
    """
    for sign in "\\|<>*_`#~&":
        text = text.replace(sign, "\\" + sign)
    text = text.replace("](", "]\\(")
    for sign in ("@", "://", "www."):
        text = text.replace(sign, sign[0] + "\u200b" + sign[1:])
    return " ".join(text.split())
