"""Follow each walk-through of docs/extend.md in a copy of the project, and train one epoch."""

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

from dhmd.training.observer import TrainingInfo
from tests.pipeline.scratch import ROOT, RUN_STAGES, STAGES, copy_code
from tests.pipeline.smoke import VALUES

PAGE = ROOT / "docs" / "extend.md"
WIDTHS = {"text": 6, "audio": 4, "vision": 3, "physio": 2}
UTTERANCES = {"train": 24, "valid": 8, "test": 8}
SMALL: dict[str, dict[str, Any]] = {
    **VALUES,
    "model": {"width": 4, "heads": 2, "layers": 1},
    "train": {"seeds": [1, 2], "epochs": 1},
    "compute": {"workers": 1, "device": "cpu", "threads": 1},
}
GENERATOR = {"seed": 3, "n_train": 40, "n_valid": 14, "n_test": 14}
# The command `dhmd` of the copy.
DHMD = "import sys; from dhmd.cli import main; sys.exit(main(sys.argv[1:]))"


class ProjectCopy:
    """A copy of the project in which a test follows sections of docs/extend.md."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        copy_code(folder)
        self.params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
        for key, values in SMALL.items():
            self.params[key].update(values)

    def make_edits(self, title: str) -> set[str]:
        """Follow a section and return the files that it edits.

        Each Python block becomes a file, and each diff is applied to the file named before it.
        """
        page = PAGE.read_text(encoding="utf-8")
        section = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        assert section, title
        self.text, edited, file = section[1], set(), None
        matches = re.finditer(
            r"`((?:dhmd|recipes|stages)/[\w/]+\.(?:py|yaml))`|^```(\w+)\n(.*?)^```",
            self.text,
            re.MULTILINE | re.DOTALL,
        )
        for match in matches:
            name, kind, block = match.groups()
            if name:
                file = self.folder / name
            elif kind in ("python", "diff"):
                assert file is not None
                edited.add(str(file.relative_to(self.folder)))
                if kind == "python":
                    file.write_text(block, encoding="utf-8")
                else:
                    apply(file, block)
        self.set_values()
        return edited

    def set_values(self) -> None:
        """Set the values of the section's `dvc exp run`; variants are added to those set before."""
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
            loaded = yaml.safe_load(value)
            section[key] = section[key] + loaded if key == "variants" else loaded

    def run(self, *command: str) -> None:
        done = subprocess.run(
            command,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:]

    def train(self) -> None:
        """Run the section's commands and every stage."""
        dataset = str(self.params["datasets"][0])
        (self.folder / "params.yaml").write_text(yaml.safe_dump(self.params), encoding="utf-8")
        if dataset == "demo":
            recipe = self.folder / "recipes" / "demo.yaml"
            changed = yaml.safe_load(recipe.read_text(encoding="utf-8"))
            changed["generator"] = GENERATOR
            recipe.write_text(yaml.safe_dump(changed), encoding="utf-8")
        for command in re.findall(r"^dhmd (.*)", self.text, re.MULTILINE):
            self.run(sys.executable, "-c", DHMD, *shlex.split(command))
        self.run(sys.executable, "-c", RUN_STAGES, dataset, *STAGES)


def apply(file: Path, diff: str) -> None:
    """Apply a diff: replace its old lines in the file by its new lines."""
    lines = diff.splitlines(keepends=True)
    old = "".join(line[1:] for line in lines if line[0] in " -")
    new = "".join(line[1:] for line in lines if line[0] in " +")
    text = file.read_text(encoding="utf-8")
    if new in text:  # the user has already followed the page in this repository
        return
    assert text.count(old) == 1, (file, old)
    file.write_text(text.replace(old, new), encoding="utf-8")


def utterances(split: str) -> dict[str, Any]:
    """Return random utterances: ids, labels, lengths, and rows by modality."""
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
def project(tmp_path: Path) -> ProjectCopy:
    return ProjectCopy(tmp_path)


# Replaces Weights & Biases; writes what is logged to a file.
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


def test_the_demo_trains_with_a_new_loss_baseline_fusion_and_observer(project: ProjectCopy) -> None:
    """One run has all four changes; the edited files show that no other file is needed."""
    loss = project.make_edits("A loss")
    assert loss == {f"dhmd/{f}.py" for f in ("models/config", "models/dhmd", "ablation/variants")}
    assert project.make_edits("A baseline") == {"dhmd/models/baselines/mean_model.py"}
    assert project.make_edits("A fusion") == {"dhmd/models/config.py", "dhmd/models/dhmd.py"}
    project.make_edits("An observer")
    (project.folder / "wandb.py").write_text(WANDB, encoding="utf-8")
    project.train()
    ablations = json.loads((project.folder / "metrics/demo/details/ablations.json").read_text())
    assert set(ablations) == {"no_agreement", "mean_model"}
    text = (project.folder / "models" / "demo" / "history.csv").read_text(encoding="utf-8")
    rows = [row for row in csv.DictReader(text.splitlines()) if row["name"] != "selected"]
    agreement = [float(row["value"]) for row in rows if row["name"] == "train/agreement"]
    assert len(agreement) == 2  # one per seed
    assert min(agreement) > 0
    logged = [json.loads(line) for line in (project.folder / "logged.jsonl").open(encoding="utf-8")]
    [values] = [values for run, values in logged if run == ["dhmd", "train", [1, 2]]]
    assert len(rows) == len(values) - 1  # and the epoch
    for row in rows:
        value = float(row["value"])  # with six digits
        assert values[f"seed-{row['seed']}/{row['name']}"] == pytest.approx(value, rel=1e-5)


def test_a_modality_is_a_line_of_the_dataset_config(project: ProjectCopy) -> None:
    recipe = project.folder / "recipes" / "my_corpus.yaml"
    shutil.copy(project.folder / "recipes" / "my_arrays.yaml", recipe)
    placed = project.folder / "data" / "placed" / "my_corpus"
    placed.mkdir(parents=True)
    for split in UTTERANCES:
        table = utterances(split)
        offsets = np.cumsum([0, *table["lengths"]])
        arrays = {m: np.concatenate(table[m]) for m in WIDTHS}
        arrays |= {f"{m}_offsets": offsets for m in WIDTHS}
        ids = np.array(table["ids"])
        np.savez(placed / f"{split}.npz", ids=ids, labels=table["labels"], **arrays)
    assert project.make_edits("A modality") == {"recipes/my_corpus.yaml"}
    project.train()
    ablations = json.loads(
        (project.folder / "metrics/my_corpus/details/ablations.json").read_text()
    )
    assert list(ablations) == ["only_physio"]


def test_a_corpus_format_needs_a_reader_and_its_name(project: ProjectCopy) -> None:
    text = (project.folder / "recipes" / "my_arrays.yaml").read_text(encoding="utf-8")
    text = text.replace("format: arrays", "format: jsonl").replace(".npz", ".jsonl")
    (project.folder / "recipes" / "my_corpus.yaml").write_text(text, encoding="utf-8")
    placed = project.folder / "data" / "placed" / "my_corpus"
    placed.mkdir(parents=True)
    for split, count in UTTERANCES.items():
        table = utterances(split)
        rows = [
            {"id": table["ids"][n], "label": table["labels"][n]}
            | {m: table[m][n].tolist() for m in ("text", "audio", "vision")}
            for n in range(count)
        ]
        (placed / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    edited = project.make_edits("A corpus format")
    assert edited == {"dhmd/data/formats/jsonl.py", "dhmd/recipes.py"}
    project.train()
    assert (project.folder / "metrics" / "my_corpus" / "metrics.json").is_file()


def test_tensorboard_receives_the_curves(
    project: ProjectCopy, monkeypatch: pytest.MonkeyPatch
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    project.make_edits("An observer")
    monkeypatch.chdir(project.folder)
    code = (project.folder / "stages" / "_tensorboard.py").read_text(encoding="utf-8")
    found: dict[str, Any] = {}
    exec(code, found)
    observer = found["TensorBoardObserver"]()
    observer.on_start(TrainingInfo("train", ["seed-1"]))
    observer.on_epoch(3, {"seed-1": {"valid/mae": 1.25}})
    events = accumulator.EventAccumulator(".dhmd/tensorboard/train")
    events.Reload()
    [scalar] = events.Scalars("seed-1/valid/mae")
    assert (scalar.step, scalar.value) == (3, 1.25)
