"""The rule: a metric regressed when its mean loss exceeds the margin and is surely above zero.

Losses are paired by seed and positive where the head is worse. The mean must exceed the margin, and
its one-sided 95 % lower bound (Student's t over seeds) must be above 0. A plain non-inferiority
test with five seeds would fail four unchanged models in ten.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dhmd.evaluation.bootstrap import draw, groups_of, interval, resampled
from dhmd.evaluation.metrics import Floats, loss_sign
from dhmd.evaluation.statistics import paired, summary
from dhmd.gate.evaluated import Evaluated

PASS = "pass"
REGRESSED = "regressed"
NOT_COMPARABLE = "not comparable"
# Data or protocol changed by an accepted entry: shown, not judged.
NOT_JUDGED = "not judged"


@dataclass(frozen=True)
class MetricRow:
    """One metric's comparison.

    loss: mean over n common seeds, positive where the head is worse; sd: of the paired losses;
    lower, upper: its one-sided 95 % bounds, so that `upper` is the loss that cannot be excluded;
    utterances: 95 % interval over test utterances (bootstrap by video), None where the utterances
    differ or the bootstrap defines none; reason: why it is not comparable.
    """

    metric: str
    margin: float
    verdict: str
    n: int = 0
    base: dict[str, float] | None = None
    head: dict[str, float] | None = None
    loss: float | None = None
    sd: float | None = None
    lower: float | None = None
    upper: float | None = None
    utterances: tuple[float, float] | None = None
    reason: str | None = None


def common_seeds(base: Evaluated, head: Evaluated) -> list[int]:
    """The seeds of both sides, ascending: pairs are made by seed, whatever the columns' order."""
    return sorted(set(base.predictions.seeds) & set(head.predictions.seeds))


def judge(losses: Floats, margin: float) -> str:
    """The rule on paired losses, at least two."""
    found = paired(losses)
    return REGRESSED if found.mean > margin and found.lower > 0 else PASS


def compare_metric(
    metric: str, margin: float, base: Evaluated, head: Evaluated, resamples: int
) -> MetricRow:
    """Compare one metric on the common seeds (at least two)."""
    seeds = common_seeds(base, head)
    for name, side in (("base", base), ("head", head)):
        for seed in seeds:
            if metric not in side.scores[seed].values:
                why = side.scores[seed].undefined.get(metric, "not a metric of this task")
                return MetricRow(
                    metric,
                    margin,
                    NOT_COMPARABLE,
                    reason=f"{metric} is undefined in the {name} for seed {seed}: {why}",
                )
    values = [
        np.array([side.scores[seed].values[metric] for seed in seeds]) for side in (base, head)
    ]
    # Adding zero turns the -0.0 of equal values into 0.0.
    losses = loss_sign(metric) * (values[1] - values[0]) + 0.0
    found = paired(losses)
    return MetricRow(
        metric,
        margin,
        judge(losses, margin),
        n=found.n,
        base=summary(values[0]),
        head=summary(values[1]),
        loss=found.mean,
        sd=found.sd,
        lower=found.lower,
        upper=found.upper,
        utterances=_over_utterances(metric, base, head, seeds, resamples),
    )


def _over_utterances(
    metric: str, base: Evaluated, head: Evaluated, seeds: list[int], resamples: int
) -> tuple[float, float] | None:
    order = {name: row for row, name in enumerate(head.predictions.ids)}
    ids = base.predictions.ids
    if set(order) != set(ids):
        return None
    rows = [order[name] for name in ids]
    labels = base.predictions.labels
    if not np.array_equal(head.predictions.labels[rows], labels):
        return None
    groups = groups_of(ids)
    counts = draw(int(groups.max()) + 1, resamples)
    drawn = [
        resampled(metric, _values(side, seeds)[:, chosen], labels, groups, counts)
        for side, chosen in ((base, slice(None)), (head, rows))
    ]
    return interval(loss_sign(metric) * (drawn[1] - drawn[0]) + 0.0)


def _values(side: Evaluated, seeds: list[int]) -> Floats:
    columns = [side.predictions.seeds.index(seed) for seed in seeds]
    return side.predictions.values[columns]
