"""Compare one dataset's metrics at two revisions.

The rule: a metric regressed if its mean deterioration exceeds the margin and is significantly above
zero. Deteriorations are paired by seed and positive where the head is worse. Their mean must exceed
the margin, and its one-sided 95 % lower bound (Student's t over seeds) must be above 0. A plain
non-inferiority test with five seeds would fail four of ten unchanged models.

All scores are recomputed from `predictions.csv`: `dvc commit` accepts a metrics file that was
edited by hand. Files that disagree with the predictions make the dataset not comparable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.base.text import finite_number, read_csv
from dhmd.evaluation import files
from dhmd.evaluation.files import Identity, Predictions, parse_json
from dhmd.evaluation.metrics import METRICS, Floats, Scores, deterioration_sign, score
from dhmd.evaluation.statistics import Bootstrap, paired, percentile_interval, summary
from dhmd.vcs import METRICS_FOLDER, Revision

PASS = "pass"
REGRESSED = "regressed"
NOT_COMPARABLE = "not comparable"
# The data changed by an accepted entry: the metrics are shown, but not judged.
NOT_JUDGED = "not judged"

# Far above the differences between processors, far below any digit that a table shows.
TOLERANCE = 1e-9


class NotComparableError(DhmdError):
    """The reason why two revisions cannot be compared: neither a pass nor a regression."""


@dataclass(frozen=True)
class Evaluated:
    """One dataset at one revision; `scores` per seed are recomputed from the predictions."""

    identity: Identity
    predictions: Predictions
    scores: dict[int, Scores]

    @staticmethod
    def of(identity: Identity, predictions: Predictions) -> Evaluated:
        """Score predictions."""
        scores = {
            seed: score(identity.task, p_N, predictions.labels)
            for seed, p_N in zip(predictions.seeds, predictions.values, strict=True)
        }
        return Evaluated(identity, predictions, scores)


@dataclass(frozen=True)
class MetricRow:
    """The comparison of one metric.

    Attributes:
        n: number of common seeds.
        base, head: mean and std over these seeds.
        deterioration: its mean over the seeds, positive where the head is worse.
        sd: standard deviation of the paired deteriorations.
        lower, upper: one-sided 95 % bounds; a deterioration up to `upper` cannot be excluded.
        utterances: 95 % interval over test utterances (bootstrap by video); None if the utterances
            differ or too few resamples define the metric.
        reason: why the metric is not comparable.
    """

    metric: str
    margin: float
    verdict: str
    n: int = 0
    base: dict[str, float] | None = None
    head: dict[str, float] | None = None
    deterioration: float | None = None
    sd: float | None = None
    lower: float | None = None
    upper: float | None = None
    utterances: tuple[float, float] | None = None
    reason: str | None = None


def judge(deteriorations: Floats, margin: float) -> str:
    """Apply the rule to at least two paired deteriorations."""
    found = paired(deteriorations)
    return REGRESSED if found.mean > margin and found.lower > 0 else PASS


def common_seeds(base: Evaluated, head: Evaluated) -> list[int]:
    """Return the seeds of both sides in ascending order."""
    return sorted(set(base.predictions.seeds) & set(head.predictions.seeds))


def compare_metric(
    metric: str, margin: float, base: Evaluated, head: Evaluated, resamples: int
) -> MetricRow:
    """Compare one metric on the common seeds, of which there are at least two."""
    seeds = common_seeds(base, head)
    for name, side in (("base", base), ("head", head)):
        for seed in seeds:
            if metric not in side.scores[seed].values:
                why = side.scores[seed].undefined.get(metric, "not a metric of this task")
                reason = f"{metric} is undefined in the {name} for seed {seed}: {why}"
                return MetricRow(metric, margin, NOT_COMPARABLE, reason=reason)
    before, after = (
        np.array([side.scores[seed].values[metric] for seed in seeds]) for side in (base, head)
    )
    # Adding zero turns the -0.0 of equal values into 0.0.
    deteriorations = deterioration_sign(metric) * (after - before) + 0.0
    found = paired(deteriorations)
    return MetricRow(
        metric,
        margin,
        judge(deteriorations, margin),
        n=found.n,
        base=summary(before),
        head=summary(after),
        deterioration=found.mean,
        sd=found.sd,
        lower=found.lower,
        upper=found.upper,
        utterances=_utterance_interval(metric, base, head, seeds, resamples),
    )


def _utterance_interval(
    metric: str, old: Evaluated, new: Evaluated, seeds: list[int], resamples: int
) -> tuple[float, float] | None:
    base, head = old.predictions, new.predictions
    if dict(zip(base.ids, base.labels, strict=True)) != dict(
        zip(head.ids, head.labels, strict=True)
    ):
        return None
    bootstrap = Bootstrap(base.ids, base.labels, resamples)
    before_R, after_R = (
        bootstrap.means(metric, np.array([p_N[seed] for seed in seeds]))
        for p_N in (base.by_seed(base.ids), head.by_seed(base.ids))
    )
    return percentile_interval(deterioration_sign(metric) * (after_R - before_R) + 0.0)


def load_evaluated(revision: Revision, dataset: str) -> Evaluated:
    """Read and check `metrics/<dataset>/` of a revision.

    A directory of another protocol is not checked: its scores follow other definitions, and the
    gate reports it as not comparable.

    Raises:
        NotComparableError: a file is missing, unreadable, or disagrees with the predictions.
    """
    try:
        return _load(revision, dataset, f"{METRICS_FOLDER}/{dataset}")
    except NotComparableError:
        raise
    except DhmdError as error:
        raise NotComparableError(f"{revision.label}: {error}") from error


def read_prediction_file(path: Path, known: Evaluated) -> Evaluated:
    """Read a CSV with the columns id, seed and prediction: results of any code on the same data.

    A prediction is a number, or a class index. `known` is a result on the dataset, for its test
    utterances and labels.

    Raises:
        NotComparableError: unreadable, or not every seed has exactly the test utterances.
    """
    found: dict[int, dict[str, float]] = {}
    try:
        for line, row in read_csv(path, ("id", "seed", "prediction")).items():
            name, written = row["id"], row["seed"]
            if not written.isdecimal():
                raise DhmdError(f"{path}, line {line}: seed is {written!r}: use whole numbers")
            values = found.setdefault(int(written), {})
            if name in values:
                raise DhmdError(f"{path}, line {line}: seed {written} has {name} twice")
            values[name] = finite_number(row["prediction"], f"{path}, line {line}: prediction")
    except DhmdError as error:
        raise NotComparableError(str(error)) from error
    if not found:
        raise NotComparableError(f"{path} has no rows")
    ids = known.predictions.ids
    for seed, values in found.items():
        if wrong := set(ids) ^ set(values):
            name = min(wrong)
            what = "lacks" if name in ids else "has the unknown"
            raise NotComparableError(
                f"{path}, seed {seed}: {what} test utterance {name}; {len(wrong)} of the "
                f"{len(ids)} ids of {known.identity.dataset} differ"
            )
    values_EN = np.array([[values[name] for name in ids] for values in found.values()])
    predictions = Predictions(ids, known.predictions.labels, tuple(found), values_EN)
    return Evaluated.of(known.identity, predictions)


def _load(revision: Revision, dataset: str, folder: str) -> Evaluated:
    # Before `details/` existed, all files were in one folder and metrics.json was the summary.
    old_layout = revision.read(f"{folder}/{files.IDENTITY}") is None

    def read(name: str) -> tuple[str, str]:
        """Return a file's text and path."""
        paths = [f"{folder}/{name}", f"{folder}/{name.removeprefix(f'{files.DETAILS}/')}"]
        text = revision.read(paths[old_layout])
        if text is None:
            raise NotComparableError(f"{folder} of {revision.label} lacks {name}")
        return text, paths[old_layout]

    identity_text, source = read(files.IDENTITY)
    identity = files.parse_identity(identity_text, source)
    if identity.dataset != dataset:
        raise DhmdError(f"{source} belongs to the dataset {identity.dataset}")
    evaluated = Evaluated.of(identity, files.parse_predictions(*read(files.PREDICTIONS)))
    scores = evaluated.scores
    seeds_text, seeds_source = read(files.SEEDS)
    headline_text, headline_source = read(files.METRICS_FILE)
    if identity.protocol != files.PROTOCOL:
        return evaluated

    rows = files.parse_seeds(seeds_text, seeds_source)
    for split, found in rows.items():
        if set(found) != set(scores):
            raise DhmdError(
                f"{seeds_source} has {split} rows for the seeds {sorted(found)}, but "
                f"{files.PREDICTIONS} has columns for the seeds {sorted(scores)}"
            )
    for seed, computed in scores.items():
        _check_equal(rows["test"][seed], computed.values, f"{seeds_source}: seed {seed}, test")
    expected: dict[str, Any] = {
        split: files.over_seeds(found, METRICS[identity.task]) for split, found in rows.items()
    }
    written = parse_json(headline_text, headline_source)
    if old_layout:
        written = written.get("test") if isinstance(written, dict) else None
        _check_equal(written, expected["test"], f"{headline_source}: test")
    else:
        expected["n_seeds"] = len(scores)
        headline = files.headline(identity.task, expected)
        _check_equal(written, headline, f"{headline_source}:")
    return evaluated


def _check_equal(written: object, computed: object, where: str) -> None:
    """Compare two nested values up to the tolerance."""
    if isinstance(computed, Mapping) and isinstance(written, Mapping):
        for key in [*computed, *(key for key in written if key not in computed)]:
            _check_equal(written.get(key), computed.get(key), f"{where} {key}")
        return
    equal = written == computed
    if isinstance(computed, float) and isinstance(written, int | float):
        try:
            equal = abs(written - computed) <= TOLERANCE * max(1.0, abs(computed))
        except OverflowError:  # an integer beyond any float
            equal = False
    if not equal:
        found, expected = ("absent" if v is None else f"{v!r:.60}" for v in (written, computed))
        raise DhmdError(
            f"{where} is {found}, but recomputed from {files.PREDICTIONS} it is {expected}: the "
            "file was edited by hand or is out of date; run dvc repro and commit what it writes"
        )
