"""One video: its label segments, and its words and rows within them.

Legend: S label segments, W words of the video, P steps of all segments, one after the other,
d features.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dhmd.base.errors import DhmdError
from dhmd.base.label_sets import encode_sets
from dhmd.data.alignment.job import CorpusJob
from dhmd.data.alignment.sequences import Sequences
from dhmd.data.alignment.word_alignment import (
    are_instants,
    clean_values,
    overlap_mean,
    overlap_pairs,
)
from dhmd.data.csd import Entry, segment_id
from dhmd.recipes import Labels, Recipe

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class SegmentRows:
    """The label rows of one video.

    Attributes:
        intervals_S2: seconds, in the file's order.
        labels_S: float64, within the recipe's range.
        planted: dimension -> `[S]`, the ground truth of generated data.
        clipped: the number of labels outside the range by no more than the tolerance.
    """

    intervals_S2: Array
    labels_S: Array
    planted: dict[str, Array] = field(default_factory=dict)
    clipped: int = 0


def read_segments(sequences: Sequences, recipe: Recipe, video: str) -> SegmentRows:
    """Read and check a video's label rows."""
    name = recipe.labels.sequence
    assert name is not None  # dhmd/recipes checks that such a recipe has one
    entry = sequences.segments(name, video)
    where = str(sequences[name].path)
    column = _label_column(sequences, name, recipe.labels)
    if not len(entry.features):
        return SegmentRows(np.zeros((0, 2)), np.zeros(0))
    if recipe.labels.task == "multilabel":
        count = len(recipe.labels.classes)
        given_S = encode_sets(_numbers(entry.features[:, column : column + count], where))
    else:
        given_S = recipe.labels.rescale(_numbers(entry.features[:, column], where))
    labels_S, problem = checked_labels(given_S, recipe.labels)
    if problem is not None:
        row, allowed = problem
        raise DhmdError(
            f"{where}: the label of {segment_id(video, row)!r} is {given_S[row]:g},"
            f" but {recipe.source} allows {allowed}"
        )
    clipped = int(np.count_nonzero(np.abs(labels_S - given_S) > 1e-6))
    planted: dict[str, Array] = {}
    if recipe.planted is not None:
        truth = sequences.segments(recipe.planted, video)
        if len(truth.features) != len(labels_S):
            raise DhmdError(
                f"{sequences.where(recipe.planted, video)} has {len(truth.features)} rows, but the"
                f" labels have {len(labels_S)}"
            )
        values = _numbers(truth.features, str(sequences[recipe.planted].path))
        names = sequences.dimension_names(recipe.planted)
        planted = {dimension: values[:, d] for d, dimension in enumerate(names)}
    return SegmentRows(entry.intervals, labels_S, planted, clipped)


def _label_column(sequences: Sequences, name: str, labels: Labels) -> int:
    column, columns = labels.column, len(labels.classes) if labels.task == "multilabel" else 1
    where = f"{sequences[name].path}: labels.column is {column!r}, but the sequence has"
    names, width = sequences[name].dimension_names, sequences.width(name)
    if isinstance(column, str):
        if names is None or len(names) != width or column not in names:
            raise DhmdError(f"{where} {'unnamed columns' if names is None else ', '.join(names)}")
        column = names.index(column)
    if column + columns > width:
        rest = "" if columns == 1 else f", too few for {columns} classes"
        raise DhmdError(f"{where} {width} column{'s' if width != 1 else ''}{rest}")
    return column


def _numbers(values: Array, where: str) -> Array:
    if values.dtype == object:
        raise DhmdError(f"{where} has words instead of numbers")
    return values.astype(np.float64)


def checked_labels(labels_S: Array, spec: Labels) -> tuple[Array, tuple[int, str] | None]:
    """Clip labels to the recipe's range, from which they may differ by its tolerance.

    Returns:
        The clipped labels; and the row of the first label that is out of range, with a description
        of what is allowed, or None.
    """
    low, high = spec.range
    if spec.task == "classification":
        bad = ~np.isin(labels_S, np.arange(len(spec.classes)))
        allowed = f"the classes 0 to {len(spec.classes) - 1}"
    elif spec.task == "multilabel":
        bad = ~((labels_S >= low) & (labels_S <= high))
        allowed = "finite values only"
    else:
        # Labels are float32 in the files: allow for their rounding.
        slack = spec.tolerance + 1e-6 * max(abs(low), abs(high))
        bad = ~((labels_S >= low - slack) & (labels_S <= high + slack))
        allowed = f"{low:g} to {high:g}" + (f" (± {spec.tolerance:g})" if spec.tolerance else "")
    problem = (int(np.flatnonzero(bad)[0]), allowed) if bad.any() else None
    return np.clip(labels_S, low, high), problem


@dataclass(frozen=True, eq=False)
class Steps:
    """The steps of one modality in a video's segments.

    Attributes:
        values_Pd: float32, finite.
        lengths_S: steps of each segment.
        real_P: False where a word has no value in the modality and got zeros.
        counts: of the whole video: values, values_cleaned, rows, rows_without_length (which an
            interval rule leaves out), steps and steps_cut (those beyond the longest segment).
        intervals_R2: the modality's rows in seconds, None if there are none.
    """

    values_Pd: Array
    lengths_S: Array
    real_P: Array
    counts: dict[str, int] = field(default_factory=dict)
    intervals_R2: Array | None = None

    @property
    def present(self) -> Array:
        """`[S]` bool: segments with at least one real row."""
        segment_P = np.repeat(np.arange(len(self.lengths_S)), self.lengths_S)
        present_S: Array = np.bincount(segment_P[self.real_P], minlength=len(self.lengths_S)) > 0
        return present_S

    @staticmethod
    def absent(segments: int, width: int) -> Steps:
        """Return the steps of a modality that no segment has."""
        return Steps(
            values_Pd=np.zeros((0, width), dtype=np.float32),
            lengths_S=np.zeros(segments, dtype=np.int64),
            real_P=np.zeros(0, dtype=bool),
        )


@dataclass(frozen=True, eq=False)
class AlignedVideo:
    """A video's segments, before empty ones are dropped.

    Attributes:
        words: P words, or None if the reference sequence has numbers.
        word_intervals_P2: seconds.
        word_lengths_S: words of each segment, after truncation.
        steps: modality -> Steps.
        counts: words_short, words_dropped, steps_truncated, and words (all of the video).
        reference_W2: all rows of the reference in seconds.
    """

    words: list[str] | None
    word_intervals_P2: Array
    word_lengths_S: Array
    steps: dict[str, Steps]
    counts: dict[str, int]
    reference_W2: Array


def align_video(
    sequences: Sequences, video: str, segments_S2: Array, job: CorpusJob
) -> AlignedVideo:
    """Align one video. A sequence that lacks the video gives no rows.

    Args:
        sequences: the open sequences.
        video: its id.
        segments_S2: the label rows' intervals in seconds, in the file's order.
        job: how.
    """
    config, epsilon = job.align, job.epsilon
    entry = sequences.rows(job.reference, video)
    text = entry.features[:, 0] if entry.features.dtype == object else None
    keep_W = entry.intervals[:, 1] - entry.intervals[:, 0] >= epsilon
    counts = {
        "words": len(keep_W),
        "words_short": int(np.count_nonzero(~keep_W)),
        "words_dropped": 0,
    }
    if text is not None and config.drop_words:
        dropped_W = keep_W & np.isin(text.astype(str), config.drop_words)
        counts["words_dropped"] = int(np.count_nonzero(dropped_W))
        keep_W &= ~dropped_W
    words_W2 = entry.intervals[keep_W]
    word_P, word_lengths_S, word_counts = _rows_of_segments(segments_S2, words_W2, "text", job)
    counts["steps_truncated"] = word_counts["steps_cut"]
    steps: dict[str, Steps] = {}
    for modality, name in job.modalities.items():
        if job.encodes(modality):  # one step per word, whose values the encoder computes
            steps[modality] = Steps(
                values_Pd=np.zeros((len(word_P), 0), dtype=np.float32),
                lengths_S=word_lengths_S,
                real_P=np.ones(len(word_P), dtype=bool),
                counts=dict(word_counts),
            )
            continue
        rows = sequences.rows(name, video)
        if job.by_word(modality):
            own = _word_steps(rows, words_W2, word_P, word_lengths_S, epsilon)
            own.counts.update(word_counts)
        else:
            own = _own_steps(rows, segments_S2, modality, job)
            counts["steps_truncated"] += own.counts["steps_cut"]
        steps[modality] = _centred(own) if modality in config.centre_by_video else own
    return AlignedVideo(
        words=None if text is None else [str(word) for word in text[keep_W][word_P]],
        word_intervals_P2=words_W2[word_P],
        word_lengths_S=word_lengths_S,
        steps=steps,
        counts=counts,
        reference_W2=entry.intervals,
    )


def _rows_of_segments(
    segments_S2: Array, rows_R2: Array, modality: str, job: CorpusJob
) -> tuple[Array, Array, dict[str, int]]:
    """Find the rows that overlap each segment; a long segment keeps its first or last ones.

    Returns:
        Indices of the rows `[P]`, segment after segment; rows per segment `[S]`; and the counts
        `steps` and `steps_cut`.
    """
    segment_P, row_P = overlap_pairs(segments_S2, rows_R2, job.epsilon)
    length_S = np.bincount(segment_P, minlength=len(segments_S2)).astype(np.int64)
    index_P = np.arange(len(segment_P)) - (np.cumsum(length_S) - length_S)[segment_P]
    if job.align.truncate == "last":
        index_P = length_S[segment_P] - 1 - index_P
    _, limit = job.max_steps(modality)
    stay_P = index_P < limit
    counts = {"steps": len(stay_P), "steps_cut": int(np.count_nonzero(~stay_P))}
    return row_P[stay_P], np.minimum(length_S, limit), counts


def _word_steps(
    rows: Entry, words_W2: Array, word_P: Array, lengths_S: Array, epsilon: float
) -> Steps:
    """Return one step per word: the mean of the rows that overlap it."""
    cleaned = clean_values(rows.features)
    # A word may be in several segments: its mean is computed once.
    used, used_P = np.unique(word_P, return_inverse=True)
    mean_Wd, count_W = overlap_mean(
        words_W2[used], rows.intervals, cleaned.values_Td, epsilon, cleaned.bad_Td
    )
    return Steps(
        values_Pd=mean_Wd.astype(np.float32)[used_P],
        lengths_S=lengths_S,
        real_P=count_W[used_P] > 0,
        counts=_row_counts(rows, cleaned.count, epsilon),
        intervals_R2=rows.intervals,
    )


def _own_steps(rows: Entry, segments_S2: Array, modality: str, job: CorpusJob) -> Steps:
    """Return one step per row that overlaps the segment."""
    cleaned = clean_values(rows.features)
    row_P, lengths_S, counts = _rows_of_segments(segments_S2, rows.intervals, modality, job)
    return Steps(
        values_Pd=cleaned.values_Td[row_P].astype(np.float32),
        lengths_S=lengths_S,
        real_P=np.ones(len(row_P), dtype=bool),
        counts=_row_counts(rows, cleaned.count, job.epsilon) | counts,
        intervals_R2=rows.intervals,
    )


def _row_counts(rows: Entry, cleaned: int, epsilon: float) -> dict[str, int]:
    length_R = rows.intervals[:, 1] - rows.intervals[:, 0]
    lost = 0 if are_instants(rows.intervals, epsilon) else np.count_nonzero(length_R <= epsilon)
    return {
        "values": rows.features.size,
        "values_cleaned": cleaned,
        "rows": len(length_R),
        "rows_without_length": int(lost),
    }


def _centred(steps: Steps) -> Steps:
    """Subtract the video's mean over real steps; steps without a value stay zeros.

    A speaker's level identifies the video, and with it the labels of a train video: a model
    memorises it, and nothing of it transfers to another speaker.
    """
    values_Pd = steps.values_Pd.copy()
    if steps.real_P.any():
        real = values_Pd[steps.real_P].astype(np.float64)
        values_Pd[steps.real_P] = (real - real.mean(0)).astype(np.float32)
    return replace(steps, values_Pd=values_Pd)
