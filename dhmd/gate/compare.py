"""Compare one dataset's metrics at two revisions.

The rule: a metric regressed if its mean deterioration exceeds the margin, and the one-sided 95 %
lower bound of the mean (Student's t over seeds) is above 0. Deteriorations are paired by seed and
positive where the head is worse. A plain non-inferiority test with five seeds would fail four of
ten unchanged models.

All test scores are recomputed from `predictions.csv`, because `dvc commit` accepts a metrics file
that was edited by hand. A file that contradicts the predictions makes the dataset not comparable.
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
from dhmd.evaluation.statistics import Bootstrap, mean_and_std, paired_t_test, percentile_interval
from dhmd.vcs import METRICS_FOLDER, Revision

PASS = "pass"
REGRESSED = "regressed"
NOT_COMPARABLE = "not comparable"
# The verdict on the metrics of a dataset that is not comparable, or whose data changed as accepted.
NOT_JUDGED = "not judged"

# Relative; far above the rounding errors of any processor, and far below any printed digit.
TOLERANCE = 1e-9


class NotComparableError(DhmdError):
    """Raised if two revisions cannot be compared, which is neither a pass nor a regression."""


@dataclass(frozen=True)
class Evaluation:
    """The test results of one model on one dataset.

    Attributes:
        scores: the scores of each seed, computed from `predictions`.
    """

    identity: Identity
    predictions: Predictions
    scores: dict[int, Scores]


def score_predictions(identity: Identity, predictions: Predictions) -> Evaluation:
    """Compute the scores of test predictions."""
    scores = {
        seed: score(identity.task, p_N, predictions.labels)
        for seed, p_N in zip(predictions.seeds, predictions.values, strict=True)
    }
    return Evaluation(identity, predictions, scores)


@dataclass(frozen=True)
class MetricRow:
    """The comparison of one metric.

    Attributes:
        margin: largest mean deterioration that passes.
        n: number of common seeds.
        base, head: mean and std over these seeds.
        deterioration: mean over these seeds, positive where the head is worse.
        sd: standard deviation of the paired deteriorations.
        lower, upper: one-sided 95 % bounds; a deterioration up to `upper` cannot be excluded.
        utterances: 95 % interval over test utterances (bootstrap by video); None if the utterances
            differ or too few resamples define the metric.
        reason: why the metric is not comparable; None if it is.
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
    """Apply the rule to at least two paired deteriorations; return `PASS` or `REGRESSED`."""
    test = paired_t_test(deteriorations)
    return REGRESSED if test.mean > margin and test.lower > 0 else PASS


def common_seeds(base: Evaluation, head: Evaluation) -> list[int]:
    """Return the seeds that both evaluations have, in ascending order."""
    return sorted(set(base.predictions.seeds) & set(head.predictions.seeds))


def compare_metric(
    metric: str, margin: float, base: Evaluation, head: Evaluation, num_resamples: int
) -> MetricRow:
    """Compare one metric on the common seeds, of which there are at least two."""
    seeds = common_seeds(base, head)
    for name, evaluation in (("base", base), ("head", head)):
        for seed in seeds:
            if metric not in evaluation.scores[seed].values:
                why = evaluation.scores[seed].undefined.get(metric, "not a metric of this task")
                reason = f"{metric} is undefined in the {name} for seed {seed}: {why}"
                return MetricRow(metric, margin, NOT_COMPARABLE, reason=reason)
    base_E, head_E = (
        np.array([evaluation.scores[seed].values[metric] for seed in seeds])
        for evaluation in (base, head)
    )
    # Adding zero turns the -0.0 of equal values into 0.0.
    deteriorations = deterioration_sign(metric) * (head_E - base_E) + 0.0
    test = paired_t_test(deteriorations)
    return MetricRow(
        metric,
        margin,
        judge(deteriorations, margin),
        n=test.n,
        base=mean_and_std(base_E),
        head=mean_and_std(head_E),
        deterioration=test.mean,
        sd=test.sd,
        lower=test.lower,
        upper=test.upper,
        utterances=_utterance_interval(
            metric, base.predictions, head.predictions, seeds, num_resamples
        ),
    )


def _utterance_interval(
    metric: str, base: Predictions, head: Predictions, seeds: list[int], num_resamples: int
) -> tuple[float, float] | None:
    if base.labels_by_id() != head.labels_by_id():
        return None
    bootstrap = Bootstrap(base.ids, base.labels, num_resamples)
    base_R, head_R = (
        bootstrap.means(metric, np.array([p_N[seed] for seed in seeds]))
        for p_N in (base.by_seed(base.ids), head.by_seed(base.ids))
    )
    return percentile_interval(deterioration_sign(metric) * (head_R - base_R) + 0.0)


def load_evaluation(revision: Revision, dataset: str) -> Evaluation:
    """Read and check `metrics/<dataset>/` of a revision.

    Scores from a different protocol version are not checked, because its metrics are defined
    differently; the gate reports the dataset as not comparable.

    Raises:
        NotComparableError: a file is missing, unreadable, or contradicts the predictions.
    """
    try:
        return _load(revision, dataset, f"{METRICS_FOLDER}/{dataset}")
    except NotComparableError:
        raise
    except DhmdError as error:
        raise NotComparableError(f"{revision.label}: {error}") from error


def read_prediction_file(path: Path, reference: Evaluation) -> Evaluation:
    """Read a CSV file with the columns id, seed and prediction, which any code may have written.

    Args:
        path: the file. A prediction is a number, or a class index.
        reference: another evaluation on the dataset, for its test utterances and labels.

    Raises:
        NotComparableError: unreadable, or a seed does not have exactly the test utterances.
    """
    by_seed: dict[int, dict[str, float]] = {}
    try:
        for line, row in read_csv(path, ("id", "seed", "prediction")).items():
            id_, seed = row["id"], row["seed"]
            if not seed.isdecimal():
                raise DhmdError(
                    f"{path}, line {line}: seed is {seed!r}, but must be a whole number"
                )
            values = by_seed.setdefault(int(seed), {})
            if id_ in values:
                raise DhmdError(f"{path}, line {line}: seed {seed} has {id_} twice")
            values[id_] = finite_number(row["prediction"], f"{path}, line {line}: prediction")
    except DhmdError as error:
        raise NotComparableError(str(error)) from error
    if not by_seed:
        raise NotComparableError(f"{path} has no rows")
    ids = reference.predictions.ids
    for seed_number, values in by_seed.items():
        if different := set(ids) ^ set(values):
            id_ = min(different)
            problem = "lacks the" if id_ in ids else "has the unknown"
            raise NotComparableError(
                f"{path}, seed {seed_number}: {problem} test utterance {id_}; {len(different)} of "
                f"the {len(ids)} ids of {reference.identity.dataset} differ"
            )
    values_EN = np.array([[values[id_] for id_ in ids] for values in by_seed.values()])
    predictions = Predictions(ids, reference.predictions.labels, tuple(by_seed), values_EN)
    return score_predictions(reference.identity, predictions)


def _load(revision: Revision, dataset: str, folder: str) -> Evaluation:
    # Before `details/` existed, all files were in one folder and metrics.json was the summary.
    old_layout = revision.read(f"{folder}/{files.IDENTITY}") is None

    def read(name: str) -> tuple[str, str]:
        """Return the text and the path of a file."""
        paths = [f"{folder}/{name}", f"{folder}/{name.removeprefix(f'{files.DETAILS}/')}"]
        text = revision.read(paths[old_layout])
        if text is None:
            raise NotComparableError(f"{folder} of {revision.label} lacks {name}")
        return text, paths[old_layout]

    identity_text, source = read(files.IDENTITY)
    identity = files.parse_identity(identity_text, source)
    if identity.dataset != dataset:
        raise DhmdError(f"{source} belongs to the dataset {identity.dataset}")
    evaluation = score_predictions(identity, files.parse_predictions(*read(files.PREDICTIONS)))
    scores = evaluation.scores
    seeds_text, seeds_source = read(files.SEEDS)
    headline_text, headline_source = read(files.METRICS_FILE)
    if identity.protocol != files.PROTOCOL:
        return evaluation

    rows = files.parse_seeds(seeds_text, seeds_source)
    for split, by_seed in rows.items():
        if set(by_seed) != set(scores):
            raise DhmdError(
                f"{seeds_source} has {split} rows for the seeds {sorted(by_seed)}, but "
                f"{files.PREDICTIONS} has columns for the seeds {sorted(scores)}"
            )
    for seed, computed in scores.items():
        _check_equal(rows["test"][seed], computed.values, f"{seeds_source}: seed {seed}, test")
    expected: dict[str, Any] = {
        split: files.aggregate_seeds(by_seed, METRICS[identity.task])
        for split, by_seed in rows.items()
    }
    written = parse_json(headline_text, headline_source)
    if old_layout:
        written = written.get("test") if isinstance(written, dict) else None
        _check_equal(written, expected["test"], f"{headline_source}: test")
    else:
        expected["n_seeds"] = len(scores)
        headline = files.headline_values(identity.task, expected)
        _check_equal(written, headline, f"{headline_source}:")
    return evaluation


def _check_equal(written: object, computed: object, where: str) -> None:
    """Raise an error that starts with `where` if two nested values differ beyond `TOLERANCE`."""
    if isinstance(computed, Mapping) and isinstance(written, Mapping):
        for key in [*computed, *(key for key in written if key not in computed)]:
            _check_equal(written.get(key), computed.get(key), f"{where} {key}")
        return
    equal = written == computed
    if isinstance(computed, float) and isinstance(written, int | float):
        try:
            equal = abs(written - computed) <= TOLERANCE * max(1.0, abs(computed))
        except OverflowError:  # an integer larger than any float
            equal = False
    if not equal:
        texts = ["absent" if v is None else f"{v!r:.60}" for v in (written, computed)]
        raise DhmdError(
            f"{where} is {texts[0]}, but recomputed from {files.PREDICTIONS} it is {texts[1]}: the "
            "file was edited by hand or is out of date; run dvc repro and commit the metrics"
        )
