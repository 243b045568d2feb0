"""Compare models, experiments and predictions of other code on the test split of one dataset.

N test utterances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dhmd.base.errors import DhmdError
from dhmd.config.yaml12 import parse_yaml
from dhmd.data.aligned import Corpus
from dhmd.evaluation import files, statistics
from dhmd.evaluation.metrics import (
    METRIC_TITLES,
    METRICS,
    PRIMARY_METRIC,
    Floats,
    Ints,
    deterioration_sign,
    score,
)
from dhmd.evaluation.model_outputs import OUTPUTS, ModelOutputs, read_outputs
from dhmd.evaluation.tables import (
    Table,
    dataset_names,
    format_interval,
    format_mean,
    format_p_value,
    variant_title,
)
from dhmd.gate.compare import (
    Evaluation,
    load_evaluation,
    read_prediction_file,
    score_predictions,
)
from dhmd.models.catalogue import DHMD, model_title
from dhmd.recipes import repository_root
from dhmd.vcs import METRICS_FOLDER, Revision, Workspace, commit

RESAMPLES = 1000


@dataclass(frozen=True)
class _Entry:
    """One row of a comparison.

    Attributes:
        test: predictions and scores on the test split.
        valid: scores on the validation split, by seed and metric; empty if unknown.
        settings: the values to show, by key of params.yaml.
    """

    name: str
    test: Evaluation
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
    """Compare test scores with those of the first name, paired by seed.

    Args:
        names: models and variants of the workspace (`dhmd`, `mult`), Git revisions, DVC
            experiments, or CSV files with the columns id, seed and prediction. The first is the
            reference.
        dataset: by default the only one in metrics/.
        by: keys of params.yaml to show as columns, such as `kd.lambda`.
        metric: the metric of the differences; by default MAE, or weighted F1 for classification.
        sort: `valid.` and a metric: the best row comes first. By default the order of `names`.
        root: the repository; by default the one of the current directory.

    Returns:
        One row per name: `name`, the keys of `by`, `seeds` (their number), `valid.<metric>`, mean
        and standard deviation of every test metric (`mae`, `mae_sd`), and the `difference` of
        `metric` from the reference with its 95 % interval over seeds (`low`, `high`), its 95 %
        interval over utterances (`utterances_low`, `utterances_high`) and Holm-corrected `p`. NaN
        where a value is unknown. `attrs` has the dataset, its task and number of test utterances,
        the metric and the reference.

    Raises:
        DhmdError: a name, dataset or metric is unknown, or corpora or protocols differ.
    """
    root = root or repository_root()
    if dataset is None:
        datasets = dataset_names(root / METRICS_FOLDER)
        if len(datasets) != 1:
            raise DhmdError(
                f"--dataset must name one of the datasets in {METRICS_FOLDER}/: "
                f"{', '.join(datasets) or 'none; run dvc repro'}"
            )
        dataset = datasets[0]
    return _compare_entries([_load(root, dataset, name, by) for name in names], by, metric, sort)


def compare_folders(
    folders: Mapping[str, Path], corpus: Corpus, *, metric: str | None = None
) -> pd.DataFrame:
    """Compare models that are not in the workspace.

    Args:
        folders: the model directories by name; the first is the reference.
        corpus: the training corpus of all models, with its test labels.
        metric: as in `compare`.

    Returns:
        The same table as `compare`.

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
            raise DhmdError(f"{folder} was trained on a different corpus than {corpus.name}")
        evaluation = _evaluation(outputs, test, identity, ids, labels_N[test])
        valid_scores = {
            seed: score(corpus.task, p_N, labels_N[valid]).values
            for seed, p_N in outputs.by_seed(valid).items()
        }
        entries.append(_Entry(name, evaluation, valid_scores))
    return _compare_entries(entries, (), metric, None)


def _evaluation(
    outputs: ModelOutputs,
    rows: Ints,
    identity: files.Identity,
    ids: tuple[str, ...],
    labels_N: Floats,
) -> Evaluation:
    """Score the outputs of the test utterances `ids`, which have the indices `rows`."""
    values_EN = np.stack([*outputs.by_seed(rows).values()])
    predictions = files.Predictions(ids, labels_N, outputs.seeds, values_EN)
    return score_predictions(identity, predictions)


def _compare_entries(
    entries: Sequence[_Entry], by: Sequence[str], metric: str | None, sort: str | None
) -> pd.DataFrame:
    """Return the table of `compare`."""
    if len(entries) < 2:
        raise DhmdError("a comparison needs at least two names")
    names = [entry.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise DhmdError(
                f"two of the names refer to {name}: remove one of them, or rename a file"
            )
    reference, *others = entries
    identity, predictions = reference.test.identity, reference.test.predictions
    task = identity.task
    metric = metric or PRIMARY_METRIC[task]
    if metric not in METRICS[task]:
        raise DhmdError(f"the metric is {metric!r}, but must be one of {', '.join(METRICS[task])}")
    for entry in others:
        for key in ("task", "corpus", "fold", "protocol"):
            if getattr(entry.test.identity, key) != getattr(identity, key):
                raise DhmdError(f"{reference.name} and {entry.name} do not have the same {key}")
        if {*entry.test.predictions.ids} != {*predictions.ids}:
            raise DhmdError(f"{reference.name} and {entry.name} have different test utterances")
    differences = statistics.compare_with_full(
        task,
        predictions.by_seed(predictions.ids),
        {entry.name: entry.test.predictions.by_seed(predictions.ids) for entry in others},
        statistics.Bootstrap(predictions.ids, predictions.labels, RESAMPLES),
        metrics=(metric,),
    )
    rows = [
        _row(entry, task, metric, differences.get(entry.name, {}).get(metric, {}))
        for entry in entries
    ]
    table = pd.DataFrame(rows)
    if sort is not None:
        table = table.iloc[_order(sort, entries, task)].reset_index(drop=True)
    table.attrs = {
        "dataset": identity.dataset,
        "utterances": len(predictions.ids),
        "reference": reference.name,
        "task": task,
        "metric": metric,
        "by": tuple(by),
    }
    return table


def _load(root: Path, dataset: str, name: str, by: Sequence[str]) -> _Entry:
    """Load the CSV file, model, variant or revision `name`."""
    workspace = Workspace(root)
    if name.endswith(".csv"):
        full = load_evaluation(workspace, dataset)
        return _Entry(Path(name).stem, read_prediction_file(Path(name), full))
    if name == DHMD:
        return _revision(workspace, dataset, "DHMD", by)
    folder = root / "ablations" / dataset / name
    if (folder / OUTPUTS).is_file():
        return _variant(workspace, dataset, folder, by)
    if model_title(name):
        # `-S` replaces the whole list.
        variants = _settings(workspace, dataset, ("ablate.variants",))["ablate.variants"] or []
        wanted = ",".join(dict.fromkeys([*variants, name]))
        raise DhmdError(
            f"{folder} does not exist: train {name} with "
            f"`dvc exp run -S 'ablate.variants=[{wanted}]'`, or download it with `dvc pull`"
        )
    try:
        revision = commit(root, name)
    except DhmdError as error:
        raise DhmdError(
            f"{name} is not a model or variant in {folder.parent}, and {error}"
        ) from error
    return _revision(revision, dataset, name, by)


def _revision(revision: Revision, dataset: str, name: str, by: Sequence[str]) -> _Entry:
    """Read the full model of a revision."""
    test = load_evaluation(revision, dataset)
    path = f"{METRICS_FOLDER}/{dataset}/{files.SEEDS}"
    text = revision.read(path)
    valid = files.parse_seeds(text, path)["valid"] if text is not None else {}
    return _Entry(name, test, valid, _settings(revision, dataset, by))


def _variant(workspace: Workspace, dataset: str, folder: Path, by: Sequence[str]) -> _Entry:
    """Read a variant of the workspace; the labels are those of the evaluated full model."""
    full = load_evaluation(workspace, dataset)
    outputs = read_outputs(folder)
    if outputs.identity != full.identity.corpus:
        raise DhmdError(
            f"{outputs.path} and metrics/{dataset} belong to different corpora: run dvc repro"
        )
    row_of = {id_: row for row, id_ in enumerate(outputs.ids)}
    ids, labels_N = full.predictions.ids, full.predictions.labels
    rows = np.array([row_of[id_] for id_ in ids])
    table = f"{METRICS_FOLDER}/{dataset}/{files.ABLATIONS}.csv"
    valid = {
        int(row["seed"]): {m: float(v) for m in METRICS[full.identity.task] if (v := row[m])}
        for row in files.read_rows(workspace.root / table)
        if row["variant"] == folder.name and row["split"] == "valid"
    }
    configuration = files.read_json(folder / "model.json")["configuration"] if by else {}
    return _Entry(
        variant_title(folder.name),
        _evaluation(outputs, rows, full.identity, ids, labels_N),
        valid,
        {key: _value(configuration, key) for key in by},
    )


def _settings(revision: Revision, dataset: str, by: Sequence[str]) -> dict[str, Any]:
    """Return values of params.yaml by key; an empty value is replaced by the dataset config's."""
    params, recipe = (
        parse_yaml(revision.read(path) or "", f"{path} of {revision.label}")
        for path in ("params.yaml", f"recipes/{dataset}.yaml")
    )
    values = {}
    for key in by:
        value = _value(params, key, absent=...)
        if value is ...:
            raise DhmdError(f"params.yaml of {revision.label} has no key {key}")
        values[key] = _value(recipe, key) if value is None else value
    return values


def _value(mapping: object, key: str, absent: Any = None) -> Any:
    """Return the value of a dotted key in nested mappings, or `absent`."""
    for part in key.split("."):
        mapping = mapping.get(part, absent) if isinstance(mapping, Mapping) else absent
    return mapping


def _row(entry: _Entry, task: str, metric: str, difference: Mapping[str, float]) -> dict[str, Any]:
    scores = {seed: scores.values for seed, scores in entry.test.scores.items()}
    test = files.aggregate_seeds(scores, METRICS[task])
    valid = files.aggregate_seeds(entry.valid, METRICS[task])
    row: dict[str, Any] = {"name": entry.name, **entry.settings, "seeds": len(scores)}
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
            f"--sort is {sort}, but the test split must not rank models: sort by "
            f"valid.{metric or sort}"
        )
    if split != "valid" or metric not in METRICS[task]:
        raise DhmdError(
            f"--sort is {sort}, but must be valid.METRIC, such as valid.{PRIMARY_METRIC[task]}"
        )
    values = []
    for entry in entries:
        valid = files.aggregate_seeds(entry.valid, (metric,))
        if metric not in valid:
            raise DhmdError(f"{entry.name} has no validation scores to sort by")
        values.append(deterioration_sign(metric) * valid[metric]["mean"])
    return sorted(range(len(values)), key=values.__getitem__)


def as_table(comparison: pd.DataFrame) -> Table:
    """Format the result of `compare` as a table, with the reference in bold.

    It has the metrics of `METRIC_TITLES`.
    """
    attrs = comparison.attrs
    metric, titles = attrs["metric"], METRIC_TITLES[attrs["task"]]
    name = titles.get(metric, metric)
    header = ["", *attrs["by"], "seeds", f"valid {name}", *titles.values()]
    header += [f"difference in {name}", "95 % over seeds", "95 % over utterances", "p (Holm)"]
    without_nan: Any = comparison.astype(object).where(comparison.notna(), None)
    rows = []
    for row in without_nan.to_dict("records"):
        cells = ["-" if row.get(key) is None else str(row[key]) for key in (*attrs["by"], "seeds")]
        scores = (f"valid.{metric}", *titles)
        cells += [format_mean({"mean": row[s], "std": row.get(f"{s}_sd")}) for s in scores]
        cells.append("-" if row["difference"] is None else f"{row['difference']:+.3f}")
        over_seeds = {"ci_low": row["low"], "ci_high": row["high"]}
        cells += [format_interval(over_seeds, "ci"), format_interval(row, "utterances")]
        bold = "**" if row["name"] == attrs["reference"] else ""
        rows.append([f"{bold}{row['name']}{bold}", *cells, format_p_value(row["p"])])
    title = (
        f"{attrs['dataset']}: {attrs['utterances']} test utterances, differences from "
        f"{attrs['reference']}"
    )
    return Table(title, header, rows)
