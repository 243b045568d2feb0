"""Test the arguments of `python -m benchmarks.studies`, and which runs write the page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.studies.__main__ import main
from benchmarks.studies.distillation import CORPORA


@pytest.mark.parametrize("study", [["distillation"], ["selection", "demo"]])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--processes", "0"], "'0' is not an integer of at least 1"),
        (["--processes", "-1"], "'-1' is not an integer of at least 1"),
        (["--seeds", "-1"], "'-1' is not an integer of at least 0"),
        (["--seeds", "1", "x"], "'x' is not an integer of at least 0"),
    ],
)
def test_invalid_numbers_are_refused(
    study: list[str], arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*study, *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_repeated_seed_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["distillation", "--seeds", "1", "2", "1"]) == 1
    assert capsys.readouterr().err == "benchmarks.studies: --seeds has 1 twice\n"


@pytest.mark.parametrize(
    ("arguments", "whole"),
    [
        ([], True),
        (["--processes", "1", "--regimes", *reversed(CORPORA)], True),
        (["--regimes", "clean"], False),
        (["--corpora", "2"], False),
        (["--seeds", "2", "1", "3"], False),
    ],
)
def test_only_the_default_study_updates_the_page(
    arguments: list[str],
    whole: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fake(root: Path, *, corpora: Mapping[str, int], **options: Any) -> dict[str, Any]:
        return dict(corpora)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("benchmarks.studies.distillation.run_study", fake)
    monkeypatch.setattr("benchmarks.studies.page.page", lambda summary: f"page of {list(summary)}")
    monkeypatch.setattr("benchmarks.studies.page.expectations", lambda summary: ["met"])
    page = tmp_path / "docs" / "results.md"
    page.parent.mkdir()
    page.write_text("a\n<!-- table:distillation -->\n<!-- /table -->\n", "utf-8")
    assert main(["distillation", *arguments]) == 0
    captured = capsys.readouterr()
    if whole:
        shown = f"a\n<!-- table:distillation -->\npage of {list(CORPORA)}\n<!-- /table -->\n"
        assert page.read_text("utf-8") == shown
        assert (tmp_path / "metrics" / "studies" / "distillation.json").is_file()
    else:
        assert page.read_text("utf-8") == "a\n<!-- table:distillation -->\n<!-- /table -->\n"
        assert not (tmp_path / "metrics").exists()
        assert captured.out.startswith("page of [")
        assert "docs/results.md are not changed" in captured.err
