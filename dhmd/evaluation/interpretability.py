"""Statistics of the distillation edges (`edges.json`) and the dictionaries (`dictionary.json`).

Both are computed on test utterances. For generated corpora, they are compared with the planted
reliability of each modality and the planted latent class. The dictionary statistics are ours.

E ensemble members (seeds), N test utterances, M modalities, I sources, J targets, K codes.
Matrices in the files are [source][target], null where undefined.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dhmd.evaluation.metrics import Floats, Ints, UndefinedMetricError, corr
from dhmd.evaluation.statistics import mean_and_std

# Limits the time of `latent_overlap`, which is quadratic in the number of utterances.
MAX_UTTERANCES = 400


def edge_summary(
    spaces: Mapping[str, Floats],
    modalities: Sequence[str],
    reliability: Mapping[str, Floats],
    present_NM: NDArray[np.bool_],
) -> dict[str, Any]:
    """Summarise the edge weights of each space.

    Args:
        spaces: weights [E, N, I, J] of each space, NaN where the target is absent.
        modalities: names of the M modalities.
        reliability: planted reliability [N] of each modality; empty for real corpora.
        present_NM: whether an utterance has a modality.

    Returns:
        {"modalities", "n_test", space: {"mean", "sd_samples": standard deviation over utterances,
        averaged over seeds, "sd_seeds": standard deviation of the seeds' means,
        "rank_correlation": Spearman correlation of w(source → target) with the planted reliability
        of the source, averaged over seeds, and its "rank_correlation_sd"}}.
    """
    result: dict[str, Any] = {"modalities": list(modalities), "n_test": len(present_NM)}
    both_NIJ = present_NM[:, :, None] & present_NM[:, None, :]
    source_NI = np.full(present_NM.shape, np.nan)
    for i, name in enumerate(modalities):
        if name in reliability:
            source_NI[:, i] = reliability[name]

    def by_seed(weights_ENIJ: Floats, statistic: Callable[[Floats, Floats], float]) -> Floats:
        """Return `statistic(weights, reliability of the source)` of each edge [E, I, J]."""
        m = len(modalities)
        values_EIJ = np.full((len(weights_ENIJ), m, m), np.nan)
        for e, i, j in np.ndindex(values_EIJ.shape):
            weights_N, planted_N = weights_ENIJ[e, :, i, j], source_NI[:, i]
            finite = np.isfinite(weights_N)
            if finite.any():
                values_EIJ[e, i, j] = statistic(weights_N[finite], planted_N[finite])
        return values_EIJ

    for space, weights_ENIJ in spaces.items():
        present_ENIJ = np.where(both_NIJ, weights_ENIJ, np.nan)
        mean_EIJ = by_seed(present_ENIJ, lambda weights, _: float(np.mean(weights)))
        std_EIJ = by_seed(present_ENIJ, lambda weights, _: float(np.std(weights)))
        entry = {"mean": _matrix(mean_EIJ.mean(0)), "sd_samples": _matrix(std_EIJ.mean(0))}
        if len(weights_ENIJ) > 1:
            entry["sd_seeds"] = _matrix(mean_EIJ.std(0, ddof=1))
        if reliability:
            rho_EIJ = by_seed(present_ENIJ, _rank_correlation)
            entry["rank_correlation"] = _matrix(rho_EIJ.mean(0))
            if len(weights_ENIJ) > 1:
                entry["rank_correlation_sd"] = _matrix(rho_EIJ.std(0, ddof=1))
        result[space] = entry
    return result


def spearman(a: Floats, b: Floats) -> float:
    """Return Spearman's rank correlation.

    Raises:
        UndefinedMetricError: `a` or `b` is constant, or has fewer than two samples.
    """
    # scipy.stats would add a second of import time.
    ranks = pd.DataFrame({"a": a, "b": b}).rank().to_numpy(dtype=np.float64)
    return corr(ranks[:, 0], ranks[:, 1])


def _rank_correlation(weights: Floats, planted: Floats) -> float:
    finite = np.isfinite(planted)
    try:
        return spearman(weights[finite], planted[finite])
    except UndefinedMetricError:  # constant weights
        return math.nan


def _matrix(values: Floats) -> list[list[float | None]]:
    return [[float(v) if np.isfinite(v) else None for v in row] for row in values]


def dictionary_summary(
    statistics: Mapping[str, Sequence[Mapping[str, float]]],
    codes: Mapping[str, Floats],
    present_NM: NDArray[np.bool_],
    latent_N: Ints | None,
) -> dict[str, Any]:
    """Summarise the dictionary of each space.

    Args:
        statistics: statistics per seed of each space, as computed after training.
        codes: activations [N, M, K] of each space.
        present_NM: whether an utterance has a modality.
        latent_N: planted latent class; None for real corpora.

    Returns:
        {space: {statistic: {mean, std}, "overlap_by_latent": from `latent_overlap`}}; a statistic
        that is undefined for a seed is omitted.
    """
    result: dict[str, Any] = {}
    for space, rows in statistics.items():
        entry: dict[str, Any] = {}
        for name in rows[0] if rows else ():
            values = [row.get(name) for row in rows]
            if all(isinstance(v, int | float) and math.isfinite(v) for v in values):
                entry[name] = mean_and_std(np.array(values, dtype=np.float64))
        if latent_N is not None and space in codes:
            entry["overlap_by_latent"] = latent_overlap(codes[space], present_NM, latent_N)
        result[space] = entry
    return result


def latent_overlap(
    codes_NMK: Floats, present_NM: NDArray[np.bool_], latent_N: Ints
) -> dict[str, float | None]:
    """Return the mean overlap Σ_k min(a_k, b_k) of the activations of two modalities (ours).

    The mean is over all pairs of different modalities in at most `MAX_UTTERANCES` utterances.

    Returns:
        Means over pairs from the same utterance ("same_utterance"), from two utterances with the
        same planted latent class ("same_latent"), and from two with different classes
        ("different_latent"); None if there is no such pair.
    """
    codes, present = codes_NMK[:MAX_UTTERANCES], present_NM[:MAX_UTTERANCES]
    latent = latent_N[:MAX_UTTERANCES]
    same_utterance = np.eye(len(codes), dtype=bool)
    same_latent = (latent[:, None] == latent) & ~same_utterance
    kinds = {
        "same_utterance": same_utterance,
        "same_latent": same_latent,
        "different_latent": ~same_latent & ~same_utterance,
    }
    totals, pairs = dict.fromkeys(kinds, 0.0), dict.fromkeys(kinds, 0)
    for a, b in itertools.combinations(range(codes.shape[1]), 2):
        overlap = np.stack([np.minimum(row, codes[:, b]).sum(1) for row in codes[:, a]])
        both_present = present[:, a][:, None] & present[:, b]
        for kind, mask in kinds.items():
            totals[kind] += float(overlap[mask & both_present].sum())
            pairs[kind] += int((mask & both_present).sum())
    return {kind: totals[kind] / pairs[kind] if pairs[kind] else None for kind in kinds}
