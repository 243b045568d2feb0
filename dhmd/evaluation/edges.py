"""`edges.json`: the GD-Units' edges on the test utterances, and whether they follow the truth.

S seeds, N test utterances, M modalities; matrices are [source][target], null where undefined.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dhmd.evaluation.metrics import Floats, UndefinedMetricError
from dhmd.evaluation.statistics import spearman


def edge_summary(
    spaces: Mapping[str, Floats],
    modalities: Sequence[str],
    reliability: Mapping[str, Floats],
    present: NDArray[np.bool_],
) -> dict[str, Any]:
    """Means and spreads of edges, by space.

    Args:
        spaces: space → weights [S, N, source, target], NaN where a target is absent.
        modalities: their names [M].
        reliability: modality → planted reliability [N]; empty for real corpora.
        present: which modality is there [N, M].

    Returns:
        For each space `mean`, `sd_samples` (over utterances, averaged over seeds), `sd_seeds` (of
        the seeds' means), and with planted reliabilities `rank_correlation` of w(source → target)
        with the source's reliability, averaged over seeds, and its `rank_correlation_sd`.
    """
    result: dict[str, Any] = {"modalities": list(modalities), "n_test": len(present)}
    for space, weights in spaces.items():
        pairs = present[:, :, None] & present[:, None, :]
        known = np.where(pairs, weights, np.nan)
        means = np.array([_over_samples(seed, np.mean) for seed in known])
        spreads = np.array([_over_samples(seed, np.std) for seed in known])
        entry: dict[str, Any] = {
            "mean": _matrix(means.mean(0)),
            "sd_samples": _matrix(spreads.mean(0)),
        }
        if len(weights) > 1:
            entry["sd_seeds"] = _matrix(means.std(0, ddof=1))
        if reliability:
            rho = np.array([_rank_correlations(seed, modalities, reliability) for seed in known])
            entry["rank_correlation"] = _matrix(rho.mean(0))
            if len(weights) > 1:
                entry["rank_correlation_sd"] = _matrix(rho.std(0, ddof=1))
        result[space] = entry
    return result


def _over_samples(weights: Floats, reduce: Any) -> Floats:
    """A reduction over the utterances that have the edge [M, M]; NaN where none has."""
    count = weights.shape[1]
    result = np.full((count, count), np.nan)
    for source in range(count):
        for target in range(count):
            column = weights[:, source, target]
            column = column[np.isfinite(column)]
            if len(column):
                result[source, target] = reduce(column)
    return result


def _rank_correlations(
    weights: Floats, modalities: Sequence[str], reliability: Mapping[str, Floats]
) -> Floats:
    count = len(modalities)
    result = np.full((count, count), np.nan)
    for source, name in enumerate(modalities):
        if name not in reliability:
            continue
        for target in range(count):
            column = weights[:, source, target]
            known = np.isfinite(column) & np.isfinite(reliability[name])
            try:
                result[source, target] = spearman(column[known], reliability[name][known])
            except UndefinedMetricError:
                # Constant edges (a control, or one modality) have no ranks: null in the file.
                continue
    return result


def _matrix(values: Floats) -> list[list[float | None]]:
    return [[float(v) if np.isfinite(v) else None for v in row] for row in values]
