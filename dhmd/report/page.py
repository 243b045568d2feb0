"""Render an HTML page: of one dataset for the `report` stage, of all datasets for `dhmd report`.

The page needs no network: style, figures and scripts are inside it, and its content security
policy forbids requests. The template escapes all texts; only our own figures are inserted as they
are. This module does not import matplotlib.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from dhmd.base.files import file_sha256, json_sha256

FORMAT: Final = 2  # version of report.json: increase it when the template needs other keys
PAGE: Final = "index.html"
REPORT: Final = "report.json"
PICTURES: Final = "pictures"
_SCRIPT: Final = Path(__file__).with_name("utterances.js")
# The colours of text, muted text, lines and background in the figures, and in the page's style.
INK: Final = ("#24292f", "#656d76", "#d8dee4", "#fdfdfd")
_VARIABLES: Final = ("var(--ink)", "var(--muted)", "var(--line)", "var(--paper)")


@dataclass(frozen=True, kw_only=True)
class DatasetEntry:
    """One dataset of a page.

    Attributes:
        report: content of report.json.
        pictures: the SVG text of each figure by name.
        title: title of the dataset config.
        origin: source of the data, from the dataset config.
        stale: whether the metrics have changed since the figures were drawn.
        provenance: the runs of the stages; None in the page that the `report` stage writes.
    """

    report: Mapping[str, Any]
    pictures: Mapping[str, str]
    title: str = ""
    origin: str = ""
    stale: bool = False
    provenance: Mapping[str, Any] | None = None


def render(
    title: str, entries: Sequence[DatasetEntry], software: Mapping[str, str] | None = None
) -> str:
    """Render a page of datasets.

    Args:
        title: title of the page.
        entries: the datasets.
        software: `version` and `commit`; if given, the page starts with a table of all datasets.

    Returns:
        HTML.
    """
    return render_template("template.html", title=title, entries=entries, software=software)


def render_template(name: str, **values: Any) -> str:
    """Render a template of this directory with the given variables."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["inline"] = _inline
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    script = _SCRIPT.read_text(encoding="utf-8")
    # No other script may run, whatever a transcript contains.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(name).render(
        values, script=script, script_hash=f"sha256-{digest}"
    )


def metrics_sha256(folder: Path) -> str:
    """Hash all files of a metrics directory; a report stores the hash of the metrics it shows."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return json_sha256({path.relative_to(folder).as_posix(): file_sha256(path) for path in files})


def figure_blocks(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the figure blocks of all sections of a report."""
    blocks = [block for section in report["sections"] for block in section["blocks"]]
    return [block for block in blocks if block["kind"] == "figure"]


def table_block(
    header: Sequence[str],
    rows: Sequence[Sequence[Any]],
    caption: str = "",
    *,
    text_columns: Sequence[int] = (0,),
    folded: str = "",
) -> dict[str, Any]:
    """Return the block of a table.

    Args:
        header: titles of the columns.
        rows: cells: text, or lists of {"word", "note"}. A row whose first cell is between `**` is
            highlighted.
        caption: caption of the table.
        text_columns: indices of the columns of text, aligned left; the others are numbers.
        folded: title of a collapsed table; empty for a visible one.
    """
    return {
        "kind": "table",
        "header": list(header),
        "rows": [list(row) for row in rows],
        "caption": caption,
        "prose": list(text_columns),
        "folded": folded,
    }


def _inline(svg: str) -> str:
    """Return an SVG file as an element of the page, in the page's colours."""
    element = svg[svg.index("<svg") :]
    for colour, variable in zip(INK, _VARIABLES, strict=True):
        element = element.replace(colour, variable)
    return element
