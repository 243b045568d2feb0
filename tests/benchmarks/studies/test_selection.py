"""Choosing on validation: the ranking by hand, bad candidates, and a whole small selection."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import yaml

from benchmarks.studies.__main__ import main
from benchmarks.studies.selection import ranked, select, selected_scores, table
from dhmd.base.errors import DhmdError
from dhmd.data.aligned import read_corpus
from tests.training.corpora import tiny_cache

ROOT = Path(__file__).parents[3]


def test_the_lowest_mean_is_chosen_for_each_model_and_the_first_of_equals() -> None:
    scores = {
        "recipe": {"dhmd": [1.0, 1.2], "gru": [1.1, 1.1]},
        "wider": {"dhmd": [0.9, 1.1], "gru": [1.1, 1.1]},
    }
    found = ranked(scores)
    assert found["dhmd"]["chosen"] == "wider"
    assert found["gru"]["chosen"] == "recipe"
    assert found["dhmd"]["candidates"]["recipe"]["mean"] == pytest.approx(1.1)
    assert found["dhmd"]["candidates"]["recipe"]["std"] == pytest.approx(0.02**0.5)
    assert "| wider | **1.000 ± 0.141** | 1.100 ± 0.000 |" in table(found)


def write_history(path: Path, rows: list[tuple[str, int, str, float]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("seed", "epoch", "name", "value"), *rows])
    return path


def test_a_score_is_the_one_of_the_selected_epoch(tmp_path: Path) -> None:
    rows = [
        (str(seed), epoch, name, seed + epoch / 10 + (name == "valid/corr"))
        for epoch in (1, 2)
        for seed in (1, 2)
        for name in ("train/task", "valid/mae", "valid/corr")
    ]
    marks = [("1", 2, "selected", 1.0), ("2", 1, "selected", 1.0)]
    assert selected_scores(write_history(tmp_path / "h.csv", rows + marks)) == [1.2, 2.1]


def test_a_diverged_seed_is_named(tmp_path: Path) -> None:
    path = write_history(
        tmp_path / "h.csv", [("3", 1, "valid/mae", 1.0), ("3", 4, "diverged", 1.0)]
    )
    with pytest.raises(DhmdError, match="seed 3 diverged in epoch 4"):
        selected_scores(path)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose demo is a tiny corpus, with one candidate beside the recipe."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    path = tmp_path / "recipes" / "demo.yaml"
    recipe = yaml.safe_load(path.read_text("utf-8"))
    recipe["train"] |= {"epochs": 1, "batch_size": 8}
    recipe["pretrain"]["epochs"] = 1
    recipe["model"] |= {"width": 4, "heads": 1}
    path.write_text(yaml.safe_dump(recipe), "utf-8")
    (tmp_path / "recipes" / "candidates" / "demo.yaml").write_text(
        "faster:\n  train:\n    lr: 1.0e-2\n", "utf-8"
    )
    (tmp_path / "data" / "aligned").mkdir(parents=True)
    tiny_cache(tmp_path / "data" / "aligned" / "demo.h5")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_selection_scores_every_candidate_and_keeps_what_is_done(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["selection", "demo", "--seeds", "1", "2", "--processes", "1"]
    assert main(command) == 0
    path = repository / "metrics" / "studies" / "selection-demo.json"
    found = json.loads(path.read_text("utf-8"))
    assert list(found) == ["dhmd", "gru"]
    for entry in found.values():
        scores = {name: value["mean"] for name, value in entry["candidates"].items()}
        assert set(scores) == {"recipe", "faster"}
        assert scores["recipe"] != scores["faster"]
        assert entry["chosen"] == min(scores, key=lambda name: scores[name])
    assert "| faster |" in capsys.readouterr().out
    kept = sorted((repository / ".dhmd" / "studies").rglob("*.json"))
    before = [path.stat().st_mtime_ns for path in kept]
    assert main(command) == 0
    assert [path.stat().st_mtime_ns for path in kept] == before
    assert json.loads(path.read_text("utf-8")) == found


def test_test_labels_cannot_be_seen(repository: Path) -> None:
    corpus = read_corpus(repository / "data" / "aligned" / "demo.h5")
    assert bool(
        (corpus.labels_N[corpus.index("test")] != corpus.labels_N[corpus.index("test")]).all()
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[]", "must map each candidate's name"),
        ("recipe:\n  train: {lr: 1.0}\n", "may not be called"),
        ("wider: 3\n", "candidate 'wider' must map"),
        ("wider:\n  data: {}\n", "candidate 'wider' must map"),
        ("wider:\n  model: {widht: 3}\n", "widht"),
        ("wider:\n  model: {width: many}\n", "candidate wider: model.width"),
    ],
)
def test_bad_candidates_are_one_sentence(repository: Path, text: str, sentence: str) -> None:
    (repository / "recipes" / "candidates" / "demo.yaml").write_text(text, "utf-8")
    with pytest.raises(DhmdError, match=sentence):
        select(repository, "demo", seeds=(1,), processes=1)


def test_what_is_missing_is_named(repository: Path) -> None:
    (repository / "recipes" / "candidates" / "demo.yaml").unlink()
    with pytest.raises(DhmdError, match=r"candidates.demo\.yaml is not there"):
        select(repository, "demo", seeds=(1,), processes=1)
    (repository / "data" / "aligned" / "demo.h5").unlink()
    with pytest.raises(DhmdError, match="run `dvc repro align@demo` first"):
        select(repository, "demo", seeds=(1,), processes=1)


def test_a_kept_score_that_is_cut_short_is_named(repository: Path) -> None:
    select(repository, "demo", seeds=(1,), processes=1)
    for kept in (repository / ".dhmd" / "studies").rglob("*.json"):
        kept.write_text('{"dhmd": [', "utf-8")
    with pytest.raises(DhmdError, match=r"recipe\.json is not readable: delete it"):
        select(repository, "demo", seeds=(1,), processes=1)
