"""One video: its words and rows, given to its label segments.

S label segments, W words of the video, P steps of all segments one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from dhmd.data.alignment.clean import clean_values
from dhmd.data.alignment.overlap import overlap_mean, overlap_pairs
from dhmd.data.alignment.plan import Plan
from dhmd.data.alignment.sources import Sequences
from dhmd.data.csd import Entry

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Steps:
    """The rows of one modality in a video's segments.

    Attributes:
        values_Pd: float32, finite.
        lengths_S: steps of each segment.
        real_P: False where a word has no value in the modality and got zeros.
        bad_values: how many values of the video were not finite.
    """

    values_Pd: Array
    lengths_S: Array
    real_P: Array
    bad_values: int

    @property
    def present(self) -> Array:
        """`[S]` bool: at least one real row."""
        segment_P = np.repeat(np.arange(len(self.lengths_S)), self.lengths_S)
        present_S: Array = np.bincount(segment_P[self.real_P], minlength=len(self.lengths_S)) > 0
        return present_S


@dataclass(frozen=True, eq=False)
class AlignedVideo:
    """A video's segments, before empty ones are dropped.

    Attributes:
        words: P words, or None where the reference holds numbers.
        word_intervals_P2: seconds.
        word_lengths_S: words of each segment, after truncation.
        steps: modality -> Steps.
        counts: words_short, words_dropped, steps_truncated.
    """

    words: list[str] | None
    word_intervals_P2: Array
    word_lengths_S: Array
    steps: dict[str, Steps]
    counts: dict[str, int]


def align_video(sequences: Sequences, video: str, segments_S2: Array, plan: Plan) -> AlignedVideo:
    """Align one video.

    Args:
        sequences: the open sequences.
        video: its id.
        segments_S2: the label rows' intervals in seconds, in the file's order.
        plan: how.

    Raises:
        DhmdError: a defect of the files (see Sequences).
    """
    config, epsilon = plan.config, plan.epsilon
    entry = sequences.rows(plan.reference, video)
    text = entry.features[:, 0] if entry.features.dtype == object else None
    keep_W = entry.intervals[:, 1] - entry.intervals[:, 0] >= epsilon
    counts = {"words_short": int(np.count_nonzero(~keep_W)), "words_dropped": 0}
    if text is not None and config.drop_words:
        dropped_W = keep_W & np.isin(text.astype(str), config.drop_words)
        counts["words_dropped"] = int(np.count_nonzero(dropped_W))
        keep_W &= ~dropped_W
    words_W2 = entry.intervals[keep_W]
    segment_P, word_P = overlap_pairs(segments_S2, words_W2, epsilon)
    stay_P = _truncation(segment_P, len(segments_S2), plan.max_steps("text"), config.truncate)
    counts["steps_truncated"] = int(np.count_nonzero(~stay_P))
    segment_P, word_P = segment_P[stay_P], word_P[stay_P]
    word_lengths_S = np.bincount(segment_P, minlength=len(segments_S2)).astype(np.int64)

    steps: dict[str, Steps] = {}
    for modality, name in plan.modalities.items():
        if plan.encodes(modality):
            steps[modality] = _words_alone(word_lengths_S)
            continue
        rows = sequences.rows(name, video)
        if plan.by_word(modality):
            steps[modality] = _word_steps(rows, words_W2, word_P, word_lengths_S, epsilon)
        else:
            limit = plan.max_steps(modality)
            own, cut = _own_steps(rows, segments_S2, limit, config.truncate, epsilon)
            steps[modality] = own
            counts["steps_truncated"] += cut
        if modality in config.centre_by_video:
            steps[modality] = _centred(steps[modality])
    return AlignedVideo(
        words=None if text is None else [str(word) for word in text[keep_W][word_P]],
        word_intervals_P2=words_W2[word_P],
        word_lengths_S=word_lengths_S,
        steps=steps,
        counts=counts,
    )


def _centred(steps: Steps) -> Steps:
    """The same without the video's mean over real steps; steps without a value stay zeros.

    A speaker's level identifies the video, and with it the labels of a train video: a model learns
    it by heart and nothing of it holds for another speaker.
    """
    values_Pd = steps.values_Pd.copy()
    if steps.real_P.any():
        real = values_Pd[steps.real_P].astype(np.float64)
        values_Pd[steps.real_P] = (real - real.mean(0)).astype(np.float32)
    return replace(steps, values_Pd=values_Pd)


def _words_alone(lengths_S: Array) -> Steps:
    """One step per word, without values: the text encoder computes them later (words.py)."""
    count = int(lengths_S.sum())
    return Steps(
        values_Pd=np.zeros((count, 0), dtype=np.float32),
        lengths_S=lengths_S,
        real_P=np.ones(count, dtype=bool),
        bad_values=0,
    )


def _word_steps(
    rows: Entry, words_W2: Array, word_P: Array, lengths_S: Array, epsilon: float
) -> Steps:
    """One step a word: the mean of the rows that overlap it."""
    cleaned = clean_values(rows.features)
    # A word may be in several segments: its mean is taken once.
    used, used_P = np.unique(word_P, return_inverse=True)
    mean_Wd, count_W = overlap_mean(
        words_W2[used], rows.intervals, cleaned.values_Td, epsilon, cleaned.bad_Td
    )
    return Steps(
        values_Pd=mean_Wd.astype(np.float32)[used_P],
        lengths_S=lengths_S,
        real_P=count_W[used_P] > 0,
        bad_values=cleaned.count,
    )


def _own_steps(
    rows: Entry,
    segments_S2: Array,
    limit: int,
    truncate: Literal["first", "last"],
    epsilon: float,
) -> tuple[Steps, int]:
    """One step a row that overlaps the segment, and how many were cut off."""
    cleaned = clean_values(rows.features)
    segment_P, row_P = overlap_pairs(segments_S2, rows.intervals, epsilon)
    stay_P = _truncation(segment_P, len(segments_S2), limit, truncate)
    segment_P, row_P = segment_P[stay_P], row_P[stay_P]
    steps = Steps(
        values_Pd=cleaned.values_Td[row_P].astype(np.float32),
        lengths_S=np.bincount(segment_P, minlength=len(segments_S2)).astype(np.int64),
        real_P=np.ones(len(row_P), dtype=bool),
        bad_values=cleaned.count,
    )
    return steps, int(np.count_nonzero(~stay_P))


def _truncation(
    segment_P: Array, segments: int, limit: int, which: Literal["first", "last"]
) -> Array:
    """`[P]` bool: the steps that stay when each segment keeps its first or last `limit`."""
    length_S = np.bincount(segment_P, minlength=segments)
    begin_S = np.cumsum(length_S) - length_S
    place_P = np.arange(len(segment_P)) - begin_S[segment_P]
    if which == "last":
        place_P = length_S[segment_P] - 1 - place_P
    stay_P: Array = place_P < limit
    return stay_P
