"""The numbers behind the figures: dictionary words, calibration, confusion, worst utterances.

S seeds, N utterances, T test utterances, M modalities, C classes, K dictionary codes.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from scipy.sparse import csr_array

from dhmd.base.label_sets import encode_sets
from dhmd.report.data import Array, ReportData, Space

# A word of fewer utterances describes those utterances rather than the code.
_MIN_UTTERANCES: Final = 5
# In standard errors: words below it are not listed.
_MIN_LIFT: Final = 1.0
_BINS: Final = 10


def used_codes(codes: Array, present: Array, limit: int) -> Array:
    """Return the codes with the largest mean activation, in falling order, without dead ones."""
    usage = mean_activation(codes, present)
    order = np.argsort(-usage, kind="stable")[:limit]
    used: Array = order[usage[order] > 0]
    return used


def mean_activation(codes: Array, chosen: Array) -> Array:
    """Average `codes` `[N, M, K]` over the `chosen` `[N, M]` pairs; `[K]`, 0 without any."""
    if not chosen.any():
        return np.zeros(codes.shape[2])
    mean: Array = codes[chosen].mean(0, dtype=np.float64)
    return mean


def only(present: Array, modality: int) -> Array:
    """Keep one modality of `[N, M]`."""
    kept = np.zeros_like(present)
    kept[:, modality] = present[:, modality]
    return kept


def activation_by_group(data: ReportData, space: Space, codes: Array) -> tuple[list[str], Array]:
    """Average test activations by modality and class.

    Returns:
        Names of the groups, and activations `[groups, len(codes)]`.
    """
    assert space.codes is not None
    present = data.present[data.rows]
    names, means = [], []
    for index, modality in enumerate(data.modalities):
        for name, members in label_groups(data).items():
            chosen = only(present, index) & members[:, None]
            names.append(f"{modality}, {name}")
            means.append(mean_activation(space.codes[data.rows], chosen)[codes])
    return names, np.array(means)


def label_groups(data: ReportData) -> dict[str, Array]:
    """Group test utterances by class, or by the sign of a regression label; masks `[T]`."""
    if data.task != "regression":
        return dict(zip(data.classes, data.members(data.labels).T, strict=True))
    return {
        "negative": data.labels < 0,
        "neutral": data.labels == 0,
        "positive": data.labels > 0,
    }


class Word(NamedTuple):
    """A word, the number of its utterances, and the mean activation of a code in them."""

    text: str
    utterances: int
    activation: float


class WordIndex(NamedTuple):
    """The words of all utterances that have text, in all splits.

    Attributes:
        words: the vocabulary, sorted.
        occurs: sparse 0/1 matrix, words before utterances.
        rows: rows of the utterances in the corpus.
    """

    words: list[str]
    occurs: csr_array
    rows: Array


def word_index(data: ReportData) -> WordIndex | None:
    """Index the corpus's words; None where it has none or the model reads no text."""
    words = data.corpus.words
    if words is None or "text" not in data.modalities:
        return None
    rows = np.flatnonzero(data.present[:, data.modalities.index("text")])
    vocabulary = sorted({word for row in rows for word in words[row]})
    indices = {word: index for index, word in enumerate(vocabulary)}
    pairs = [(indices[w], column) for column, row in enumerate(rows) for w in {*words[row]}]
    at = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2).T
    shape = (len(vocabulary), len(rows))
    return WordIndex(vocabulary, csr_array((np.ones(at.shape[1]), (at[0], at[1])), shape), rows)


def code_words(index: WordIndex, activation_N: Array, limit: int) -> list[Word]:
    """Find the words in whose utterances a code is most active.

    Words are ranked by how far their mean activation lies above that of all utterances, in standard
    errors, so that a rare word must stand out more than a frequent one.

    Args:
        index: the corpus's words.
        activation_N: the code's activation on text.
        limit: how many words to return at most.
    """
    values = activation_N[index.rows].astype(np.float64)
    if not len(values) or not index.words or values.std() == 0:
        return []
    count = index.occurs.sum(axis=1)
    mean = index.occurs @ values / count
    lift = (mean - values.mean()) / (values.std() / np.sqrt(count))
    order = np.argsort(-lift, kind="stable")  # ties stay in alphabetical order
    kept = order[(count[order] >= _MIN_UTTERANCES) & (lift[order] >= _MIN_LIFT)]
    return [Word(index.words[n], int(count[n]), float(mean[n])) for n in kept[:limit]]


def principal_plane(points: Array) -> tuple[Array, Array]:
    """Project points `[P, D]` onto their two principal components.

    Signs are fixed by the largest loading of each component, so that seeds look alike.

    Returns:
        Points `[P, 2]`, and each component's share of the variance `[2]`.
    """
    centred = points.astype(np.float64) - points.mean(0, dtype=np.float64)
    _, vectors = np.linalg.eigh(centred.T @ centred)
    axes = vectors[:, ::-1][:, :2]
    if axes.shape[1] < 2:
        axes = np.concatenate([axes, np.zeros_like(axes)], axis=1)
    largest = np.abs(axes).argmax(0)
    projected = centred @ (axes * np.where(axes[largest, [0, 1]] < 0, -1.0, 1.0))
    total = float((centred**2).sum())
    return projected, (projected**2).sum(0) / total if total > 0 else np.zeros(2)


def confidence_bins(confidence: Array, correct: Array) -> tuple[Array, Array, Array]:
    """Return mean confidence, accuracy and count of ten equal bins, without empty ones."""
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    count = np.bincount(bins, minlength=_BINS)
    kept = count > 0
    sums = np.bincount(bins, confidence, _BINS)
    hits = np.bincount(bins, correct.astype(np.float64), _BINS)
    return sums[kept] / count[kept], hits[kept] / count[kept], count[kept]


def confidences(data: ReportData, probabilities: Array) -> tuple[Array, Array]:
    """Return confidence and correctness of one seed's probabilities `[T, C]`, both flat.

    They are the probability of the predicted class, and whether it is the label; of a multi-label
    task the probability of every class, and whether it is present.
    """
    truth = data.members(data.labels)
    if data.task == "multilabel":
        return probabilities.ravel(), truth.ravel()
    rows = np.arange(len(truth))
    return probabilities.max(1), truth[rows, probabilities.argmax(1)]


def calibration_error(confidence: Array, correct: Array) -> float:
    """Compute the expected calibration error."""
    confidence, accuracy, count = confidence_bins(confidence, correct)
    return float((np.abs(confidence - accuracy) * count).sum() / count.sum())


def confusion_counts(data: ReportData) -> Array:
    """Count predictions `[label, predicted]` over all seeds; of sets of classes every pair."""
    labels = data.members(data.labels).astype(np.int64)
    counts: Array = (labels.T @ data.members(data.predictions.values).astype(np.int64)).sum(0)
    return counts


def worst_utterances(data: ReportData, limit: int) -> list[dict[str, Any]]:
    """List the test utterances with the largest error over all seeds, worst first.

    The error is the mean absolute error over seeds; of a classification it is 1 minus the mean
    probability of the true class, and the prediction is the class with the largest mean.
    """
    labels = data.labels
    if data.probabilities is not None:
        mean = data.probabilities.mean(0)
        error, spread = data.probability_error, None
        prediction = encode_sets(mean - 0.5) if data.task == "multilabel" else mean.argmax(1)
    else:
        values = data.predictions.values
        error = np.abs(values - labels).mean(0)
        prediction = values.mean(0)
        spread = values.std(0, ddof=1) if len(values) > 1 else None
    words = data.corpus.words
    found = []
    for index in np.argsort(-error, kind="stable")[:limit]:
        row = int(data.rows[index])
        absent = [m for i, m in enumerate(data.modalities) if not data.present[row, i]]
        found.append(
            {
                "id": data.corpus.ids[row],
                "label": labels[index],
                "prediction": prediction[index],
                "spread": None if spread is None else spread[index],
                "error": error[index],
                "truth": None if data.truth is None else data.truth[index],
                "words": None if words is None else " ".join(words[row]),
                "absent": absent,
            }
        )
    return found
