"""Selection on validation: ranking, invalid candidates, and a small selection."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.studies.__main__ import main
from benchmarks.studies.selection import ranked, read_candidates, select, table
from benchmarks.studies.tasks import selected_scores
from dhmd.base.errors import DhmdError
from dhmd.data.aligned import read_corpus
from tests.training.corpora import tiny_aligned

ROOT = Path(__file__).parents[3]


def test_the_lowest_mean_is_chosen_and_ties_go_to_the_first() -> None:
    summary = {
        "dhmd": ranked({"recipe": [1.0, 1.2], "wider": [0.9, 1.1]}),
        "gru": ranked({"recipe": [1.1, 1.1], "wider": [1.1, 1.1]}),
    }
    assert summary["dhmd"]["chosen"] == "wider"
    assert summary["gru"]["chosen"] == "recipe"
    assert summary["dhmd"]["candidates"]["recipe"]["mean"] == pytest.approx(1.1)
    assert summary["dhmd"]["candidates"]["recipe"]["std"] == pytest.approx(0.02**0.5)
    assert "| dhmd | 1.100 ± 0.141 | **1.000 ± 0.141** |" in table(summary)


def write_history(path: Path, rows: list[tuple[str, int, str, float]]) -> Path:
    with open(path, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("seed", "epoch", "name", "value"), *rows])
    return path


def test_scores_are_those_of_the_selected_epochs(tmp_path: Path) -> None:
    rows = [
        (str(seed), epoch, name, seed + epoch / 10 + (name == "valid/corr"))
        for epoch in (1, 2)
        for seed in (1, 2)
        for name in ("train/task", "valid/mae", "valid/corr")
    ]
    marks = [("1", 2, "selected", 1.0), ("2", 1, "selected", 1.0)]
    assert selected_scores(write_history(tmp_path / "h.csv", rows + marks)) == [1.2, 2.1]


def test_the_error_for_a_diverged_seed_names_it(tmp_path: Path) -> None:
    path = write_history(
        tmp_path / "h.csv", [("3", 1, "valid/mae", 1.0), ("3", 4, "diverged", 1.0)]
    )
    with pytest.raises(DhmdError, match="seed 3 diverged in epoch 4"):
        selected_scores(path)


@pytest.fixture
def repository(small: Path) -> Path:
    """Return the small repository with an aligned features file and one candidate."""
    candidates = small / "recipes" / "candidates" / "demo.yaml"
    candidates.write_text("faster:\n  train:\n    lr: 1.0e-2\n", "utf-8")
    (small / "data" / "aligned").mkdir(parents=True)
    tiny_aligned(small / "data" / "aligned" / "demo.h5")
    return small


def test_a_selection_scores_every_candidate_once(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["selection", "demo", "--models", "gru", "dhmd"]
    command += ["--seeds", "1", "2", "--processes", "1"]
    assert main(command) == 0
    path = repository / "metrics" / "studies" / "selection-demo.json"
    summary = json.loads(path.read_text("utf-8"))
    assert list(summary) == ["dhmd", "gru"]
    for entry in summary.values():
        scores = {name: value["mean"] for name, value in entry["candidates"].items()}
        assert set(scores) == {"recipe", "faster"}
        assert scores["recipe"] != scores["faster"]
        assert entry["chosen"] == min(scores, key=lambda name: scores[name])
    assert "| model | recipe | faster |" in capsys.readouterr().out
    stored = sorted((repository / ".dhmd" / "studies").rglob("*.json"))
    assert len(stored) == 4
    before = [path.stat().st_mtime_ns for path in stored]
    assert main(command) == 0
    assert [path.stat().st_mtime_ns for path in stored] == before
    assert json.loads(path.read_text("utf-8")) == summary


def test_words_are_shuffled_within_their_utterances(repository: Path) -> None:
    command = ["selection", "demo", "--models", "gru", "--seeds", "1", "--processes", "1"]
    assert main([*command, "--candidates", "recipe", "--shuffle-words"]) == 0
    path = repository / "metrics" / "studies" / "selection-demo-shuffled.json"
    assert list(json.loads(path.read_text("utf-8"))["gru"]["candidates"]) == ["recipe"]
    copy = repository / ".dhmd" / "studies" / "selection-demo" / "shuffled.h5"
    old, new = (read_corpus(p) for p in (repository / "data/aligned/demo.h5", copy))
    shuffled = 0
    for before, after in zip(old.features["text"], new.features["text"], strict=True):
        assert sorted(map(tuple, before)) == sorted(map(tuple, after))
        shuffled += not np.array_equal(before, after)
    assert shuffled > 10
    assert np.array_equal(old.features["audio"].values, new.features["audio"].values)
    with pytest.raises(
        DhmdError, match="--candidates: 'longer' is not a candidate; choose from rec"
    ):
        select(repository, "demo", models=["gru"], names=["longer"], seeds=(1,), num_processes=1)


def test_a_dataset_without_a_candidates_file_has_the_default_candidates(repository: Path) -> None:
    own, shared = (read_candidates(repository, name) for name in ("demo", "mosei"))
    assert list(own[1]) == ["faster"]
    assert shared[0].name == "default.yaml"
    assert len(shared[1]) >= 6


def test_models_are_compared_with_their_selected_settings(repository: Path) -> None:
    (repository / "docs").mkdir()
    page = repository / "docs" / "results.md"
    page.write_text(
        "a\n<!-- table:models -->\n<!-- /table -->\n<!-- table:x -->\nb\n<!-- /table -->\n"
    )
    studies = repository / "metrics" / "studies"
    studies.mkdir(parents=True)
    (studies / "selection-demo.json").write_text('{"gru": {"chosen": "faster"}}', "utf-8")
    command = ["models", "demo", "--models", "gru", "mult", "--seeds", "1", "2"]
    assert main(command) == 0
    summary = json.loads((studies / "models-demo.json").read_text("utf-8"))
    assert list(summary["models"]) == ["dhmd", "gru", "mult"]
    candidates = {name: entry["candidate"] for name, entry in summary["models"].items()}
    assert candidates == {"dhmd": "recipe", "gru": "faster", "mult": "recipe"}
    gru = summary["models"]["gru"]
    difference = gru["test"]["mae"]["mean"] - summary["models"]["dhmd"]["test"]["mae"]["mean"]
    assert gru["test"]["mae"]["difference"] == pytest.approx(difference)
    assert gru["parameters"] > 0
    assert gru["seconds"] > 0
    assert len(gru["valid"]) == 2
    assert {"text", "noise for text", "random 50 %"} <= set(gru["missing"])
    text = page.read_text("utf-8")
    assert "| **DHMD** |" in text
    assert text.endswith("<!-- table:x -->\nb\n<!-- /table -->\n")
    assert main(command) == 0
    again = json.loads((studies / "models-demo.json").read_text("utf-8"))
    assert again == summary
    assert (
        main(["models", "demo", "--models", "gru", "--seeds", "1", "2", "3", "--name", "more"]) == 0
    )
    more = json.loads((studies / "models-demo-more.json").read_text("utf-8"))
    assert more["models"]["gru"]["valid"][:2] == gru["valid"]
    assert all(f"{count} seeds, fold" in page.read_text("utf-8") for count in (2, 3))
    assert json.loads((studies / "models-demo.json").read_text("utf-8")) == summary


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[]", "must map each candidate's name"),
        ("recipe:\n  train: {lr: 1.0}\n", "must not be called"),
        ("wider: 3\n", "candidate 'wider' must map"),
        ("wider:\n  data: {}\n", "candidate 'wider' must map"),
        ("wider:\n  model: {widht: 3}\n", "widht"),
        ("wider:\n  model: {width: many}\n", "candidate wider: model.width"),
    ],
)
def test_invalid_candidates_are_refused(repository: Path, text: str, sentence: str) -> None:
    (repository / "recipes" / "candidates" / "demo.yaml").write_text(text, "utf-8")
    with pytest.raises(DhmdError, match=sentence):
        select(repository, "demo", models=["gru"], seeds=(1,), num_processes=1)


def test_errors_name_the_missing_model_or_file(repository: Path) -> None:
    with pytest.raises(DhmdError, match="--models: 'grue' is not a model; choose from dhmd, "):
        select(repository, "demo", models=["grue"], seeds=(1,), num_processes=1)
    (repository / "data" / "aligned" / "demo.h5").unlink()
    with pytest.raises(DhmdError, match="run `dvc repro align@demo` first"):
        select(repository, "demo", models=["gru"], seeds=(1,), num_processes=1)


def test_the_error_for_a_truncated_score_names_the_file(repository: Path) -> None:
    select(repository, "demo", models=["gru"], seeds=(1,), num_processes=1)
    for stored in (repository / ".dhmd" / "studies").rglob("*.json"):
        stored.write_text('{"valid": [', "utf-8")
    with pytest.raises(DhmdError, match=r"recipe-\w+\.json cannot be read: delete it"):
        select(repository, "demo", models=["gru"], seeds=(1,), num_processes=1)
