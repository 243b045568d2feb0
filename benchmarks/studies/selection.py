"""Which settings of a dataset are best on validation, and on validation alone?

Candidates are written down in recipes/candidates/<dataset>.yaml before they are trained. The
cache is read without the test split's labels, so that no choice can lean on them. The GRU baseline
is given the same candidates, so that it has the same tuning budget.
"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.studies.kept import code_key, read_kept, run_missing
from dhmd.ablation.variants import configure
from dhmd.base.errors import DhmdError
from dhmd.base.files import file_sha256, json_sha256, write_text
from dhmd.config.yaml12 import load_yaml
from dhmd.evaluation.statistics import summary
from dhmd.settings import load_params
from dhmd.training.configuration import Configuration
from dhmd.training.history import HISTORY
from dhmd.training.jobs import ablate_job, pretrain_job
from dhmd.training.observer import SilentObserver
from dhmd.training.store import environment

RECIPE = "recipe"
MODELS = ("dhmd", "gru")
_SECTIONS = ("model", "decouple", "kd", "pretrain", "train")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One setting to train: its name, configuration, and where it works and leaves its scores."""

    name: str
    configuration: Configuration
    cache: Path
    fold: str | None
    folder: Path

    @property
    def result(self) -> Path:
        """Its validation scores, kept: an interrupted selection goes on with the next."""
        return self.folder / f"{self.name}.json"


def select(root: Path, dataset: str, *, seeds: tuple[int, ...], processes: int) -> dict[str, Any]:
    """Train every candidate that is not there yet.

    Returns:
        `{model: {"chosen": name, "candidates": {name: {mean, std}}}}`: over seeds, the validation
        score that training itself selects epochs by (lower is better; MAE for regression).

    Raises:
        DhmdError: no candidates file, a bad candidate, or no aligned cache.
    """
    candidates = _candidates(root, dataset, seeds)
    run_missing(candidates, run_candidate, "candidates", processes=processes)
    return ranked({c.name: read_kept(c.result) for c in candidates})


def ranked(scores: Mapping[str, Mapping[str, list[float]]]) -> dict[str, Any]:
    """The lowest mean validation error of each model, and everyone's: ties go to the first."""
    found: dict[str, Any] = {}
    for model in next(iter(scores.values())):
        entries = {name: summary(np.array(values[model])) for name, values in scores.items()}
        best = min(entries, key=lambda name: entries[name]["mean"])
        found[model] = {"chosen": best, "candidates": entries}
    return found


def run_candidate(candidate: Candidate) -> None:
    """Pretrain and train both models under one candidate, and keep their validation scores."""
    full, work = candidate.configuration, candidate.folder / f"work-{candidate.name}"
    quiet, store = SilentObserver(), work / "trainings"
    pretrained, models = work / "pretrained", work / "models"
    if not pretrained.is_dir():
        pretrain_job(
            full, candidate.cache, pretrained, fold=candidate.fold, observer=quiet, store=store
        )
    if not models.is_dir():
        variants = {"dhmd": full, "gru": configure("gru", full)}
        ablate_job(
            variants,
            candidate.cache,
            pretrained,
            models,
            fold=candidate.fold,
            observer=quiet,
            store=store,
        )
    scores = {model: selected_scores(models / model / HISTORY) for model in MODELS}
    write_text(candidate.result, json.dumps(scores, indent=1) + "\n")
    shutil.rmtree(work)


def selected_scores(history: Path) -> list[float]:
    """The validation score of each seed at the epoch that its training selected.

    Raises:
        DhmdError: a seed diverged.
    """
    with open(history, newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    # A trainer writes the score that it selects by before the others.
    name = next(row["name"] for row in rows if row["name"].startswith("valid/"))
    values = {(row["seed"], row["epoch"]): row["value"] for row in rows if row["name"] == name}
    found = []
    for row in rows:
        if row["name"] == "diverged":
            raise DhmdError(
                f"seed {row['seed']} diverged in epoch {row['epoch']} ({history}): leave this "
                "candidate out"
            )
        if row["name"] == "selected":
            found.append(float(values[row["seed"], row["epoch"]]))
    return found


def _candidates(root: Path, dataset: str, seeds: tuple[int, ...]) -> list[Candidate]:
    settings = load_params(root).for_dataset(dataset)
    cache = root / "data" / "aligned" / f"{dataset}.h5"
    if not cache.is_file():
        raise DhmdError(f"{cache} is not there: run `dvc repro align@{dataset}` first")
    base = settings.configuration
    base = replace(base, train=replace(base.train, seeds=seeds, threads=1, workers=1, device="cpu"))
    source = root / "recipes" / "candidates" / f"{dataset}.yaml"
    configurations = {RECIPE: base}
    for name, changes in _written(source).items():
        changed = _merged(base.as_json(), changes)
        configurations[name] = Configuration.from_json(changed, f"{source}, candidate {name}")
    key = {
        "cache": file_sha256(cache),
        "fold": settings.data.fold,
        "code": code_key("benchmarks/studies/selection.py"),
        "environment": environment(torch.device("cpu")),
    }
    made = []
    for name, configuration in configurations.items():
        own = json_sha256({**key, "configuration": configuration.as_json()})[:12]
        folder = root / ".dhmd" / "studies" / f"selection-{dataset}-{own}"
        made.append(
            Candidate(
                name=name,
                configuration=configuration,
                cache=cache,
                fold=settings.data.fold,
                folder=folder,
            )
        )
    return made


def _merged(value: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings, the changes' values where both have some."""
    merged = dict(value)
    for key, change in changes.items():
        nested = isinstance(change, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = _merged(merged[key], change) if nested else change
    return merged


def _written(path: Path) -> Mapping[str, Mapping[str, Any]]:
    """The candidates file: names to changes of the recipe, keys as in params.yaml."""
    if not path.is_file():
        raise DhmdError(f"{path} is not there: write down the candidates first, a name each")
    value = load_yaml(path)
    if not isinstance(value, dict) or not value:
        raise DhmdError(f"{path} must map each candidate's name to its changes of the recipe")
    for name, changes in value.items():
        if not isinstance(changes, dict) or not set(changes) <= set(_SECTIONS) or name == RECIPE:
            raise DhmdError(
                f"{path}: candidate {name!r} must map some of {', '.join(_SECTIONS)} to changes, "
                f"and may not be called {RECIPE!r}"
            )
    return value


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The validation scores as Markdown, the chosen candidate of each model in bold."""
    models = list(found)
    rows = [f"| candidate | {' | '.join(models)} |", "|---" * (len(models) + 1) + "|"]
    for name in found[models[0]]["candidates"]:
        cells = []
        for model in models:
            entry = found[model]["candidates"][name]
            spread = f" ± {entry['std']:.3f}" if "std" in entry else ""
            mark = "**" if found[model]["chosen"] == name else ""
            cells.append(f"{mark}{entry['mean']:.3f}{spread}{mark}")
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(rows)
