"""The learning curves: equal budgets, tuning, paired differences, and a small study."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from benchmarks.studies import learning_curves as study
from benchmarks.studies.curves_page import details, page, verdict, write_figure
from benchmarks.studies.generated import one_thread
from benchmarks.studies.page import page as distillation_page
from dhmd.cli.readme import replace_tables
from dhmd.settings import load_params

ROOT = Path(__file__).parents[3]


def training(model: str, corpus: int, size: int = 600, **more: Any) -> study.Training:
    values: dict[str, Any] = {
        "root": ROOT,
        "folder": ROOT,
        "regime": "noisy",
        "size": size,
        "corpus": corpus,
        "label": model,
        "seeds": (1,),
        "candidates": {model: "recipe"},
        "test": True,
        **more,
    }
    return study.Training(**values)


def result(**maes: float) -> dict[str, Any]:
    return {"models": {name: [mae] for name, mae in maes.items()}, "seconds": {"train": 1.0}}


def test_every_candidate_has_the_updates_of_its_size() -> None:
    full = one_thread(load_params(ROOT).for_dataset("demo"), (1,))
    for size, most in study.UPDATES.items():
        for candidate in study.CANDIDATES:
            train = study.configuration(full, size, candidate).train
            per_epoch = math.ceil(size / train.batch_size)
            assert most - per_epoch < train.epochs * per_epoch <= most


def test_the_candidate_with_the_lowest_validation_error_is_chosen() -> None:
    results = [
        (training(model, corpus, size, candidates={model: name}), result(**{model: mae}))
        for model, size, name, corpus, mae in (
            ("dhmd", 600, "recipe", 101, 1.0),
            ("dhmd", 600, "half_rate", 101, 0.8),
            ("dhmd", 600, "recipe", 102, 1.0),
            ("dhmd", 600, "half_rate", 102, 1.1),
            ("dhmd", 2500, "recipe", 101, 0.5),
            ("dhmd", 2500, "half_rate", 101, 0.6),
            ("dmd", 600, "recipe", 101, 0.9),
            ("dmd", 600, "half_rate", 101, 0.9),
        )
    ]
    tuned = study.choose(results)
    assert tuned["noisy"]["600"]["dhmd"] == {
        "chosen": "half_rate",
        "valid_mae": {"recipe": 1.0, "half_rate": pytest.approx(0.95)},
    }
    chosen = {
        size: study.chosen_candidate({**tuned, "interaction": {}}, regime, size, model)
        for size, regime, model in (
            (600, "noisy", "dhmd"),
            (1200, "noisy", "dhmd"),
            (10_000, "noisy", "uniform_edges"),
            (2500, "interaction", "dmd"),
        )
    }
    assert chosen == {600: "half_rate", 1200: "half_rate", 10_000: "recipe", 2500: "recipe"}


def summary() -> dict[str, Any]:
    gaps = {4000: 0.01, 4001: 0.03, 4002: 0.02}
    results = [
        (training("fast", 4000 + n), result(dhmd=1.0 + n / 10, ridge=1.1, oracle=0.9))
        for n in range(4)
    ]
    results += [
        (training("dmd", corpus), result(dmd=1.0 + (corpus - 4000) / 10 + gap))
        for corpus, gap in gaps.items()
    ]
    results.append((training("fast", 4000, regime="interaction"), result(dhmd=1.0, mult=1.2)))
    tuned = {"noisy": {"600": {"dhmd": {"chosen": "half_rate", "valid_mae": {}}}}}
    settings = load_params(ROOT).for_dataset("demo")
    return study.summarise(study.QUICK, settings, tuned, results)


def test_differences_are_paired_by_corpus_with_a_t_interval() -> None:
    entry = summary()["results"]["noisy"]["600"]["dmd"]
    gaps = [0.01, 0.03, 0.02]
    low, high = stats.t.interval(0.95, 2, loc=0.02, scale=stats.sem(gaps))
    assert entry["difference"] == {
        "mean": pytest.approx(0.02),
        "low": pytest.approx(low, abs=1e-5),
        "high": pytest.approx(high, abs=1e-5),
        "n": 3,
        "better_on": 3,
    }
    assert entry["n"] == 3
    assert summary()["results"]["noisy"]["600"]["dhmd"]["mae"] == pytest.approx(1.15)


def test_the_page_has_intervals_and_marks_those_that_exclude_zero(tmp_path: Path) -> None:
    text = page(summary())
    assert "| DMD | +0.020 [-0.005, +0.045], 3 |" in text
    assert "| ridge regression | -0.050 [-0.255, +0.155], 4 |" in text
    assert "| DHMD | half rate |" in details(summary())
    assert "MulT" not in text  # one corpus has no interval
    assert verdict({"low": 0.001, "high": 0.1}) == "better"
    assert verdict({"low": -0.1, "high": -0.001}) == "worse"
    write_figure(summary(), tmp_path / "figure.svg")
    first = (tmp_path / "figure.svg").read_bytes()
    write_figure(summary(), tmp_path / "figure.svg")
    assert first == (tmp_path / "figure.svg").read_bytes()
    assert b"<svg" in first


@pytest.mark.usefixtures("small")
def test_a_small_study_runs_and_resumes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("VALIDATION", "TEST", "TUNING_VALIDATION"):
        monkeypatch.setattr(study, name, 12)
    monkeypatch.setattr(study, "UPDATES", {40: 1})
    design = study.Design(
        name="small",
        candidates=("recipe", "batch_32"),
        tuning_corpora=1,
        tuning={("interaction", 40): ("fast",)},
        groups=(study.Group(regime="interaction", size=40, models="fast", num_corpora=2),),
        seeds=(1,),
        minutes=0,
    )
    key = study._key(tmp_path)
    tuning = study.tuning_tasks(tmp_path, design, key)
    for tuning_task in tuning:
        study.run_training(tuning_task)
    tuned = study.choose(
        [(tuning_task, json.loads(tuning_task.result.read_text())) for tuning_task in tuning]
    )
    assert set(tuned["interaction"]["40"]) == set(study.FAST["interaction"])
    fresh = study.evaluation_tasks(tmp_path, design, key, tuned)
    assert [tuning_task.corpus for tuning_task in fresh] == [4000, 4001]
    study.run_training(fresh[0])
    assert not list(fresh[0].folder.glob("work-*"))
    models = json.loads(fresh[0].result.read_text())["models"]
    assert set(models) == {*study.FAST["interaction"], "median", "ridge", "oracle"}
    # Past the time limit the second corpus is left out, and the first is read, not trained again.
    fresh[0].result.write_text(json.dumps(result(dhmd=7.0)))
    last = study.run_study(tmp_path, design, num_processes=1)
    assert last["results"]["interaction"]["40"]["dhmd"]["mae_by_corpus"] == {"4000": 7.0}


def test_the_committed_page_is_current() -> None:
    def read(name: str) -> Any:
        return json.loads((ROOT / "metrics" / "studies" / f"{name}.json").read_text("utf-8"))

    curves, text = read("learning_curves"), (ROOT / "docs" / "results.md").read_text("utf-8")
    tables = {
        "distillation": distillation_page(read("distillation")),
        "learning_curves": page(curves),
        "learning_curves_details": details(curves),
    }
    assert replace_tables(text, tables.get, "results.md") == text
    for name in tables:
        assert f"<!-- table:{name} -->" in text
