"""docs/extend.md works as written: each walk-through in a copy of the project, one epoch each."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "extend.md"
WIDTHS = {"text": 6, "audio": 4, "vision": 3, "physio": 2}
UTTERANCES = {"train": 24, "valid": 8, "test": 8}
SMALL: dict[str, dict[str, Any]] = {
    "model": {"width": 4, "heads": 2, "layers": 1},
    "train": {"seeds": [1, 2], "epochs": 1},
    "compute": {"workers": 1, "device": "cpu", "threads": 1},
    "pretrain": {"epochs": 1, "folds": 2},
    "ablate": {"variants": []},
    "evaluate": {"resamples": 100},
    "tracking": {"enabled": False},
}
GENERATOR = {"seed": 3, "n_train": 40, "n_valid": 14, "n_test": 14}
# The stages in one process, so that torch is imported once.
RUN = """
import importlib, sys
from stages._entry import run_stage

for name in ("download", "align", "pretrain", "train", "ablate", "evaluate", "report"):
    if status := run_stage(name, importlib.import_module(f"stages.{name}").work, sys.argv[1:]):
        sys.exit(status)
"""
# The command `dhmd` of the copy.
DHMD = "import sys; from dhmd.cli import main; sys.exit(main(sys.argv[1:]))"


class Walk:
    """One section of the page, and a copy of the project in which its steps are made."""

    def __init__(self, title: str, folder: Path) -> None:
        self.folder = folder
        self.edited: set[str] = set()
        page = PAGE.read_text(encoding="utf-8")
        section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        assert section, title
        self.text = section[1]
        for name in ("dhmd", "stages", "recipes"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        self.params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        for key, values in SMALL.items():
            self.params[key].update(values)

    def make_edits(self) -> None:
        """Write each Python block as a file and make each diff, in the file named before it."""
        file = None
        lines = re.finditer(
            r"`((?:dhmd|recipes|stages)/[\w/]+\.(?:py|yaml))`|^```(\w+)\n(.*?)^```",
            self.text,
            re.MULTILINE | re.DOTALL,
        )
        for found in lines:
            name, kind, block = found.groups()
            if name:
                file = self.folder / name
            elif kind in ("python", "diff"):
                assert file is not None
                self.edited.add(str(file.relative_to(self.folder)))
                if kind == "python":
                    file.write_text(block, encoding="utf-8")
                else:
                    apply(file, block)

    def set_values(self) -> str:
        """Set what the page's `dvc exp run` sets; the dataset that it runs."""
        [command] = re.findall(r"^dvc exp run .*", self.text, re.MULTILINE) or ["dvc exp run"]
        words = shlex.split(command)
        for option, assignment in zip(words[3::2], words[4::2], strict=True):
            assert option == "-S"
            dotted, value = assignment.split("=", 1)
            *path, key = dotted.removeprefix("+").split(".")
            section = self.params
            for part in path:
                section = section[part]
            assert (key in section) != dotted.startswith("+"), assignment
            section[key] = yaml.safe_load(value)
        return str(self.params["datasets"][0])

    def run(self, *command: str) -> None:
        done = subprocess.run(
            command,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=200,
        )
        assert done.returncode == 0, done.stdout[-3000:]

    def train(self) -> None:
        """Make the edits and run every stage."""
        dataset = self.set_values()
        (self.folder / "params.yaml").write_text(yaml.safe_dump(self.params), encoding="utf-8")
        if dataset == "demo":
            recipe = self.folder / "recipes" / "demo.yaml"
            changed = yaml.safe_load(recipe.read_text(encoding="utf-8"))
            changed["generator"] = GENERATOR
            recipe.write_text(yaml.safe_dump(changed), encoding="utf-8")
        for command in re.findall(r"^dhmd (.*)", self.text, re.MULTILINE):
            self.run(sys.executable, "-c", DHMD, *shlex.split(command))
        self.run(sys.executable, "-c", RUN, dataset)

    def ablations(self, dataset: str) -> dict[str, Any]:
        path = self.folder / "metrics" / dataset / "details" / "ablations.json"
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found


def apply(file: Path, diff: str) -> None:
    """Replace the lines of a diff that are not new by those that do not go."""
    lines = diff.splitlines(keepends=True)
    old = "".join(line[1:] for line in lines if line[0] in " -")
    new = "".join(line[1:] for line in lines if line[0] in " +")
    text = file.read_text(encoding="utf-8")
    if new in text:  # a user has followed the page in this tree
        return
    assert text.count(old) == 1, (file, old)
    file.write_text(text.replace(old, new), encoding="utf-8")


def utterances(split: str) -> dict[str, Any]:
    """Random utterances: ids, labels, and rows by modality."""
    rng = np.random.default_rng(len(split))
    count = UTTERANCES[split]
    lengths = rng.integers(2, 6, count)
    return {
        "ids": [f"{split}{n // 2}[{n % 2}]" for n in range(count)],
        "labels": rng.uniform(-3, 3, count).round(1),
        "lengths": lengths,
        **{m: [rng.normal(size=(t, width)) for t in lengths] for m, width in WIDTHS.items()},
    }


@pytest.fixture
def walk(request: pytest.FixtureRequest, tmp_path: Path) -> Walk:
    """The walk-through that the test's parameter names."""
    return Walk(request.param, tmp_path)


@pytest.mark.parametrize("walk", ["A loss"], indirect=True)
def test_a_loss_is_trained_and_ablated(walk: Walk) -> None:
    walk.make_edits()
    walk.train()
    assert len(walk.edited) == 3
    text = (walk.folder / "models" / "demo" / "history.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    values = [float(row["value"]) for row in rows if row["name"] == "train/agreement"]
    assert len(values) == 2  # one per seed
    assert min(values) > 0
    assert list(walk.ablations("demo")) == ["no_agreement"]


@pytest.mark.parametrize("walk", ["A baseline"], indirect=True)
def test_a_baseline_is_one_file(walk: Walk) -> None:
    walk.make_edits()
    walk.train()
    assert walk.edited == {"dhmd/models/baselines/mean_model.py"}
    assert list(walk.ablations("demo")) == ["mean_model"]


@pytest.mark.parametrize("walk", ["A modality"], indirect=True)
def test_a_modality_is_a_line_of_the_dataset_config(walk: Walk) -> None:
    recipe = walk.folder / "recipes" / "my_corpus.yaml"
    shutil.copy(walk.folder / "recipes" / "my_arrays.yaml", recipe)
    placed = walk.folder / "data" / "placed" / "my_corpus"
    placed.mkdir(parents=True)
    for split in UTTERANCES:
        found = utterances(split)
        offsets = np.cumsum([0, *found["lengths"]])
        arrays = {m: np.concatenate(found[m]) for m in WIDTHS}
        arrays |= {f"{m}_offsets": offsets for m in WIDTHS}
        ids = np.array(found["ids"])
        np.savez(placed / f"{split}.npz", ids=ids, labels=found["labels"], **arrays)
    walk.make_edits()
    walk.train()
    assert walk.edited == {"recipes/my_corpus.yaml"}
    assert list(walk.ablations("my_corpus")) == ["only_physio"]


@pytest.mark.parametrize("walk", ["A corpus format"], indirect=True)
def test_a_format_is_a_reader_and_its_name(walk: Walk) -> None:
    text = (walk.folder / "recipes" / "my_arrays.yaml").read_text(encoding="utf-8")
    text = text.replace("format: arrays", "format: jsonl").replace(".npz", ".jsonl")
    (walk.folder / "recipes" / "my_corpus.yaml").write_text(text, encoding="utf-8")
    placed = walk.folder / "data" / "placed" / "my_corpus"
    placed.mkdir(parents=True)
    for split, count in UTTERANCES.items():
        found = utterances(split)
        rows = [
            {"id": found["ids"][n], "label": found["labels"][n]}
            | {m: found[m][n].tolist() for m in ("text", "audio", "vision")}
            for n in range(count)
        ]
        (placed / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    walk.make_edits()
    walk.train()
    assert walk.edited == {"dhmd/data/formats/jsonl.py", "dhmd/recipes.py"}
    assert (walk.folder / "metrics" / "my_corpus" / "metrics.json").is_file()


@pytest.mark.parametrize("walk", ["A fusion"], indirect=True)
def test_a_fusion_takes_two_files(walk: Walk) -> None:
    walk.make_edits()
    walk.train()
    assert walk.edited == {"dhmd/models/config.py", "dhmd/models/dhmd.py"}
    assert (walk.folder / "metrics" / "demo" / "metrics.json").is_file()


# A stand-in for Weights & Biases, which writes what is logged.
WANDB = """
import json
runs = {}
def init(project, name, config):
    runs["now"] = [project, name, config["train"]["seeds"]]
def log(values):
    with open("logged.jsonl", "a") as stream:
        stream.write(json.dumps([runs["now"], values]) + "\\n")
def finish():
    del runs["now"]
"""


@pytest.mark.parametrize("walk", ["An observer"], indirect=True)
def test_an_observer_receives_the_curves(walk: Walk) -> None:
    walk.make_edits()
    (walk.folder / "wandb.py").write_text(WANDB, encoding="utf-8")
    walk.train()
    logged = [json.loads(line) for line in (walk.folder / "logged.jsonl").open(encoding="utf-8")]
    run, values = logged[-1]
    assert run == ["dhmd", "train", [1, 2]]
    text = (walk.folder / "models" / "demo" / "history.csv").read_text(encoding="utf-8")
    rows = [row for row in csv.DictReader(text.splitlines()) if row["name"] != "selected"]
    assert len(rows) == len(values) - 1  # and the epoch
    for row in rows:
        value = float(row["value"])  # of six digits
        assert values[f"seed-{row['seed']}/{row['name']}"] == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("walk", ["An observer"], indirect=True)
def test_tensorboard_receives_the_curves(walk: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    walk.make_edits()
    monkeypatch.chdir(walk.folder)
    code = (walk.folder / "stages" / "_tensorboard.py").read_text(encoding="utf-8")
    found: dict[str, Any] = {}
    exec(code, found)
    observer = found["TensorBoardObserver"]()
    observer.started("train", ["seed-1"], {}, 0)
    observer.epoch(3, {"seed-1": {"valid/mae": 1.25}})
    events = accumulator.EventAccumulator(".dhmd/tensorboard/train")
    events.Reload()
    [scalar] = events.Scalars("seed-1/valid/mae")
    assert (scalar.step, scalar.value) == (3, 1.25)
