"""Selection of each model's settings by validation score.

The candidates are in recipes/candidates/<dataset>.yaml, or in default.yaml. All models have the
same candidates, and so the same tuning budget. The aligned features file is read without the labels
of the test split.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from benchmarks.studies.generated import one_thread
from benchmarks.studies.tasks import code_key, read_result, run_missing, selected_scores
from dhmd.ablation.variants import configure
from dhmd.base.errors import DhmdError
from dhmd.base.files import atomic_file, file_sha256, json_sha256, write_text
from dhmd.config.yaml12 import load_yaml
from dhmd.evaluation.statistics import mean_and_std
from dhmd.models.catalogue import DHMD, baseline_names, incompatibility
from dhmd.settings import load_params
from dhmd.training.configuration import Configuration, overlay
from dhmd.training.history import HISTORY
from dhmd.training.jobs import ablate_job, pretrain_job
from dhmd.training.store import environment

RECIPE = "recipe"
_SECTIONS = ("model", "decouple", "kd", "pretrain", "train")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A task that trains one model with the settings of one candidate.

    Attributes:
        name: name of the candidate.
        work: folder for the training; finished trainings are stored in its parent.
        result: file of the validation scores by seed.
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
    num_processes: int,
    models: Sequence[str] = (),
    names: Sequence[str] = (),
    shuffled: bool = False,
) -> dict[str, Any]:
    """Train all candidates of all models that are not stored yet, and choose the best ones.

    Args:
        models: names of models; by default all that can run on the modalities.
        names: names of candidates; all by default.
        shuffled: whether the words of every utterance are put in random order.

    Returns:
        `{model: {"chosen": name, "candidates": {name: {mean, std}}}}`, where mean and standard
        deviation over seeds are of the score by which training selects epochs (lower is better; the
        MAE for regression).

    Raises:
        DhmdError: a bad candidate, an unknown model, or no aligned features file.
    """
    tasks = list(_candidates(root, dataset, seeds, models, names, shuffled))
    run_missing(tasks, run_candidate, "candidates", num_processes=num_processes)
    scores: dict[str, dict[str, list[float]]] = {}
    for task in tasks:
        scores.setdefault(task.model, {})[task.name] = read_result(task.result)["valid"]
    return {model: ranked(by_candidate) for model, by_candidate in scores.items()}


def ranked(scores: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Choose the candidate with the lowest mean validation error; ties go to the first one."""
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
    options: Any = {"fold": candidate.fold, "store": work.parent / "trainings"}
    pretrained, models = work / "pretrained", work / "models"
    if not pretrained.is_dir():
        pretrain_job(full, candidate.aligned, pretrained, **options)
    if not models.is_dir():
        variant = full if candidate.model == DHMD else configure(candidate.model, full)
        ablate_job({candidate.model: variant}, candidate.aligned, pretrained, models, **options)
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
    path, candidates = read_candidates(root, dataset)
    settings = {RECIPE: base} | {
        name: overlay(base, changes, f"{path}, candidate {name}")
        for name, changes in candidates.items()
    }
    if unknown := [name for name in names if name not in settings]:
        raise DhmdError(
            f"--candidates: {unknown[0]!r} is not a candidate; choose from {', '.join(settings)}"
        )
    folder = root / ".dhmd" / "studies" / f"selection-{dataset}"
    if shuffled:
        aligned = _shuffle_words(aligned, folder / "shuffled.h5")
    key = {"aligned": file_sha256(aligned), "fold": fold}
    for model in chosen_models(models, base):
        model_key = {
            **key,
            "code": code_key("benchmarks/studies/selection.py"),
            "environment": environment(torch.device("cpu"), model),
        }
        for name in names or settings:
            config = settings[name]
            digest = json_sha256({**model_key, "configuration": config.as_json()})[:12]
            work = folder / f"{model}-{name}-{digest}"
            yield Candidate(
                model=model, name=name, configuration=config, aligned=aligned, fold=fold, work=work
            )


def _shuffle_words(aligned: Path, copy: Path) -> Path:
    """Write a copy with the words of every utterance in random order, and return it."""
    random = np.random.default_rng(0)
    with atomic_file(copy) as partial:
        shutil.copyfile(aligned, partial)
        with h5py.File(partial, "r+") as file:
            values, offsets = file["features/text/values"], file["features/text/offsets"][()]
            rows = [start + random.permutation(end - start) for start, end in pairwise(offsets)]
            values[...] = values[()][np.concatenate(rows)]
    return copy


def configuration(
    root: Path, dataset: str, seeds: tuple[int, ...]
) -> tuple[Configuration, Path, str | None]:
    """Return the configuration of a dataset for one CPU thread, its aligned file and its fold."""
    settings = load_params(root).for_dataset(dataset)
    aligned = root / "data" / "aligned" / f"{dataset}.h5"
    if not aligned.is_file():
        raise DhmdError(f"{aligned} does not exist: run `dvc repro align@{dataset}` first")
    return one_thread(settings, seeds), aligned, settings.data.fold


def chosen_models(models: Sequence[str], base: Configuration) -> list[str]:
    """Return the models, DHMD first; by default all that can run on the modalities.

    Raises:
        DhmdError: an unknown model, or one that cannot run with these modalities.
    """
    names = (DHMD, *baseline_names())
    if not models:
        return [name for name in names if incompatibility(name, base.modalities) is None]
    for name in models:
        if name not in names:
            raise DhmdError(f"--models: {name!r} is not a model; choose from {', '.join(names)}")
        if reason := incompatibility(name, base.modalities):
            raise DhmdError(f"--models: {reason}; remove {name} from --models")
    return [name for name in names if name in models]


def read_candidates(root: Path, dataset: str) -> tuple[Path, Mapping[str, Mapping[str, Any]]]:
    """Return the candidates file of a dataset, or default.yaml, and the changes by candidate."""
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
                f"and must not be called {RECIPE!r}"
            )
    return path, value


def table(selection: Mapping[str, Mapping[str, Any]]) -> str:
    """Format the validation scores as Markdown, with the chosen candidate in bold."""
    names = list(next(iter(selection.values()))["candidates"])
    rows = [f"| model | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for model, entries in selection.items():
        cells = []
        for name in names:
            entry = entries["candidates"][name]
            spread = f" ± {entry['std']:.3f}" if "std" in entry else ""
            mark = "**" if entries["chosen"] == name else ""
            cells.append(f"{mark}{entry['mean']:.3f}{spread}{mark}")
        rows.append(f"| {model} | {' | '.join(cells)} |")
    return "\n".join(rows)
