"""Align one video: the words and rows in each of its label segments.

Axes: S label segments, W words of the video, P steps of all segments, concatenated, R rows of a
sequence, d features.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

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
from dhmd.data.csd import Array, Entry, segment_id
from dhmd.recipes import Labels, Recipe


@dataclass(frozen=True, eq=False)
class SegmentRows:
    """The label rows of one video, in the file's order.

    Attributes:
        intervals_S2: start and end in seconds.
        labels_S: float64, within the recipe's range.
        planted: the ground truth of generated data, `[S]` per name.
        clipped: the number of labels that were outside the range, within the tolerance.
    """

    intervals_S2: Array
    labels_S: Array
    planted: dict[str, Array] = field(default_factory=dict)
    clipped: int = 0


def read_label_rows(sequences: Sequences, recipe: Recipe, video: str) -> SegmentRows:
    """Read the label rows of a video, and clip its labels to the recipe's range.

    Raises:
        DhmdError: a label is out of range, or the label file contradicts the recipe.
    """
    name = recipe.labels.sequence
    assert name is not None  # checked in dhmd/recipes.py
    entry = sequences.segments(name, video)
    where = str(sequences[name].path)
    column = _label_column(sequences, name, recipe.labels)
    if not len(entry.features):
        return SegmentRows(np.zeros((0, 2)), np.zeros(0))
    if recipe.labels.task == "multilabel":
        count = len(recipe.labels.classes)
        raw_S = encode_sets(_numbers(entry.features[:, column : column + count], where))
    else:
        raw_S = recipe.labels.rescale(_numbers(entry.features[:, column], where))
    labels_S, problem = clip_labels(raw_S, recipe.labels)
    if problem is not None:
        row, allowed = problem
        raise DhmdError(
            f"{where}: the label of {segment_id(video, row)!r} is {raw_S[row]:g},"
            f" but {recipe.source} allows {allowed}"
        )
    clipped = int(np.count_nonzero(np.abs(labels_S - raw_S) > 1e-6))
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


def clip_labels(labels_S: Array, spec: Labels) -> tuple[Array, tuple[int, str] | None]:
    """Clip labels to the recipe's range; they may exceed it by the recipe's tolerance.

    Returns:
        The clipped labels; and None, or the row of the first label that is out of range with a
        description of the allowed values.
    """
    low, high = spec.range
    if spec.task == "classification":
        invalid = ~np.isin(labels_S, np.arange(len(spec.classes)))
        allowed = f"the classes 0 to {len(spec.classes) - 1}"
    elif spec.task == "multilabel":
        invalid = ~((labels_S >= low) & (labels_S <= high))
        allowed = "finite values only"
    else:
        # Files store labels as float32, so allow for rounding.
        slack = spec.tolerance + 1e-6 * max(abs(low), abs(high))
        invalid = ~((labels_S >= low - slack) & (labels_S <= high + slack))
        allowed = f"{low:g} to {high:g}" + (f" (± {spec.tolerance:g})" if spec.tolerance else "")
    problem = (int(np.flatnonzero(invalid)[0]), allowed) if invalid.any() else None
    return np.clip(labels_S, low, high), problem


@dataclass(frozen=True, eq=False)
class Steps:
    """The steps of one modality in a video's segments.

    Attributes:
        values_Pd: float32, finite.
        lengths_S: the number of steps of each segment.
        real_P: False for words that no row overlaps; their values are zeros.
        counts: totals of the video: values, values_cleaned, rows, rows_without_length (which
            overlap no word), steps and steps_cut (those beyond the maximum length).
        intervals_R2: start and end of the modality's rows in seconds; None if there are none.
    """

    values_Pd: Array
    lengths_S: Array
    real_P: Array
    counts: dict[str, int] = field(default_factory=dict)
    intervals_R2: Array | None = None

    @property
    def present(self) -> Array:
        """`[S]` bool, whether a segment has at least one real step."""
        segment_P = np.repeat(np.arange(len(self.lengths_S)), self.lengths_S)
        present_S: Array = np.bincount(segment_P[self.real_P], minlength=len(self.lengths_S)) > 0
        return present_S

    @staticmethod
    def absent(num_segments: int, width: int) -> Steps:
        """Return no steps, for a modality that is absent from all segments."""
        return Steps(
            values_Pd=np.zeros((0, width), dtype=np.float32),
            lengths_S=np.zeros(num_segments, dtype=np.int64),
            real_P=np.zeros(0, dtype=bool),
        )


@dataclass(frozen=True, eq=False)
class AlignedVideo:
    """A video's segments, before empty ones are dropped.

    Attributes:
        words: P words, or None if the reference sequence has numbers.
        word_intervals_P2: start and end in seconds.
        word_lengths_S: the number of words of each segment, after truncation.
        steps: the steps of each modality.
        counts: totals of the video: words, words_short, words_dropped and steps_truncated.
        reference_W2: start and end of all rows of the reference in seconds.
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
    """Align one video; a sequence without the video contributes no rows.

    Args:
        sequences: the open sequences.
        video: the video's id.
        segments_S2: start and end of the label rows in seconds, in the file's order.
        job: the settings and the sequence of each modality.
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
    word_P, word_lengths_S, word_counts = _rows_in_segments(segments_S2, words_W2, "text", job)
    counts["steps_truncated"] = word_counts["steps_cut"]
    steps: dict[str, Steps] = {}
    for modality, name in job.modalities.items():
        if job.is_encoded(modality):  # one step per word; the encoder computes its values
            steps[modality] = Steps(
                values_Pd=np.zeros((len(word_P), 0), dtype=np.float32),
                lengths_S=word_lengths_S,
                real_P=np.ones(len(word_P), dtype=bool),
                counts=dict(word_counts),
            )
            continue
        rows = sequences.rows(name, video)
        if job.is_word_level(modality):
            modality_steps = _word_steps(rows, words_W2, word_P, word_lengths_S, epsilon)
            modality_steps.counts.update(word_counts)
        else:
            modality_steps = _row_steps(rows, segments_S2, modality, job)
            counts["steps_truncated"] += modality_steps.counts["steps_cut"]
        if modality in config.centre_by_video:
            modality_steps = _centre(modality_steps)
        steps[modality] = modality_steps
    return AlignedVideo(
        words=None if text is None else [str(word) for word in text[keep_W][word_P]],
        word_intervals_P2=words_W2[word_P],
        word_lengths_S=word_lengths_S,
        steps=steps,
        counts=counts,
        reference_W2=entry.intervals,
    )


def _rows_in_segments(
    segments_S2: Array, rows_R2: Array, modality: str, job: CorpusJob
) -> tuple[Array, Array, dict[str, int]]:
    """Find the rows that overlap each segment, and cut long segments.

    Returns:
        The indices of the rows `[P]`, segment after segment; the number of rows per segment `[S]`;
        and the counts `steps` and `steps_cut`.
    """
    segment_P, row_P = overlap_pairs(segments_S2, rows_R2, job.epsilon)
    length_S = np.bincount(segment_P, minlength=len(segments_S2)).astype(np.int64)
    index_P = np.arange(len(segment_P)) - (np.cumsum(length_S) - length_S)[segment_P]
    if job.align.truncate == "last":
        index_P = length_S[segment_P] - 1 - index_P
    _, limit = job.step_limit(modality)
    keep_P = index_P < limit
    counts = {"steps": len(keep_P), "steps_cut": int(np.count_nonzero(~keep_P))}
    return row_P[keep_P], np.minimum(length_S, limit), counts


def _word_steps(
    rows: Entry, words_W2: Array, word_P: Array, lengths_S: Array, epsilon: float
) -> Steps:
    """Return one step per word: the mean of the rows that overlap it."""
    cleaned = clean_values(rows.features)
    # A word may be in several segments, but its mean is computed once.
    distinct, index_P = np.unique(word_P, return_inverse=True)
    mean_Wd, count_W = overlap_mean(
        words_W2[distinct], rows.intervals, cleaned.values_Td, epsilon, cleaned.missing_Td
    )
    return Steps(
        values_Pd=mean_Wd.astype(np.float32)[index_P],
        lengths_S=lengths_S,
        real_P=count_W[index_P] > 0,
        counts=_row_counts(rows, cleaned.count, epsilon),
        intervals_R2=rows.intervals,
    )


def _row_steps(rows: Entry, segments_S2: Array, modality: str, job: CorpusJob) -> Steps:
    """Return one step per row that overlaps the segment."""
    cleaned = clean_values(rows.features)
    row_P, lengths_S, counts = _rows_in_segments(segments_S2, rows.intervals, modality, job)
    return Steps(
        values_Pd=cleaned.values_Td[row_P].astype(np.float32),
        lengths_S=lengths_S,
        real_P=np.ones(len(row_P), dtype=bool),
        counts=_row_counts(rows, cleaned.count, job.epsilon) | counts,
        intervals_R2=rows.intervals,
    )


def _row_counts(rows: Entry, cleaned: int, epsilon: float) -> dict[str, int]:
    length_R = rows.intervals[:, 1] - rows.intervals[:, 0]
    short = 0 if are_instants(rows.intervals, epsilon) else np.count_nonzero(length_R <= epsilon)
    return {
        "values": rows.features.size,
        "values_cleaned": cleaned,
        "rows": len(length_R),
        "rows_without_length": int(short),
    }


def _centre(steps: Steps) -> Steps:
    """Subtract the video's mean over real steps; the other steps are still zeros.

    A speaker's mean identifies the video, so a model can memorise the labels of train videos by
    it, which does not generalise to other speakers.
    """
    values_Pd = steps.values_Pd.copy()
    if steps.real_P.any():
        real = values_Pd[steps.real_P].astype(np.float64)
        values_Pd[steps.real_P] = (real - real.mean(0)).astype(np.float32)
    return replace(steps, values_Pd=values_Pd)
