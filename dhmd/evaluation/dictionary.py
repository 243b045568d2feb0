"""`dictionary.json`: how sparse, how used and how shared the dictionaries' codes are (ours).

N utterances, M modalities, K codes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dhmd.evaluation.metrics import Floats, Ints
from dhmd.evaluation.statistics import summary

# All pairs of more test utterances would tell nothing more and take their square in time.
MOST_UTTERANCES = 400


def dictionary_summary(
    statistics: Mapping[str, Sequence[Mapping[str, float]]],
    codes: Mapping[str, Floats],
    present: NDArray[np.bool_],
    latent: Ints | None,
) -> dict[str, Any]:
    """By space: training's counts over seeds, and on generated corpora the overlaps by latent.

    Args:
        statistics: space → one mapping a seed.
        codes: space → activations of test utterances [N, M, K].
        present: which modality is there [N, M].
        latent: the planted class of the shared latent [N]; None for real corpora.
    """
    result: dict[str, Any] = {}
    for space, rows in statistics.items():
        entry: dict[str, Any] = {}
        for name in rows[0] if rows else ():
            # Neither a missing nor a non-finite count of a seed may pass for a mean.
            values = [row.get(name) for row in rows]
            if all(isinstance(v, int | float) and math.isfinite(v) for v in values):
                entry[name] = summary(np.array(values, dtype=np.float64))
        if latent is not None and space in codes:
            entry["overlap_by_latent"] = latent_overlap(codes[space], present, latent)
        result[space] = entry
    return result


def latent_overlap(
    codes: Floats, present: NDArray[np.bool_], latent: Ints
) -> dict[str, float | None]:
    """Mean overlap Σ_k min(a_k, b_k) of two modalities' activations, by what the pair shares.

    Over all pairs of different modalities: of one utterance, of two with the same planted latent,
    of two with different ones; None where there is no such pair.
    """
    codes, present = codes[:MOST_UTTERANCES], present[:MOST_UTTERANCES]
    latent = latent[:MOST_UTTERANCES]
    count, modalities, _ = codes.shape
    same_utterance = np.eye(count, dtype=bool)
    same_latent = (latent[:, None] == latent) & ~same_utterance
    kinds = {
        "same_utterance": same_utterance,
        "same_latent": same_latent,
        "different_latent": ~same_latent & ~same_utterance,
    }
    totals = dict.fromkeys(kinds, 0.0)
    pairs = dict.fromkeys(kinds, 0)
    for first in range(modalities):
        for second in range(first + 1, modalities):
            overlap = _overlaps(codes[:, first], codes[:, second])
            there = present[:, first][:, None] & present[:, second]
            for kind, chosen in kinds.items():
                totals[kind] += float(overlap[chosen & there].sum())
                pairs[kind] += int((chosen & there).sum())
    return {kind: totals[kind] / pairs[kind] if pairs[kind] else None for kind in kinds}


def _overlaps(a: Floats, b: Floats) -> Floats:
    """Σ_k min(a_k, b_k) of every row of `a` with every row of `b` [N, N]."""
    return np.stack([np.minimum(row, b).sum(1) for row in a])
