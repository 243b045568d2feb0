"""`dhmd sweep` records one experiment per combination and leaves the workspace as it is."""

from __future__ import annotations

from pathlib import Path

from tests.pipeline.scratch import Scratch


def test_a_sweep_records_experiments_and_ranks_them_on_validation(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    scratch.edit(
        "stages/probe.py",
        '    path = Path("metrics"',
        '    if seen["lambda"] == 0.7:\n        raise SystemExit("a failure")\n'
        '    seen["valid"] = seen["test"] = {"mae": 1 - seen["lambda"]}\n    path = Path("metrics"',
    )
    said = scratch("dhmd", "sweep", "-S", "kd.lambda=0.1,0.5", status=1)
    assert "commit the changed files first" in said
    scratch.commit("a probe with scores")
    values = "kd.lambda=0.1,0.5,0.7"
    said = scratch("dhmd", "sweep", "-S", values, "-S", "train.lr=0.25", status=1)
    lines = [line.split() for line in said.splitlines()]
    ranked = [line[1:] for line in lines if line and line[0].startswith("lambda_0_")]
    assert ranked[:2] == [["0.5000", "0.5000"], ["0.9000", "0.9000"]]
    assert "lambda_0_7" in said
    assert "failed: see" in said
    found = scratch.experiments()
    assert len(found) == 2
    seen = [scratch.metrics(revision) for name, revision in sorted(found.items())]
    assert [(each["lambda"], each["lr"]) for each in seen] == [(0.1, 0.25), (0.5, 0.25)]
    assert all(each["inside"] for each in seen)
    assert scratch("git", "status", "--porcelain").strip() == ""
    assert len(scratch("git", "worktree", "list").splitlines()) == 1
