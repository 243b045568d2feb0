"""Export a model: copy its directory without the predictions, and write a model card.

The card is a README.md that starts with the metadata of the Hugging Face hub.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
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
from dhmd.evaluation.metrics import METRIC_TITLES, score
from dhmd.evaluation.model_outputs import OUTPUTS, read_outputs
from dhmd.evaluation.statistics import Bootstrap, utterance_intervals
from dhmd.evaluation.tables import ORACLE, Table, format_mean, pluralize, trivial_title
from dhmd.models.catalogue import DHMD, model_title
from dhmd.publish.hub import CARD, PATTERNS
from dhmd.recipes import Recipe, load_recipe
from dhmd.training.weights import Description, load_model

_RESAMPLES = 1000
# The names of metrics on the hub, where they differ from ours.
_HUB_METRICS = {
    "corr": "pearsonr",
    "acc7": "accuracy",
    "acc2_non0": "accuracy",
    "f1_non0": "f1",
}


@dataclass(frozen=True)
class _Results:
    """Scores on the test split.

    Attributes:
        num_utterances: number of test utterances.
        seeds: the seeds with scores.
        diverged: the seeds without finite predictions.
        scores: mean and std over seeds of each metric.
        intervals: low and high of the 95 % interval over utterances of each metric.
        references: scores of the trivial baselines and the oracle, by title and metric.
    """

    num_utterances: int
    seeds: tuple[int, ...]
    diverged: tuple[int, ...]
    scores: Mapping[str, Mapping[str, float]]
    intervals: Mapping[str, Mapping[str, float]]
    references: Mapping[str, Mapping[str, float]]


def export(model: Path, out: Path, *, root: Path | None = None, license_: str = "") -> None:
    """Write a directory with the model and its card, which can be used like the original.

    Args:
        model: a model directory, such as `models/demo`.
        out: the directory to write: a new or an empty one.
        root: the repository with the dataset config and the metrics that the card describes.
        license_: a licence identifier of the Hugging Face hub; by default `mit` for generated data,
            else `other`, because the terms of the data apply.

    Raises:
        DhmdError: the model is damaged, or `out` has files.
    """
    _, _, description = load_model(model, torch.device("cpu"))
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DhmdError(f"{out} exists and is not an empty directory: choose another --out")
    if out.resolve().is_relative_to(model.resolve()):
        raise DhmdError(f"{out} is inside {model}: choose another --out")
    card = _model_card(model, description, root=root, license_=license_)
    with atomic_folder(out) as folder:
        for path in sorted(path for pattern in PATTERNS for path in model.glob(pattern)):
            target = folder / path.relative_to(model)
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)
        (folder / CARD).write_text(card, encoding="utf-8")


def _model_card(model: Path, description: Description, *, root: Path | None, license_: str) -> str:
    """Return the card: task, data and its terms, scores, use, limits and citation.

    Sections about files that `root` does not have are left out. The scores are those of the
    predictions in the model directory, with the test labels in `metrics/` of the same corpus.
    """
    recipe = None
    if root is not None:
        with suppress(DhmdError):
            recipe = load_recipe(description.dataset, root)
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
        names = (_HUB_METRICS.get(metric, metric) for metric in results.scores)
        metadata["metrics"] = list(dict.fromkeys(names))
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
        seeds=pluralize(len(description.seeds), "seed"),
        origin=description.origin,
        results=results,
        table=None if results is None else _table(task, results).to_markdown(),
        version=dhmd.__version__,
    )


def _results(
    model: Path, description: Description, task: str, root: Path | None
) -> _Results | None:
    """Score the model's test predictions; return None without predictions or test labels."""
    folder = None if root is None else root / "metrics" / description.dataset
    if folder is None or not (model / OUTPUTS).is_file() or not folder.is_dir():
        return None
    outputs, identity = read_outputs(model), files.read_identity(folder)
    if (identity.corpus, identity.fold) != (outputs.identity, outputs.fold):
        return None
    evaluated = files.read_predictions(folder)
    y_N = evaluated.labels
    row_of = {id_: row for row, id_ in enumerate(outputs.ids)}
    p_EN = outputs.prediction_EN[:, [row_of[id_] for id_ in evaluated.ids]]
    by_seed = {
        seed: p_N for seed, p_N in zip(outputs.seeds, p_EN, strict=True) if np.isfinite(p_N).all()
    }
    if not by_seed:
        raise DhmdError(
            f"every seed of {model} diverged in training: train it again with a lower train.lr"
        )
    scores = {seed: score(task, p_N, y_N).values for seed, p_N in by_seed.items()}
    trivial = files.read_json(folder / files.TRIVIAL_BASELINES)
    references = {
        trivial_title(task, name, entry): entry["test"] for name, entry in trivial.items()
    }
    if oracle := files.read_json(folder / files.SUMMARY).get("oracle"):
        references[ORACLE] = oracle
    return _Results(
        num_utterances=len(y_N),
        seeds=tuple(by_seed),
        diverged=tuple(seed for seed in outputs.seeds if seed not in by_seed),
        scores=files.aggregate_seeds(scores, tuple(METRIC_TITLES[task])),
        intervals=utterance_intervals(task, by_seed, Bootstrap(evaluated.ids, y_N, _RESAMPLES)),
        references=references,
    )


def _table(task: str, results: _Results) -> Table:
    """Return the scores of the trivial baselines, the oracle and the model, with its intervals."""
    titles = METRIC_TITLES[task]
    rows = [
        [title, *(format_mean({"mean": values.get(metric)}) for metric in titles)]
        for title, values in results.references.items()
    ]
    model, intervals = ["**this model**"], ["95 % over utterances"]
    for metric in titles:
        interval = results.intervals.get(metric)
        model.append(format_mean(results.scores.get(metric, {})))
        intervals.append(f"{interval['low']:.3f} to {interval['high']:.3f}" if interval else "-")
    seeds = pluralize(len(results.seeds), "seed")
    title = f"{results.num_utterances:,} test utterances, {seeds} (mean ± std)"
    return Table(title, ["", *titles.values()], [*rows, model, intervals])


def _model_index(
    title: str, description: Description, task: str, recipe: Recipe | None, results: _Results
) -> dict[str, Any]:
    """Return the scores as the hub's metadata `model-index`."""
    name = description.dataset if recipe is None else recipe.title
    metrics = [
        {
            "type": _HUB_METRICS.get(metric, metric),
            "name": METRIC_TITLES[task][metric],
            "value": value["mean"],
        }
        for metric, value in results.scores.items()
    ]
    dataset = {"type": description.dataset, "name": name, "split": "test"}
    result = {"task": {"type": f"multimodal-{task}"}, "dataset": dataset, "metrics": metrics}
    return {"name": title, "results": [result]}
