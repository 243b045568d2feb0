"""Which settings of a dataset are best on validation, for each model?

The candidates are declared in recipes/candidates/<dataset>.yaml, or in default.yaml, before they
are trained. Every model has the same candidates, and so the same tuning budget. The aligned
features file is read without the labels of the test split.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from benchmarks.studies.kept import code_key, read_kept, run_missing, selected_scores
from dhmd.ablation.variants import configure
from dhmd.base.errors import DhmdError
from dhmd.base.files import file_sha256, json_sha256, whole_file, write_text
from dhmd.config.yaml12 import load_yaml
from dhmd.evaluation.statistics import mean_and_std
from dhmd.models.cards import DHMD, baseline_names, refusal
from dhmd.settings import load_params
from dhmd.training.configuration import Configuration, overlay
from dhmd.training.history import HISTORY
from dhmd.training.jobs import ablate_job, pretrain_job
from dhmd.training.store import environment

RECIPE = "recipe"
_SECTIONS = ("model", "decouple", "kd", "pretrain", "train")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One model with one candidate's settings.

    Attributes:
        work: where it trains; finished trainings are stored in its parent.
        result: the file of its validation scores by seed.
    """

    model: str
    name: str
    configuration: Configuration
    aligned: Path
    fold: str | None
    work: Path

    @property
    def result(self) -> Path:
        return self.work.with_suffix(".json")


def select(
    root: Path,
    dataset: str,
    *,
    seeds: tuple[int, ...],
    processes: int,
    models: Sequence[str] = (),
    names: Sequence[str] = (),
    shuffled: bool = False,
) -> dict[str, Any]:
    """Train every candidate of every model that is not stored yet.

    Args:
        models: all that the modalities allow by default.
        names: of candidates; all by default.
        shuffled: whether the words of every utterance are put in random order.

    Returns:
        `{model: {"chosen": name, "candidates": {name: {mean, std}}}}`: over seeds, the validation
        score by which training selects epochs (lower is better; MAE for regression).

    Raises:
        DhmdError: a bad candidate, an unknown model, or no aligned features file.
    """
    tasks = list(_candidates(root, dataset, seeds, models, names, shuffled))
    run_missing(tasks, run_candidate, "candidates", processes=processes)
    scores: dict[str, dict[str, list[float]]] = {}
    for task in tasks:
        scores.setdefault(task.model, {})[task.name] = read_kept(task.result)["valid"]
    return {model: ranked(found) for model, found in scores.items()}


def ranked(scores: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Choose the candidate with the lowest mean validation error, the first among equals."""
    entries = {name: mean_and_std(np.array(values)) for name, values in scores.items()}
    best = min(entries, key=lambda name: entries[name]["mean"])
    return {"chosen": best, "candidates": entries}


def run_candidate(candidate: Candidate) -> None:
    """Train one model with one candidate's settings and store its validation scores."""
    folder = train(candidate)
    write_text(candidate.result, json.dumps({"valid": selected_scores(folder / HISTORY)}) + "\n")
    shutil.rmtree(candidate.work)


def train(candidate: Candidate) -> Path:
    """Pretrain and train a candidate's model, and return the model folder."""
    work, full = candidate.work, candidate.configuration
    more: Any = {"fold": candidate.fold, "store": work.parent / "trainings"}
    pretrained, models = work / "pretrained", work / "models"
    if not pretrained.is_dir():
        pretrain_job(full, candidate.aligned, pretrained, **more)
    if not models.is_dir():
        own = full if candidate.model == DHMD else configure(candidate.model, full)
        ablate_job({candidate.model: own}, candidate.aligned, pretrained, models, **more)
    return models / candidate.model


def _candidates(
    root: Path,
    dataset: str,
    seeds: tuple[int, ...],
    models: Sequence[str],
    names: Sequence[str],
    shuffled: bool,
) -> Iterator[Candidate]:
    base, aligned, fold = configuration(root, dataset, seeds)
    settings = {RECIPE: base} | {
        name: overlay(base, changes, f"{path}, candidate {name}")
        for path, found in [written(root, dataset)]
        for name, changes in found.items()
    }
    if unknown := [name for name in names if name not in settings]:
        known = ", ".join(settings)
        raise DhmdError(f"--candidates names {unknown[0]!r}, but must name some of {known}")
    folder = root / ".dhmd" / "studies" / f"selection-{dataset}"
    if shuffled:
        aligned = _shuffled(aligned, folder / "shuffled.h5")
    key = {"aligned": file_sha256(aligned), "fold": fold}
    for model in chosen_models(models, base):
        same = {
            **key,
            "code": code_key("benchmarks/studies/selection.py"),
            "environment": environment(torch.device("cpu"), model),
        }
        for name in names or settings:
            own = settings[name]
            digest = json_sha256({**same, "configuration": own.as_json()})[:12]
            work = folder / f"{model}-{name}-{digest}"
            yield Candidate(
                model=model, name=name, configuration=own, aligned=aligned, fold=fold, work=work
            )


def _shuffled(aligned: Path, copy: Path) -> Path:
    """Write a copy in which the words of every utterance are in random order, and return it."""
    random = np.random.default_rng(0)
    with whole_file(copy) as partial:
        shutil.copyfile(aligned, partial)
        with h5py.File(partial, "r+") as file:
            values, offsets = file["features/text/values"], file["features/text/offsets"][()]
            rows = [start + random.permutation(end - start) for start, end in pairwise(offsets)]
            values[...] = values[()][np.concatenate(rows)]
    return copy


def configuration(
    root: Path, dataset: str, seeds: tuple[int, ...]
) -> tuple[Configuration, Path, str | None]:
    """Return the dataset's configuration for one CPU thread, its aligned features and its fold."""
    settings = load_params(root).for_dataset(dataset)
    aligned = root / "data" / "aligned" / f"{dataset}.h5"
    if not aligned.is_file():
        raise DhmdError(f"{aligned} does not exist: run `dvc repro align@{dataset}` first")
    base = settings.configuration
    compute = replace(base.compute, threads=1, workers=1, device="cpu")
    base = replace(base, train=replace(base.train, seeds=seeds), compute=compute)
    return base, aligned, settings.data.fold


def chosen_models(models: Sequence[str], base: Configuration) -> list[str]:
    """Return the models, DHMD first; by default all that the modalities allow.

    Raises:
        DhmdError: an unknown model, or one that cannot run with these modalities.
    """
    known = (DHMD, *baseline_names())
    if not models:
        return [name for name in known if refusal(name, base.modalities) is None]
    for name in models:
        if name not in known:
            raise DhmdError(f"--models names {name!r}, but must name some of {', '.join(known)}")
        if reason := refusal(name, base.modalities):
            raise DhmdError(f"--models: {reason}; leave {name} out")
    return [name for name in known if name in models]


def written(root: Path, dataset: str) -> tuple[Path, Mapping[str, Mapping[str, Any]]]:
    """Read the dataset's candidates file, or else default.yaml: names to changes of the recipe."""
    folder = root / "recipes" / "candidates"
    path = folder / f"{dataset}.yaml"
    if not path.is_file():
        path = folder / "default.yaml"
    value = load_yaml(path)
    if not isinstance(value, dict) or not value:
        raise DhmdError(f"{path} must map each candidate's name to its changes of the recipe")
    for name, changes in value.items():
        if not isinstance(changes, dict) or not set(changes) <= set(_SECTIONS) or name == RECIPE:
            raise DhmdError(
                f"{path}: candidate {name!r} must map some of {', '.join(_SECTIONS)} to changes, "
                f"and may not be called {RECIPE!r}"
            )
    return path, value


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Format the validation scores as Markdown, the chosen candidate of each model in bold."""
    names = list(next(iter(found.values()))["candidates"])
    rows = [f"| model | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for model, entries in found.items():
        cells = []
        for name in names:
            entry = entries["candidates"][name]
            spread = f" ± {entry['std']:.3f}" if "std" in entry else ""
            mark = "**" if entries["chosen"] == name else ""
            cells.append(f"{mark}{entry['mean']:.3f}{spread}{mark}")
        rows.append(f"| {model} | {' | '.join(cells)} |")
    return "\n".join(rows)
