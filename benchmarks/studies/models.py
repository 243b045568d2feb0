"""All models on one dataset, with the same seeds, tuning budget and statistics.

A model has the candidate that the study `selection` chose for it on validation, if there is one.
Models are trained one after another in this process on one CPU thread. Finished ones are stored, so
that an interrupted study resumes. Only `evaluate_job` reads test labels.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.studies.selection import (
    RECIPE,
    Candidate,
    chosen_models,
    configuration,
    read_candidates,
    train,
)
from benchmarks.studies.tasks import read_result, selected_scores
from dhmd.base.errors import DhmdError
from dhmd.base.files import file_sha256, json_sha256, write_text
from dhmd.base.progress import progress
from dhmd.evaluation import files
from dhmd.evaluation.files import read_json
from dhmd.evaluation.job import evaluate_job
from dhmd.evaluation.metrics import METRIC_TITLES, PRIMARY_METRIC
from dhmd.evaluation.tables import (
    Table,
    format_interval,
    format_mean,
    format_p_value,
    trivial_title,
    variant_title,
)
from dhmd.models.catalogue import DHMD
from dhmd.settings import load_params
from dhmd.training.configuration import overlay
from dhmd.training.history import HISTORY
from dhmd.training.store import environment
from dhmd.training.weights import load_model


def compare_models(
    root: Path,
    dataset: str,
    *,
    seeds: tuple[int, ...],
    models: Sequence[str] = (),
    candidate: str | None = None,
) -> dict[str, Any]:
    """Train the models that are not stored yet, and evaluate all of them.

    Args:
        models: names of models, to which DHMD is added; by default all that can run.
        candidate: candidate of all models, instead of the selected ones.

    Raises:
        DhmdError: an unknown model or candidate, or no aligned features file.
    """
    base, aligned, fold = configuration(root, dataset, seeds)
    names = chosen_models([DHMD, *models] if models else (), base)
    path, candidates = read_candidates(root, dataset)
    if candidate:
        selected = dict.fromkeys(names, candidate)
    else:
        selected = _selected_candidates(root, dataset, names)
    for name in selected.values():
        if name != RECIPE and name not in candidates:
            raise DhmdError(f"{path} has no candidate {name!r}")
    data, cpu = {"aligned": file_sha256(aligned), "fold": fold}, torch.device("cpu")
    runs = []
    for model in names:
        changes = candidates.get(selected[model], {})
        config = overlay(base, changes, f"{path}, candidate {selected[model]}")
        key = {**data, "environment": environment(cpu, model), "configuration": config.as_json()}
        digest = json_sha256(key)[:12]
        work = root / ".dhmd" / "studies" / f"models-{dataset}" / f"{model}-{digest}"
        runs.append(
            Candidate(
                model=model,
                name=selected[model],
                configuration=config,
                aligned=aligned,
                fold=fold,
                work=work,
            )
        )
    torch.set_num_threads(1)
    for run in progress(runs, "models", total=len(runs)):
        if not run.result.is_file():
            _run(run)
    return _summary(root, dataset, runs)


def _selected_candidates(root: Path, dataset: str, models: Sequence[str]) -> dict[str, str]:
    """Return the selected candidate of each model; the recipe's settings if there is none."""
    path = root / "metrics" / "studies" / f"selection-{dataset}.json"
    selection = read_json(path) if path.is_file() else {}
    return {model: selection.get(model, {}).get("chosen", RECIPE) for model in models}


def _run(run: Candidate) -> None:
    """Train a model, and store its parameters, seconds and validation scores."""
    is_new = not run.work.exists()
    start = time.process_time()
    folder = train(run)
    seconds = time.process_time() - start
    model, members, _ = load_model(folder, torch.device("cpu"))
    result = {
        "candidate": run.name,
        "parameters": sum(value.numel() for value in model.parameters()) // members.count,
        # Only a part of a resumed training was timed.
        "seconds": seconds / members.count if is_new else None,
        "valid": selected_scores(folder / HISTORY),
    }
    write_text(run.result, json.dumps(result) + "\n")


def _summary(root: Path, dataset: str, runs: Sequence[Candidate]) -> dict[str, Any]:
    """Evaluate the models and return the numbers of the tables."""
    full, *others = runs
    folder = full.work.parent / "evaluated"
    shutil.rmtree(folder, ignore_errors=True)
    variants, metrics = folder / "variants", folder / "metrics"
    variants.mkdir(parents=True)
    for run in others:
        (variants / run.model).symlink_to((run.work / "models" / run.model).resolve())
    evaluate_job(
        load_params(root).for_dataset(dataset).evaluate,
        full.aligned,
        full.work / "pretrained",
        full.work / "models" / full.model,
        variants,
        metrics,
    )
    summary, ablations = (
        read_json(metrics / name) for name in (files.SUMMARY, f"{files.ABLATIONS}.json")
    )
    missing, by_variant, trivial = (
        read_json(metrics / name)
        for name in (
            f"{files.MISSING_MODALITIES}.json",
            f"{files.MISSING_BY_VARIANT}.json",
            files.TRIVIAL_BASELINES,
        )
    )
    identity = files.read_identity(metrics)
    primary = PRIMARY_METRIC[identity.task]
    models: dict[str, Any] = {}
    for run in runs:
        conditions = {c: by_variant[c].get(run.model, {}) for c in by_variant}
        if run is full:
            conditions = missing
        models[run.model] = {
            "test": summary["test"] if run is full else ablations[run.model],
            "missing": {name: entry.get(primary, {}) for name, entry in conditions.items()},
            **read_result(run.result),
        }
    return {
        "dataset": dataset,
        "task": identity.task,
        "fold": identity.fold,
        "seeds": list(full.configuration.train.seeds),
        "test_utterances": len(files.read_predictions(metrics).ids),
        "oracle": summary.get("oracle", {}),
        "trivial": {
            trivial_title(identity.task, name, entry): entry["test"]
            for name, entry in trivial.items()
        },
        "models": models,
    }


def page(summary: Mapping[str, Any]) -> str:
    """Return the tables of a dataset as Markdown."""
    task, models = summary["task"], summary["models"]
    metric = PRIMARY_METRIC[task]
    columns, primary = METRIC_TITLES[task], METRIC_TITLES[task][metric]
    count = len(summary["seeds"])
    head = f"{summary['dataset']}: {summary['test_utterances']} test utterances, {count} seeds"
    rows = [
        [
            title,
            *(format_mean({"mean": test[m]}) if m in test else "-" for m in columns),
            *["-"] * 5,
        ]
        for title, test in summary["trivial"].items()
        if "," not in title or title.startswith("ridge, pooled")
    ]
    # Ordered by validation score, the best first.
    ranked = sorted(models, key=lambda name: fmean(models[name]["valid"]), reverse=metric != "mae")
    for name in ranked:
        entry = models[name]
        test, score = entry["test"], entry["test"][metric]
        seconds = entry["seconds"]
        rows.append(
            [
                f"**{variant_title(name)}**" if name == DHMD else variant_title(name),
                *(format_mean(test.get(m, {})) for m in columns),
                f"{score['difference']:+.3f} {format_interval(score, 'ci')}"
                if "difference" in score
                else "-",
                format_interval(score, "utterances"),
                format_p_value(score.get("p")),
                f"{entry['parameters']:,}",
                "-" if seconds is None else f"{seconds:.1f}",
            ]
        )
    if summary["oracle"]:
        values = (format_mean({"mean": summary["oracle"][m]}) for m in columns)
        rows.append(["oracle (label before noise)", *values, *["-"] * 5])
    header = ["", *columns.values(), f"{primary} − DHMD's, over seeds", "over utterances"]
    header += ["p (Holm)", "parameters", "CPU s per seed"]
    tables = [Table(f"{head}, fold {summary['fold']}", header, rows)]
    conditions = [name for name in models[DHMD]["missing"] if "+" not in name]
    rows = [
        [
            f"**{variant_title(name)}**" if name == DHMD else variant_title(name),
            format_mean(models[name]["test"][metric], with_std=False),
            *(format_mean(models[name]["missing"].get(c, {}), with_std=False) for c in conditions),
        ]
        for name in ranked
    ]
    if conditions:
        title = f"{summary['dataset']}: {primary} with modalities missing, or replaced by noise"
        tables.append(Table(title, ["", "nothing missing", *conditions], rows))
    return "\n\n".join(table.to_markdown() for table in tables)
