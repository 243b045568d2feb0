"""`dhmd sweep` records one experiment per combination and does not change the workspace."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.engines import Engine, Ray, RealSlurm
from tests.pipeline.scratch import Scratch


def test_a_sweep_records_experiments_and_ranks_them_on_validation(tmp_path: Path) -> None:
    scratch = Scratch(tmp_path)
    metrics = '    path = Path("metrics"'
    failure_and_scores = (
        '    if seen["lambda"] == 0.7:\n        raise SystemExit("a failure")\n'
        '    seen["valid"] = seen["test"] = {"mae": 1 - seen["lambda"]}\n'
    )
    scratch.edit("stages/probe.py", (metrics, failure_and_scores + metrics))
    output = scratch("dhmd", "sweep", "-S", "kd.lambda=0.1,0.5", fails=True)
    assert "commit the changed files first" in output
    scratch.commit("a probe with scores")
    values = "kd.lambda=0.1,0.5,0.7"
    output = scratch("dhmd", "sweep", "-S", values, "-S", "train.lr=0.25", fails=True)
    lines = [line.split() for line in output.splitlines()]
    ranked = [line[1:] for line in lines if line and line[0].startswith("lambda_0_")]
    assert ranked[:2] == [["0.5000", "0.5000"], ["0.9000", "-"]]
    assert "lambda_0_7" in output
    assert "failed: see" in output
    experiments = scratch.experiments()
    assert len(experiments) == 2
    results = [scratch.metrics(revision) for name, revision in sorted(experiments.items())]
    assert [(result["lambda"], result["lr"]) for result in results] == [(0.1, 0.25), (0.5, 0.25)]
    assert all(result["inside"] for result in results)
    assert scratch("git", "status", "--porcelain").strip() == ""
    assert len(scratch("git", "worktree", "list").splitlines()) == 1


@pytest.fixture(params=["local", "slurm", "ray"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    if request.param == "local":
        yield Engine("local", "local")
        return
    engine = RealSlurm(monkeypatch) if request.param == "slurm" else Ray()
    yield engine
    engine.stop()


# Validation and test scores by experiment, of the first engine that ran.
first_scores: dict[str, float] = {}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_sweep_gives_the_same_results_on_every_engine(engine: Engine, tmp_path: Path) -> None:
    scratch = Scratch(tmp_path, pipeline=None)
    environment = {"SLURM_CONF": os.environ.get("SLURM_CONF", "")}
    scratch.edit("params.yaml", ("  enabled: true\n  # Tracking", "  enabled: false\n  # Tracking"))
    if engine.name == "Ray":
        address = engine.compute["ray"]["address"]
        scratch.edit("params.yaml", ("    address:\n", f"    address: {address}\n"))
    scratch.commit("settings")
    values = ["kd.lambda=0.1,0.3,0.5", "train.seeds=[1,2]"]
    values += ["ablate.variants=[no_distillation,uniform_edges]"]
    values += ["train.epochs=2", "pretrain.epochs=2", "pretrain.folds=2", "compute.workers=2"]
    options = [word for value in values for word in ("-S", value)]
    executor = engine.compute["executor"]
    output = scratch("dhmd", "sweep", *options, "--executor", executor, **environment)
    print(output)
    rows = re.findall(r"^ *(lambda_\S+) +([\d.]+) +([\d.]+|-)$", output, re.MULTILINE)
    assert len(rows) == 3
    assert sorted(float(row[1]) for row in rows) == [float(row[1]) for row in rows]
    names = [row[0].partition("-seeds")[0] for row in rows]
    scores = {
        f"{name} {split}": float(score)
        for name, row in zip(names, rows, strict=True)
        for split, score in zip(("valid", "test"), row[1:], strict=True)
        if score != "-"  # only the best experiment on validation has a test score
    }
    assert len(scratch.experiments()) == 3
    shown = scratch("dvc", "exp", "show", "--csv", "--no-pager")
    assert shown.count("lambda_") >= 3
    # The trainings of all experiments are submitted twice: the pretraining first, then the others.
    assert output.count(" trainings in ") == 2, output
    if not first_scores:
        first_scores.update(scores)
    assert scores == pytest.approx(first_scores, abs=1e-3)
