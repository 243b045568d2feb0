"""Compare models, experiments and other code's predictions on one dataset's test split.

N test utterances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dhmd.base.errors import DhmdError
from dhmd.config.yaml12 import parse_yaml
from dhmd.data.aligned import Corpus
from dhmd.evaluation import files, statistics
from dhmd.evaluation.metrics import COLUMNS, METRICS, PRIMARY, deterioration_sign, score
from dhmd.evaluation.model_outputs import OUTPUTS, read_outputs
from dhmd.evaluation.tables import (
    Table,
    dataset_names,
    interval,
    mean,
    p_value,
    variant_title,
)
from dhmd.gate.compare import Evaluated, load_evaluated, read_prediction_file
from dhmd.models.catalogue import DHMD, model_title
from dhmd.recipes import repository_root
from dhmd.vcs import METRICS_FOLDER, Revision, Workspace, commit

RESAMPLES = 1000


@dataclass(frozen=True)
class _Entry:
    """One row of a comparison: test predictions, validation scores by seed, and settings."""

    name: str
    evaluated: Evaluated
    valid: files.SeedScores = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


def compare(
    names: Sequence[str],
    *,
    dataset: str | None = None,
    by: Sequence[str] = (),
    metric: str | None = None,
    sort: str | None = None,
    root: Path | None = None,
) -> pd.DataFrame:
    """Compare test scores, paired by seed with those of the first name.

    Args:
        names: models and variants of the workspace (`dhmd`, `mult`), Git revisions, DVC
            experiments, or CSV files with the columns id, seed and prediction.
        dataset: by default the only one in metrics/.
        by: keys of params.yaml to show, such as `kd.lambda`.
        metric: the metric of the differences; by default MAE, or weighted F1 for classification.
        sort: `valid.` and a metric; the best comes first. By default the order of `names`.
        root: the repository.

    Returns:
        One row per name: `name`, the keys of `by`, `seeds`, `valid.<metric>`, mean and standard
        deviation of every test metric (`mae`, `mae_sd`), and `difference` of the metric to the
        first name with its 95 % interval over seeds (`low`, `high`), the one over utterances
        (`utterances_low`, `utterances_high`) and Holm's `p`. NaN where a value is unknown. `attrs`
        has the dataset, its task and number of test utterances, the metric and the reference.

    Raises:
        DhmdError: an unknown name, dataset or metric, or another corpus or protocol.
    """
    root = root or repository_root()
    if dataset is None:
        known = dataset_names(root / METRICS_FOLDER)
        if len(known) != 1:
            raise DhmdError(
                f"--dataset must name one of the datasets in {METRICS_FOLDER}/: "
                f"{', '.join(known) or 'none; run dvc repro'}"
            )
        dataset = known[0]
    return _compared([_load(root, dataset, name, by) for name in names], by, metric, sort)


def compare_folders(
    folders: Mapping[str, Path], corpus: Corpus, *, metric: str | None = None
) -> pd.DataFrame:
    """Compare model directories by name, like `compare`, on their corpus with its test labels.

    Raises:
        DhmdError: a model was trained on another corpus, or a seed diverged.
    """
    identity = files.Identity(corpus.name, corpus.task, corpus.identity, corpus.fold)
    test, valid = corpus.index("test"), corpus.index("valid")
    labels_N = corpus.labels_N.astype(np.float64)
    ids = tuple(corpus.ids[row] for row in test)
    entries = []
    for name, folder in folders.items():
        outputs = read_outputs(folder)
        if outputs.identity != corpus.identity:
            raise DhmdError(f"{folder} was trained on another corpus than {corpus.name}")
        by_seed = outputs.by_seed(outputs.prediction_EN, test, "prediction")
        own = files.Predictions(ids, labels_N[test], tuple(by_seed), np.stack([*by_seed.values()]))
        scores = {
            seed: score(corpus.task, p_N, labels_N[valid]).values
            for seed, p_N in outputs.by_seed(outputs.prediction_EN, valid, "prediction").items()
        }
        entries.append(_Entry(name, Evaluated.of(identity, own), scores))
    return _compared(entries, (), metric, None)


def _compared(
    entries: Sequence[_Entry], by: Sequence[str], metric: str | None, sort: str | None
) -> pd.DataFrame:
    """Return the table of `compare`."""
    if len(entries) < 2:
        raise DhmdError("a comparison needs at least two names")
    names = [entry.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise DhmdError(f"two of the names stand for {name}: leave one out, or rename a file")
    first, *others = entries
    about, known = first.evaluated.identity, first.evaluated.predictions
    task = about.task
    metric = metric or PRIMARY[task]
    if metric not in METRICS[task]:
        raise DhmdError(f"the metric is {metric!r}, but must be one of {', '.join(METRICS[task])}")
    for entry in others:
        for key in ("task", "corpus", "fold", "protocol"):
            if getattr(entry.evaluated.identity, key) != getattr(about, key):
                raise DhmdError(f"{first.name} and {entry.name} do not have the same {key}")
        if {*entry.evaluated.predictions.ids} != {*known.ids}:
            raise DhmdError(f"{first.name} and {entry.name} have different test utterances")
    differences = statistics.compare(
        task,
        first.evaluated.predictions.by_seed(known.ids),
        {entry.name: entry.evaluated.predictions.by_seed(known.ids) for entry in others},
        statistics.Bootstrap(known.ids, known.labels, RESAMPLES),
        metrics=(metric,),
    )
    rows = [
        _row(entry, task, metric, differences.get(entry.name, {}).get(metric, {}))
        for entry in entries
    ]
    table = pd.DataFrame(rows)
    if sort is not None:
        table = table.iloc[_order(sort, entries, task)].reset_index(drop=True)
    table.attrs = {"dataset": about.dataset, "utterances": len(known.ids), "reference": first.name}
    table.attrs |= {"task": task, "metric": metric, "by": tuple(by)}
    return table


def _load(root: Path, dataset: str, name: str, by: Sequence[str]) -> _Entry:
    workspace = Workspace(root)
    if name.endswith(".csv"):
        known = load_evaluated(workspace, dataset)
        return _Entry(Path(name).stem, read_prediction_file(Path(name), known))
    if name == DHMD:
        return _revision(workspace, dataset, "DHMD", by)
    folder = root / "ablations" / dataset / name
    if (folder / OUTPUTS).is_file():
        return _variant(workspace, dataset, folder, by)
    if model_title(name):
        # `-S` replaces the whole list.
        variants = _settings(workspace, dataset, ("ablate.variants",))["ablate.variants"] or []
        raise DhmdError(
            f"{folder} does not exist: train {name} with "
            f"`dvc exp run -S 'ablate.variants=[{','.join([*variants, name])}]'`, or get it with "
            "`dvc pull`"
        )
    try:
        revision = commit(root, name)
    except DhmdError as error:
        raise DhmdError(f"{name} is no model or variant in {folder.parent}, and {error}") from error
    return _revision(revision, dataset, name, by)


def _revision(revision: Revision, dataset: str, name: str, by: Sequence[str]) -> _Entry:
    """Read the full model of a revision."""
    evaluated = load_evaluated(revision, dataset)
    path = f"{METRICS_FOLDER}/{dataset}/{files.SEEDS}"
    text = revision.read(path)
    valid = files.parse_seeds(text, path)["valid"] if text is not None else {}
    return _Entry(name, evaluated, valid, _settings(revision, dataset, by))


def _variant(workspace: Workspace, dataset: str, folder: Path, by: Sequence[str]) -> _Entry:
    """Read a variant of the workspace; its labels are those of the full model."""
    full = load_evaluated(workspace, dataset)
    outputs = read_outputs(folder)
    if outputs.identity != full.identity.corpus:
        raise DhmdError(
            f"{outputs.path} and metrics/{dataset} belong to two corpora: run dvc repro"
        )
    position = {name: row for row, name in enumerate(outputs.ids)}
    rows = np.array([position[name] for name in full.predictions.ids])
    test = outputs.by_seed(outputs.prediction_EN, rows, "prediction")
    table = f"{METRICS_FOLDER}/{dataset}/{files.ABLATIONS}.csv"
    valid = {
        int(row["seed"]): {m: float(v) for m in METRICS[full.identity.task] if (v := row[m])}
        for row in files.read_rows(workspace.root / table)
        if row["variant"] == folder.name and row["split"] == "valid"
    }
    own = files.read_object(folder / "model.json")["configuration"] if by else {}
    predictions = replace(full.predictions, seeds=tuple(test), values=np.stack([*test.values()]))
    evaluated = Evaluated.of(full.identity, predictions)
    settings = {key: _value(own, key) for key in by}
    return _Entry(variant_title(folder.name), evaluated, valid, settings)


def _settings(revision: Revision, dataset: str, by: Sequence[str]) -> dict[str, Any]:
    """Return the values of keys of params.yaml; where it is empty, the dataset config's."""
    params, recipe = (
        parse_yaml(revision.read(path) or "", f"{path} of {revision.label}")
        for path in ("params.yaml", f"recipes/{dataset}.yaml")
    )
    found = {}
    for key in by:
        value = _value(params, key, absent=...)
        if value is ...:
            raise DhmdError(f"params.yaml of {revision.label} has no key {key}")
        found[key] = _value(recipe, key) if value is None else value
    return found


def _value(mapping: object, key: str, absent: Any = None) -> Any:
    for part in key.split("."):
        mapping = mapping.get(part, absent) if isinstance(mapping, Mapping) else absent
    return mapping


def _row(entry: _Entry, task: str, metric: str, difference: Mapping[str, float]) -> dict[str, Any]:
    test = files.over_seeds({s: v.values for s, v in entry.evaluated.scores.items()}, METRICS[task])
    valid = files.over_seeds(entry.valid, METRICS[task])
    row: dict[str, Any] = {"name": entry.name, **entry.settings}
    row["seeds"] = len(entry.evaluated.predictions.seeds)
    row[f"valid.{metric}"] = valid.get(metric, {}).get("mean", np.nan)
    for name in METRICS[task]:
        row[name] = test.get(name, {}).get("mean", np.nan)
        row[f"{name}_sd"] = test.get(name, {}).get("std", np.nan)
    keys = {"low": "ci_low", "high": "ci_high"}
    for name in ("difference", "low", "high", "utterances_low", "utterances_high", "p"):
        row[name] = difference.get(keys.get(name, name), np.nan)
    return row


def _order(sort: str, entries: Sequence[_Entry], task: str) -> list[int]:
    """Return the indices of the entries, the best on validation first."""
    split, _, metric = sort.partition(".")
    if split == "test" or sort in METRICS[task]:
        raise DhmdError(
            f"--sort is {sort}, but the test split may not choose between models: sort by "
            f"valid.{metric or sort}"
        )
    if split != "valid" or metric not in METRICS[task]:
        raise DhmdError(
            f"--sort is {sort}, but must be valid.METRIC, such as valid.{PRIMARY[task]}"
        )
    values = []
    for entry in entries:
        found = files.over_seeds(entry.valid, (metric,))
        if metric not in found:
            raise DhmdError(f"{entry.name} has no validation scores to sort by")
        values.append(deterioration_sign(metric) * found[metric]["mean"])
    return sorted(range(len(values)), key=values.__getitem__)


def as_table(compared: pd.DataFrame) -> Table:
    """Format a comparison for a page: the metrics that the field reports, the reference in bold."""
    about = compared.attrs
    metric, columns = about["metric"], COLUMNS[about["task"]]
    name = columns.get(metric, metric)
    header = ["", *about["by"], "seeds", f"valid {name}", *columns.values()]
    header += [f"difference in {name}", "95 % over seeds", "95 % over utterances", "p (Holm)"]
    known: Any = compared.astype(object).where(compared.notna(), None)
    rows = []
    for row in known.to_dict("records"):
        cells = ["-" if row.get(key) is None else str(row[key]) for key in (*about["by"], "seeds")]
        scores = (f"valid.{metric}", *columns)
        cells += [mean({"mean": row[each], "std": row.get(f"{each}_sd")}) for each in scores]
        cells.append("-" if row["difference"] is None else f"{row['difference']:+.3f}")
        seeds = {"ci_low": row["low"], "ci_high": row["high"]}
        cells += [interval(seeds, "ci"), interval(row, "utterances"), p_value(row["p"])]
        bold = "**" if row["name"] == about["reference"] else ""
        rows.append([f"{bold}{row['name']}{bold}", *cells])
    title = (
        f"{about['dataset']}: {about['utterances']} test utterances, differences from "
        f"{about['reference']}"
    )
    return Table(title, header, rows)
