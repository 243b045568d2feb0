"""Intervals over test utterances: a bootstrap that draws whole videos.

Utterances of one video are alike, so resampling them one by one would claim too much. Every metric
is a function of sums over utterances; the sums are taken once a video, and a resample is a row of
counts times them: no loop over resamples.

R resamples, V videos, S seeds, N utterances.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dhmd.evaluation.metrics import Floats, Ints, rounded

BOOTSTRAP_SEED = 20260204
CONFIDENCE = 0.95
_ROUNDING = {"acc7": 3, "acc5": 2, "acc3": 1}
# A confusion matrix is [predicted, true], flattened.
_FROM_CONFUSION = frozenset({"precision", "recall", "f1", "f1_has0", "f1_non0"})


def video_of(segment_id: str) -> str:
    """The video of `video[i]`."""
    return segment_id.rpartition("[")[0] or segment_id


def groups_of(ids: Sequence[str]) -> Ints:
    """The number of each utterance's video, counted in order of appearance [N]."""
    numbers: dict[str, int] = {}
    return np.array(
        [numbers.setdefault(video_of(name), len(numbers)) for name in ids], dtype=np.int64
    )


def draw(groups: int, resamples: int) -> Floats:
    """How often each resample holds each video [R, V]; the same draws for the same sizes."""
    generator = np.random.default_rng(BOOTSTRAP_SEED)
    chosen = generator.integers(0, groups, size=(resamples, groups))
    chosen += np.arange(resamples)[:, None] * groups
    counts = np.bincount(chosen.ravel(), minlength=resamples * groups)
    return counts.reshape(resamples, groups).astype(np.float64)


def resampled(metric: str, p: Floats, y: Floats, groups: Ints, counts: Floats) -> Floats:
    """The metric's mean over seeds in each resample [R]; NaN where a resample leaves it undefined.

    Args:
        p: predictions [S, N] (class indices for classification).
        y: labels [N].
        groups: each utterance's video [N].
        counts: from `draw` [R, V].
    """
    sums = _video_sums(metric, p, y, groups, counts.shape[1])
    drawn = np.tensordot(counts, sums, axes=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        values: Floats = _from_sums(metric, drawn).mean(1)
    return values


def interval(values: Floats) -> tuple[float, float] | None:
    """The percentile interval (95 %), or None where fewer than half of the resamples define it."""
    defined = values[np.isfinite(values)]
    if 2 * len(defined) < len(values) or len(defined) == 0:
        return None
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def _video_sums(metric: str, p: Floats, y: Floats, groups: Ints, videos: int) -> Floats:
    """Sums over each video's utterances [V, S, Q]."""
    parts = _parts(metric, p, y)
    sums = np.zeros((videos, *parts.shape[:1], parts.shape[2]))
    np.add.at(sums, groups, parts.transpose(1, 0, 2))
    return sums


def _parts(metric: str, p: Floats, y: Floats) -> Floats:
    """What each utterance adds to the sums [S, N, Q]."""
    y = np.broadcast_to(y, p.shape)
    ones = np.ones(p.shape)
    if metric == "mae":
        return np.stack([np.abs(p - y), ones], axis=2)
    if metric == "corr":
        # Centred and scaled first: raw sums of squares lose digits to the mean.
        a = _standard(p)
        b = _standard(y)
        return np.stack([ones, a, b, a * a, b * b, a * b], axis=2)
    if metric in _ROUNDING:
        limit = _ROUNDING[metric]
        return np.stack([rounded(p, limit) == rounded(y, limit), ones], axis=2).astype(np.float64)
    kept = ones
    if metric.endswith("_has0"):
        p, y = (p >= 0).astype(np.float64), (y >= 0).astype(np.float64)
    elif metric.endswith("_non0"):
        kept = (y != 0).astype(np.float64)
        p, y = (p > 0).astype(np.float64), (y > 0).astype(np.float64)
    if metric not in _FROM_CONFUSION:
        return np.stack([(p == y) * kept, kept], axis=2)
    classes = np.unique(np.concatenate([p.ravel(), y.ravel()]))
    cells = (p[..., None, None] == classes[:, None]) & (y[..., None, None] == classes)
    flat: Floats = cells.reshape(*p.shape, -1) * kept[..., None]
    return flat


def _standard(values: Floats) -> Floats:
    centred = values - values.mean(1, keepdims=True)
    scale = np.abs(centred).max(1, keepdims=True)
    result: Floats = centred / np.where(scale > 0, scale, 1.0)
    return result


def _from_sums(metric: str, sums: Floats) -> Floats:
    """The metric from sums [..., Q] to [...]."""
    if metric == "corr":
        n, a, b, aa, bb, ab = np.moveaxis(sums, -1, 0)
        covariance = ab - a * b / n
        spreads = np.stack([aa - a * a / n, bb - b * b / n])
        # The parts are at most 1, so less than this is rounding: a constant resample.
        spreads[spreads < 1e-12 * n] = np.nan
        correlation: Floats = covariance / np.sqrt(spreads.prod(0))
        return np.clip(correlation, -1.0, 1.0)
    if metric not in _FROM_CONFUSION:
        ratio: Floats = sums[..., 0] / sums[..., 1]
        return ratio
    classes = round(sums.shape[-1] ** 0.5)
    confusion = sums.reshape(*sums.shape[:-1], classes, classes)
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    predicted, support = confusion.sum(-1), confusion.sum(-2)
    weight = support / support.sum(-1, keepdims=True)
    if metric == "precision":
        part = right / np.maximum(predicted, 1)
    elif metric == "recall":
        part = right / np.maximum(support, 1)
    else:
        part = 2 * right / np.maximum(predicted + support, 1)
    total: Floats = (weight * part).sum(-1)
    return total
