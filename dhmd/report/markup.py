"""HTML made of text: everything that comes from data is escaped here and nowhere else."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from dhmd.report.css import CSS
from dhmd.report.svg import for_page

if TYPE_CHECKING:
    from dhmd.report.sheet import Picture

PAGE: Final = "index.html"
# `dhmd report` fills these in; they stay empty in the stage's own page.
ABOUT_MARK: Final = "<!-- about -->"
PROVENANCE_MARK: Final = "<!-- provenance -->"

# Nothing may be loaded and nothing may run, whatever a word or an id holds.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def safe(text: object) -> str:
    """Text as HTML."""
    return html.escape(str(text), quote=True)


def strong(text: str) -> str:
    """Escaped, `**` around a whole text read as emphasis, as in markdown tables."""
    if text.startswith("**") and text.endswith("**") and len(text) > 4:
        return f"<strong>{safe(text[2:-2])}</strong>"
    return safe(text)


def paragraph(text: str, kind: str = "") -> str:
    """One paragraph of plain text."""
    return f"<p{_class(kind)}>{safe(text)}</p>"


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    words: Sequence[int] = (0,),
    caption: str = "",
) -> str:
    """A table of text cells; the columns `words` are prose, the others figures.

    A row whose first cell is emphasised (`**…**`) is marked as the model's own.
    """
    kinds = ["" if column in words else ' class="n"' for column in range(len(header))]
    lines = ["<tr>" + "".join(f"<th{k}>{safe(h)}</th>" for k, h in zip(kinds, header, strict=True))]
    for row in rows:
        own = ' class="own"' if row[0].startswith("**") else ""
        cells = "".join(f"<td{k}>{strong(c)}</td>" for k, c in zip(kinds, row, strict=True))
        lines.append(f"<tr{own}>{cells}</tr>")
    said = f"<caption>{safe(caption)}</caption>" if caption else ""
    body = "\n".join([f"{lines[0]}</tr>", *lines[1:]])
    return f'<div class="scroll"><table>{said}\n{body}\n</table></div>'


def figure(picture: Picture, dataset: str) -> str:
    """A picture with its caption."""
    drawn = for_page(picture.svg, f"{dataset}-{picture.name}", picture.title)
    name = f"{dataset}-{picture.name}-figure"
    return (
        f'<figure id="{safe(name)}">{drawn}\n<figcaption>{safe(picture.caption)}</figcaption>'
        "</figure>"
    )


def figures(pictures: Sequence[Picture | None], dataset: str) -> str:
    """Pictures below each other, half-wide neighbours side by side."""
    parts: list[str] = []
    pair: list[str] = []
    for picture in [*pictures, None]:
        if picture is not None and not picture.wide:
            pair.append(figure(picture, dataset))
            continue
        if pair:
            parts.append(f'<div class="pair">{"".join(pair)}</div>')
            pair = []
        if picture is not None:
            parts.append(figure(picture, dataset))
    return "\n".join(parts)


def folded(title: str, body: str) -> str:
    """Something that most readers need not see."""
    return f"<details><summary>{safe(title)}</summary>\n{body}\n</details>"


def mean_and_spread(values: Mapping[str, float], digits: int = 3) -> str:
    """`1.398 ± 0.043`, or the mean alone of one seed, or a dash."""
    if "mean" not in values:
        return "–"
    spread = f" ± {values['std']:.{digits}f}" if "std" in values else ""
    return f"{values['mean']:.{digits}f}{spread}"


def tiles(entries: Sequence[tuple[str, str, bool]]) -> str:
    """Large figures with a word each: (figure, word, whether it is the model's own)."""
    parts = [
        f'<div class="tile{" own" if own else ""}"><b>{safe(value)}</b>'
        f"<span>{safe(word)}</span></div>"
        for value, word, own in entries
    ]
    return f'<div class="tiles">{"".join(parts)}</div>'


def document(title: str, links: Sequence[tuple[str, str]], body: str) -> str:
    """A whole page. `links`: (anchor, text) of the bar at the top; without anchor, a label."""
    bar = "".join(
        f'<a href="#{safe(anchor)}">{safe(text)}</a>'
        if anchor
        else f"<strong>{safe(text)}</strong>"
        for anchor, text in links
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{safe(title)}</title>
<link rel="icon" href="data:,">
<style>{CSS}</style>
</head>
<body>
<nav><div>{bar}</div></nav>
<main>
{body}
</main>
</body>
</html>
"""


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
