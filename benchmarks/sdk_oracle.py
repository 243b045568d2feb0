"""Alignment by the CMU-MultimodalSDK, the reference of our alignment.

It needs `pip install --no-deps cmu-multimodal-sdk==0.0.6` and its dependencies `validators` and
`tqdm`. Two defects are worked around without a change of the alignment: `mmsdk.mmmodelsdk`, which
imports torch, is replaced by an empty module, and the imputation (zeros for words without a value),
which fails on Python 3, is done here.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dhmd.data.aligned import Corpus
from dhmd.recipes import Recipe

Array = np.ndarray[Any, Any]

EPSILON = 1e-3  # tolerance in the version on PyPI


def sdk_available() -> bool:
    """Return whether the SDK and its dependencies are installed."""
    return all(importlib.util.find_spec(name) for name in ("mmsdk", "validators"))


def _mean(_intervals: Array, features: Array) -> Array:
    """Average in float64, so that results differ by at most one rounding to float32."""
    if features.dtype.kind in "SOU":
        first: Array = features[0]
        return first
    mean: Array = features.astype(np.float64).mean(axis=0)
    return mean


Oracle = dict[str, dict[str, tuple[Array, Array]]]


def sdk_align(paths: Mapping[str, Path], *, reference: str, labels: str) -> Oracle:
    """Align to the reference, impute zeros, and align to the labels, as in the SDK's tutorials.

    Args:
        paths: `.csd` files by name of the sequence, labels included.
        reference: name of the sequence of words.
        labels: name of the sequence of label segments.

    Returns:
        By sequence and segment id: features `[T, d]` and intervals `[T, 2]`.
    """
    mmdatasdk = _import_sdk()
    # The SDK prints a line for every step and progress bars.
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        dataset = mmdatasdk.mmdataset(
            {name: str(path) for name, path in paths.items() if name != labels}
        )
        dataset.align(reference, collapse_functions=[_mean])
        _impute(dataset, reference)
        dataset.add_computational_sequences({labels: str(paths[labels])}, None)
        dataset.align(labels)
        return {
            name: {
                key: (np.asarray(entry["features"]), np.asarray(entry["intervals"]))
                for key, entry in dataset[name].data.items()
            }
            for name in paths
        }


@dataclass(frozen=True)
class Agreement:
    """Comparison of an aligned corpus with the SDK's alignment of the same files.

    Attributes:
        num_segments, num_rows: numbers of compared segments and rows.
        largest: the largest difference between two values.
        border_rows: rows that the SDK does not have. A word across a segment's border belongs to
            the segment, but its value in a modality may come only from rows beyond the border. The
            SDK omits such a word in that modality alone, so that modalities differ in length.
    """

    num_segments: int
    num_rows: int
    largest: float
    border_rows: int


def compare(corpus: Corpus, recipe: Recipe, oracle: Oracle) -> Agreement:
    """Compare every segment, word and value.

    Raises:
        AssertionError: segments, words or labels differ, or the SDK lacks a row of a word that is
            not across the segment's border.
    """
    assert recipe.reference is not None
    assert recipe.labels.sequence is not None
    assert corpus.words is not None
    assert corpus.word_intervals is not None
    words, labels = oracle[recipe.reference], oracle[recipe.labels.sequence]
    assert set(corpus.ids) == set(words), "segments differ"
    largest, rows, border = 0.0, 0, 0
    for n, segment in enumerate(corpus.ids):
        spoken = [word.decode() for word in words[segment][0][:, 0]]
        assert list(corpus.words[n]) == spoken, segment
        assert corpus.labels_N[n] == np.float32(labels[segment][0][0, 0]), segment
        (start, end), spans = labels[segment][1][0], corpus.word_intervals[n]
        for modality, name in recipe.modalities.items():
            theirs, pieces = oracle[name][segment]
            ours = corpus.features[modality][n]
            common = np.arange(len(ours))
            if len(theirs) != len(ours):
                common = np.searchsorted(spans[:, 0], pieces.mean(axis=1), side="right") - 1
                missing = np.setdiff1d(np.arange(len(ours)), common)
                across = (spans[missing, 0] < start) | (spans[missing, 1] > end)
                assert len(missing) == len(ours) - len(theirs), (modality, segment)
                assert across.all(), (modality, segment)
                border += len(missing)
            rows += len(common)
            difference = np.abs(ours[common] - theirs.astype(np.float32))
            largest = max(largest, float(difference.max(initial=0.0)))
    return Agreement(
        num_segments=len(corpus.ids), num_rows=rows, largest=largest, border_rows=border
    )


def _impute(dataset: Any, reference: str) -> None:
    """Add zeros for the words for which a sequence has no value."""
    for name in dataset.keys():  # noqa: SIM118 (a method of the SDK's class, which is no mapping)
        if name == reference:
            continue
        data = dataset[name].data
        shape = next(iter(data.values()))["features"].shape[1:]
        for key, word in dataset[reference].data.items():
            if key not in data:
                data[key] = {"intervals": word["intervals"], "features": np.zeros((1, *shape))}


def _import_sdk() -> Any:
    sys.modules.setdefault("mmsdk.mmmodelsdk", types.ModuleType("mmsdk.mmmodelsdk"))
    from mmsdk import mmdatasdk

    return mmdatasdk
