"""CMU-MultimodalSDK's own alignment, run as the oracle of ours.

Needs `pip install --no-deps cmu-multimodal-sdk==0.0.6` (with its plain dependencies `validators`
and `tqdm`). Two of its defects are stepped around without touching its alignment: importing it
wants torch for `mmsdk.mmmodelsdk`, which is replaced by an empty module, and its `impute` fails on
Python 3, so that one step (zeros where a word has no value) is done here.
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

EPSILON = 1e-3  # what the copy on PyPI has built in


def sdk_available() -> bool:
    """Whether the SDK and what it imports are installed."""
    return all(importlib.util.find_spec(name) for name in ("mmsdk", "validators"))


def _mean(_intervals: Array, features: Array) -> Array:
    """Collapse to the mean, in float64 so that only one rounding to float32 remains to compare."""
    if features.dtype.kind in "SOU":
        first: Array = features[0]
        return first
    mean: Array = features.astype(np.float64).mean(axis=0)
    return mean


Oracle = dict[str, dict[str, tuple[Array, Array]]]


def sdk_align(paths: Mapping[str, Path], *, reference: str, labels: str) -> Oracle:
    """Align to the reference, impute zeros, align to the labels, as the SDK's tutorials do.

    Args:
        paths: sequence name -> `.csd` file, labels included.
        reference: the sequence of words.
        labels: the sequence of label segments.

    Returns:
        sequence -> segment id -> (features `[T, d]`, intervals `[T, 2]`).
    """
    mmdatasdk = _import_sdk()
    # It prints a line for every step and draws bars; neither belongs in a test's output.
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
    """How an aligned corpus compares with the SDK's alignment of the same files.

    Attributes:
        segments, rows: how many were compared.
        largest: the largest difference between two values.
        border_rows: rows that only we have. A word across a segment's border belongs to the
            segment; its value in a modality may come from rows beyond the border only. The SDK then
            leaves it out of that modality alone, so that modalities disagree in length.
    """

    segments: int
    rows: int
    largest: float
    border_rows: int


def compare(corpus: Corpus, recipe: Recipe, oracle: Oracle) -> Agreement:
    """Compare every segment, word and value.

    Raises:
        AssertionError: segments or words differ, a label differs, or a row is missing that does not
            belong to a word across the segment's border.
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
            mine = corpus.features[modality][n]
            kept = np.arange(len(mine))
            if len(theirs) != len(mine):
                kept = np.searchsorted(spans[:, 0], pieces.mean(axis=1), side="right") - 1
                lost = np.setdiff1d(np.arange(len(mine)), kept)
                across = (spans[lost, 0] < start) | (spans[lost, 1] > end)
                assert len(lost) == len(mine) - len(theirs), (modality, segment)
                assert across.all(), (modality, segment)
                border += len(lost)
            rows += len(kept)
            difference = np.abs(mine[kept] - theirs.astype(np.float32))
            largest = max(largest, float(difference.max(initial=0.0)))
    return Agreement(segments=len(corpus.ids), rows=rows, largest=largest, border_rows=border)


def _impute(dataset: Any, reference: str) -> None:
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
