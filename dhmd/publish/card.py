"""Export a model: its folder without the predictions of its corpus, and a model card.

The card is a README.md in Markdown with the Hugging Face hub's metadata at its top.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import torch
import yaml

import dhmd
from dhmd.base.errors import DhmdError
from dhmd.base.files import atomic_folder
from dhmd.evaluation import files
from dhmd.evaluation.metrics import COLUMNS, score
from dhmd.evaluation.model_outputs import OUTPUTS, read_outputs
from dhmd.evaluation.statistics import Bootstrap, utterance_intervals
from dhmd.evaluation.tables import ORACLE, Table, counted, mean, trivial_title
from dhmd.models.cards import DHMD, model_title
from dhmd.publish.hub import CARD, PATTERNS
from dhmd.recipes import Recipe, load_recipe
from dhmd.training.weights import Description, load_model

_RESAMPLES = 1000
# The names of metrics on the hub.
_HUB_METRICS = {"mae": "mae", "corr": "pearsonr", "acc7": "accuracy", "acc2_non0": "accuracy"}
_HUB_METRICS |= {"f1_non0": "f1"}


@dataclass(frozen=True)
class _Results:
    """Scores on the test split.

    Attributes:
        seeds, diverged: the seeds that are scored, and those that have no finite predictions.
        scores: metric → mean and std over seeds.
        intervals: metric → low and high: 95 % over utterances.
        others: title → metric → value, of the trivial baselines and the oracle.
    """

    utterances: int
    seeds: tuple[int, ...]
    diverged: tuple[int, ...]
    scores: Mapping[str, Mapping[str, float]]
    intervals: Mapping[str, Mapping[str, float]]
    others: Mapping[str, Mapping[str, float]]


def export(model: Path, out: Path, *, root: Path | None = None, license_: str = "") -> None:
    """Write a folder with the model and its card; the folder can be used like the original.

    Args:
        model: a model folder, such as `models/demo`.
        out: the folder to write; it does not exist or is empty.
        root: the repository with the dataset's config and results, which the card describes.
        license_: an identifier of the Hugging Face hub; by default `mit` for generated data, else
            `other`, as the terms of the data apply.

    Raises:
        DhmdError: the model is damaged, or `out` has files.
    """
    _, _, description = load_model(model, torch.device("cpu"))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DhmdError(f"{out} exists: choose another --out.")
    if out.resolve().is_relative_to(model.resolve()):
        raise DhmdError(f"{out} is inside {model}: choose another --out.")
    card = _model_card(model, description, root=root, license_=license_)
    with atomic_folder(out) as folder:
        for path in sorted(path for pattern in PATTERNS for path in model.glob(pattern)):
            target = folder / path.relative_to(model)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)
        (folder / CARD).write_text(card, encoding="utf-8")


def _model_card(model: Path, description: Description, *, root: Path | None, license_: str) -> str:
    """Describe a model: task, data and terms, scores, use, limits and citation.

    The card leaves out what the repository `root` does not have. Scores are computed for the
    predictions of this model, on the labels of the evaluation of the same corpus and fold.
    """
    recipe = _recipe(root, description.dataset)
    generated = recipe is not None and recipe.format == "generated"
    task = description.task.kind
    results = _results(model, description, task, root)
    architecture = description.configuration.architecture
    title = f"{model_title(architecture) or architecture} on {description.dataset}"
    metadata: dict[str, Any] = {
        "library_name": "dhmd",
        "license": license_ or ("mit" if generated else "other"),
        "tags": ["multimodal", "sentiment-analysis", "emotion-recognition", task],
    }
    if results is not None:
        metadata["metrics"] = list(dict.fromkeys(map(_hub_metric, results.scores)))
        metadata["model-index"] = [_model_index(title, description, task, recipe, results)]
    environment = jinja2.Environment(  # no autoescape: the card is Markdown
        loader=jinja2.PackageLoader("dhmd.publish", "."),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("card.md").render(
        metadata=yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True),
        title=title,
        task=task,
        description=description,
        recipe=recipe,
        generated=generated,
        architecture=architecture,
        is_dhmd=architecture == DHMD,
        seeds=counted(len(description.seeds), "seed"),
        origin=description.origin,
        results=results,
        table=None if results is None else _table(task, results).to_markdown(),
        version=dhmd.__version__,
    )


def _recipe(root: Path | None, name: str) -> Recipe | None:
    try:
        return None if root is None else load_recipe(name, root)
    except DhmdError:
        return None


def _results(
    model: Path, description: Description, task: str, root: Path | None
) -> _Results | None:
    """Score the model's predictions of the test split; None if they or the labels are absent."""
    folder = None if root is None else root / "metrics" / description.dataset
    if folder is None or not (model / OUTPUTS).is_file() or not folder.is_dir():
        return None
    outputs, identity = read_outputs(model), files.read_identity(folder)
    if (identity.corpus, identity.fold) != (outputs.identity, outputs.fold):
        return None
    labels = files.read_predictions(folder)
    position = {name: row for row, name in enumerate(outputs.ids)}
    p_EN = outputs.prediction_EN[:, [position[name] for name in labels.ids]]
    seeds = dict(zip(outputs.seeds, p_EN, strict=True))
    kept = {seed: p_N for seed, p_N in seeds.items() if np.isfinite(p_N).all()}
    if not kept:
        raise DhmdError(f"every seed of {model} diverged in training: train again")
    scores = {seed: score(task, p_N, labels.labels).values for seed, p_N in kept.items()}
    trivial = files.read_object(folder / files.TRIVIAL_BASELINES)
    others = {trivial_title(task, name, entry): entry["test"] for name, entry in trivial.items()}
    summary = files.read_object(folder / files.SUMMARY)
    return _Results(
        utterances=len(labels.ids),
        seeds=tuple(kept),
        diverged=tuple(seed for seed in seeds if seed not in kept),
        scores=files.over_seeds(scores, tuple(COLUMNS[task])),
        intervals=utterance_intervals(task, kept, Bootstrap(labels.ids, labels.labels, _RESAMPLES)),
        others=others | ({ORACLE: summary["oracle"]} if "oracle" in summary else {}),
    )


def _table(task: str, results: _Results) -> Table:
    """Return the scores beside those of the trivial baselines."""
    rows = [
        [title, *(mean({"mean": values[m]} if m in values else {}) for m in COLUMNS[task])]
        for title, values in results.others.items()
    ]
    model, interval = ["**this model**"], ["95 % over utterances"]
    for metric in COLUMNS[task]:
        ends = results.intervals.get(metric)
        model.append(mean(results.scores.get(metric, {})))
        interval.append(f"{ends['low']:.3f} to {ends['high']:.3f}" if ends else "-")
    seeds = counted(len(results.seeds), "seed")
    title = f"{results.utterances:,} test utterances, {seeds} (mean ± std)"
    return Table(title, ["", *COLUMNS[task].values()], [*rows, model, interval])


def _model_index(
    title: str, description: Description, task: str, recipe: Recipe | None, results: _Results
) -> dict[str, Any]:
    """Return the scores in the hub's form."""
    name = description.dataset if recipe is None else recipe.title
    metrics = [
        {"type": _hub_metric(metric), "name": COLUMNS[task][metric], "value": value["mean"]}
        for metric, value in results.scores.items()
    ]
    dataset = {"type": description.dataset, "name": name, "split": "test"}
    result = {"task": {"type": f"multimodal-{task}"}, "dataset": dataset, "metrics": metrics}
    return {"name": title, "results": [result]}


def _hub_metric(metric: str) -> str:
    return _HUB_METRICS.get(metric, metric)
