"""`dhmd table --readme` writes tables between markers."""

from __future__ import annotations

from pathlib import Path

import pytest

from dhmd.base.errors import DhmdError
from dhmd.cli import main
from dhmd.cli.readme import replace_tables


def table(name: str) -> str:
    return f"the table\nof {name}"


def test_only_the_text_between_markers_is_replaced() -> None:
    text = (
        "a\n<!-- table:x -->\nold\n\nolder\n<!-- /table -->\nb\n<!-- table:y -->\n<!-- /table -->"
    )
    assert replace_tables(text, table, "page") == (
        "a\n<!-- table:x -->\nthe table\nof x\n<!-- /table -->\n"
        "b\n<!-- table:y -->\nthe table\nof y\n<!-- /table -->"
    )
    assert replace_tables(replace_tables(text, table, "page"), table, "page") == replace_tables(
        text, table, "page"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nothing", "page has no line <!-- table:DATASET -->: add it where a table belongs"),
        ("<!-- table:x -->\nold", "page: the table of x has no <!-- /table -->"),
        ("a\n<!-- /table -->", "page, line 2: <!-- /table --> has no matching marker"),
        (
            "<!-- table:x -->\n<!-- table:y -->\n<!-- /table -->",
            "page, line 2: <!-- table:y --> has no matching marker",
        ),
    ],
)
def test_an_unmatched_marker_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(DhmdError) as raised:
        replace_tables(text, table, "page")
    assert str(raised.value) == sentence


def test_the_command_updates_the_readme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    (tmp_path / "params.yaml").touch()
    assert main(["table", "--readme"]) == 1
    assert "dhmd table: cannot read" in capsys.readouterr().err
    (tmp_path / "README.md").write_text("<!-- table:toy -->\n<!-- /table -->\n")
    assert main(["table", "--readme"]) == 0
    assert main(["table", "--readme"]) == 0
    assert capsys.readouterr().out == "README.md is rewritten\nREADME.md is up to date\n"
    assert (tmp_path / "README.md").read_text() == (
        "<!-- table:toy -->\nNo metrics of toy are committed yet.\n<!-- /table -->\n"
    )
    assert main(["table", "--readme", "toy"]) == 1
    assert "takes no dataset" in capsys.readouterr().err
