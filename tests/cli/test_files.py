"""Every command prints one line for a file that it cannot read or write."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from dhmd.cli import main
from dhmd.data.csd import write_sequence

ROOT = Path(__file__).parents[2]
LONG = "x" * 300


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return tmp_path


def error_message(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(words) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize(
    "words",
    [
        ["data", "show", f"{LONG}.csd"],
        ["import", "arrays", LONG, "--dataset", "mine"],
        ["predict", "--model", LONG, "i", "--output", "o.csv"],
    ],
    ids=lambda words: words[0],
)
def test_the_error_for_a_name_that_is_too_long_is_one_line(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert f"{LONG}" in error_message(words, capsys)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_the_error_for_a_file_without_permission_is_one_line(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.savez(project / "locked.npz", a=np.zeros(1))
    (project / "locked.npz").chmod(0)
    assert (
        error_message(["data", "show", "locked.npz"], capsys)
        == "dhmd data: locked.npz: Permission denied\n"
    )


@pytest.mark.parametrize(
    ("params", "message"),
    [(None, "params.yaml does not exist"), ("data: [\n", "params.yaml, line 2")],
)
def test_import_checks_params_first(
    params: str | None, message: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "arrays").mkdir()
    if params is not None:
        (project / "params.yaml").write_text(params)
    words = ["import", "arrays", "arrays", "--dataset", "mine"]
    assert error_message(words, capsys).startswith(f"dhmd import: {message}")


def test_sequences_of_several_widths_are_described(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [("a", 3), ("b", 2), ("c", 3)]
    entries = [
        (name, np.full((1, width), float(width)), np.array([[0.0, 1.0]])) for name, width in rows
    ]
    write_sequence(project / "w.csd", root_name="w", entries=entries, metadata=None)
    assert main(["data", "show", "w.csd"]) == 0
    lines = capsys.readouterr().out.splitlines()
    widths = "  widths differ: 3 in 2 entries, 2 in 1 entries, not finite 0 %, rows of"
    assert any(line.startswith(widths) for line in lines)


def test_report_refuses_to_replace_a_pipe(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ROOT / "params.yaml", project)
    (project / "reports" / "demo").mkdir(parents=True)
    (project / "reports" / "demo" / "index.html").write_text("<html></html>")
    os.mkfifo(project / "pipe")
    assert "pipe is a device or a pipe" in error_message(["report", "--output", "pipe"], capsys)
    assert (project / "pipe").is_fifo()
