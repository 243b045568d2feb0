"""Faults that real files have: missing segments, gaps, values that are no numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dhmd.data.synthetic.config import GeneratorConfig
from dhmd.data.synthetic.frames import Channel
from dhmd.data.synthetic.layout import Video
from dhmd.data.synthetic.streams import stream
from dhmd.data.synthetic.text import Transcript

_MISSING = {"audio": 0.01, "vision": 0.02}  # of the utterances
_INFINITE, _NOT_A_NUMBER = 0.004, 0.002  # of the audio frames, one value each
_GAP, _GAP_LEAST = 0.2, 2.0  # of the utterances, in seconds of speech
_EDGE = 1e-3  # seconds: what an aligner may count as overlap


@dataclass(frozen=True, kw_only=True)
class Absences:
    """Rows of the plan without a modality; never both of one utterance."""

    audio: frozenset[int]
    vision: frozenset[int]


def absences(config: GeneratorConfig) -> Absences:
    """Choose the utterances without audio (1 %) and without vision (2 %), one at least each."""
    n = config.n_train + config.n_valid + config.n_test
    audio, vision = (max(1, round(_MISSING[name] * n)) for name in ("audio", "vision"))
    rows = [int(row) for row in stream(config.seed, "absences").permutation(n)]
    return Absences(audio=frozenset(rows[:audio]), vision=frozenset(rows[audio : audio + vision]))


def spoil(
    config: GeneratorConfig,
    channel: Channel,
    video: Video,
    transcript: Transcript,
    missing: Absences,
    frames_TD: NDArray[np.float32],
    intervals_T2: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """The video's frames and intervals with the faults in them."""
    rng = stream(config.seed, "faults", channel, video.index)
    absent = missing.audio if channel == "audio" else missing.vision
    keep_T = np.ones(len(frames_TD), dtype=bool)
    for index, (start, end) in enumerate(transcript.segments_S2):
        gap = rng.random() < _GAP and channel == "vision" and end - start >= _GAP_LEAST
        if video.first + index in absent:
            keep_T &= ~_touches(intervals_T2, start, end)
        elif gap:
            # The face is lost for a while; the utterance's ends stay.
            keep_T &= ~_touches(
                intervals_T2, start + 0.3 * (end - start), start + 0.7 * (end - start)
            )
    frames_TD = frames_TD.copy()
    if channel == "audio":
        chance_T = rng.random(len(frames_TD))
        column_T = rng.integers(0, frames_TD.shape[1], len(frames_TD))
        if video.index == 0:
            first = np.flatnonzero(keep_T)[:2]
            chance_T[first] = (0.0, _INFINITE)[: len(first)]  # one of each in any corpus
        infinite_T = chance_T < _INFINITE
        undefined_T = ~infinite_T & (chance_T < _INFINITE + _NOT_A_NUMBER)
        frames_TD[infinite_T, column_T[infinite_T]] = -np.inf
        frames_TD[undefined_T, column_T[undefined_T]] = np.nan
    return frames_TD[keep_T], intervals_T2[keep_T]


def _touches(intervals_T2: NDArray[np.float64], start: float, end: float) -> NDArray[np.bool_]:
    touching: NDArray[np.bool_] = (intervals_T2[:, 0] < end + _EDGE) & (
        intervals_T2[:, 1] > start - _EDGE
    )
    return touching
