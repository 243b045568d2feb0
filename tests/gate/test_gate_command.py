"""Test `dhmd gate` as a reviewer and a CI job call it."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from dhmd.gate import render
from tests.gate.fakes import (
    commit_all,
    new_repository,
    predictions_of,
    write_metrics,
    write_params,
)

PROJECT = Path(__file__).parents[2]
HEAVY = ("torch", "mlflow", "pandas", "scipy.stats", "h5py", "matplotlib", "dvc")
PROBE = """
import sys
from dhmd.cli import main
status = main(sys.argv[1:])
loaded = [name for name in {heavy!r} if name in sys.modules]
print("loaded:", *loaded, file=sys.stderr)
sys.exit(status)
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a repository whose HEAD is worse than HEAD~1, which equals HEAD~2."""
    root = tmp_path_factory.mktemp("gate command")
    new_repository(root)
    write_params(root)
    for error in (0.6, 0.6, 0.9):
        write_metrics(root, predictions_of((1, 2, 3, 4, 5), error))
        commit_all(root)
    return root


def _run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROBE.format(heavy=HEAVY), "gate", *arguments],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_exit_status_is_the_verdict(repository):
    assert _run(repository, "--base", "HEAD~2", "--head", "HEAD~1").returncode == 0
    assert _run(repository, "--base", "HEAD~1").returncode == 1
    done = _run(repository, "--base", "nowhere")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == (
        "dhmd gate: revision 'nowhere' is not in this clone, neither in Git nor as a DVC "
        "experiment; fetch it, or choose another revision (a shallow clone has no older revisions)"
    )
    assert _run(repository, "--json", "--markdown").returncode == 2


def test_the_gate_imports_no_heavy_module_and_takes_less_than_a_second(repository):
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = _run(repository, "--base", "HEAD~1")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        # Processor time: other work on this machine must not decide the test.
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.stderr.split() == ["loaded:"]
    assert min(seconds) < 1.0


def test_the_text_shows_bounds_and_what_regressed(repository):
    text = _run(repository, "--base", "HEAD~1").stdout
    assert "demo: regressed" in text
    header, mae, corr = (line.split() for line in text.splitlines()[3:6])
    assert header[:2] == ["metric", "n"]
    assert mae[:2] == ["mae", "5"]
    assert corr[-1] == "regressed"
    assert "a deterioration up to the upper bound cannot be excluded" in text
    rise = json.loads(_run(repository, "--base", "HEAD~1", "--json").stdout)
    rise = rise["datasets"]["demo"]["metrics"]["mae"]["deterioration"]
    assert f"MAE rose by {rise:.4f}, more than the margin 0.03" in text
    assert "Corr fell by " in text
    assert text.splitlines()[-1] == "regressed (exit 1)"


def test_the_markdown_is_a_table(repository):
    text = _run(repository, "--base", "HEAD~1", "--markdown").stdout
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 4
    assert {row.count("|") for row in rows} == {11}
    assert rows[2].startswith("| demo | mae | 5 | ")
    assert text.startswith("### Gate: regressed (exit 1)")


def test_the_json_is_complete_and_not_rounded(repository):
    result = json.loads(_run(repository, "--base", "HEAD~1", "--json").stdout)
    assert (result["verdict"], result["exit_status"]) == ("regressed", 1)
    row = result["datasets"]["demo"]["metrics"]["mae"]
    assert row["n"] == 5
    assert row["lower"] < row["deterioration"] < row["upper"]
    assert len(row["utterances"]) == 2
    assert row["head"]["mean"] - row["base"]["mean"] == pytest.approx(row["deterioration"])


def test_markdown_shows_accepted_changes_and_escapes(tmp_path):
    new_repository(tmp_path)
    write_params(tmp_path)
    write_metrics(tmp_path, predictions_of((1, 2)))
    commit_all(tmp_path)
    write_metrics(tmp_path, predictions_of((1, 2)), corpus="d" * 64)
    done = _run(tmp_path, "--markdown")
    assert done.returncode == 2
    assert f"corpus:{'d' * 64}" in done.stdout
    entry = {"dataset": "demo", "from": f"corpus:{'c' * 64}", "to": f"corpus:{'d' * 64}"}
    write_params(tmp_path, accept=[{**entry, "reason": "new | <b>labels</b>"}])
    commit_all(tmp_path)
    done = _run(tmp_path, "--markdown", "--base", "HEAD~1")
    assert done.returncode == 0
    assert "Accepted changes:" in done.stdout
    assert "new \\| \\<b\\>labels\\</b\\>" in done.stdout


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("![x](http://e/p.png)", "![x]\\(http:\u200b//e/p.png)"),
        (
            "see www.e.org @org/team &#64;x #3",
            "see w\u200bww.e.org @\u200borg/team \\&\\#64;x \\#3",
        ),
        ("~~gone~~ [-.003, +.1]", "\\~\\~gone\\~\\~ [-.003, +.1]"),
    ],
)
def test_text_cannot_become_markup_links_or_mentions(text, expected):
    assert render.escape_markdown(text) == expected


def test_equal_metrics_show_no_negative_zero(repository):
    text = _run(repository, "--base", "HEAD~2", "--head", "HEAD~1").stdout
    assert "+0.0000" in text
    assert "-0.0000" not in text
    json_text = _run(repository, "--base", "HEAD~2", "--head", "HEAD~1", "--json").stdout
    assert "-0.0," not in json_text
