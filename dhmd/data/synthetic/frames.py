"""Generate audio and vision frames, which show the latent factors over dimensions and time.

Like real files, they have faults: missing segments, gaps and values that are not finite.

Axes: T frames, S segments of a video, D dimensions of a frame, F shown latents, K nuisance latents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dhmd.data.synthetic.config import GeneratorConfig
from dhmd.data.synthetic.latents import (
    MODALITIES,
    SHOWN,
    GroundTruth,
    Video,
    random_stream,
    round_to_grid,
    round_to_ticks,
)
from dhmd.data.synthetic.transcripts import Transcript

_NUISANCES = 6  # latents per utterance that are unrelated to the label
_SIGNAL, _NUISANCE, _SPEAKER, _CUE, _ENERGY = 2.0, 1.5, 0.4, 2.0, 1.0  # scales of the components
_CUE_SD = 0.3  # standard deviation of the cue's noise; the cue is the reliability scaled to (-1, 1)
# The cue that the words mean the opposite is a burst of Gaussian shape. Its centre has this
# distance from the start or the end; distance and width are shares of the utterance.
_BURST, _BURST_CENTRE, _BURST_WIDTH = 3.0, (0.1, 0.25), 0.08
_LAG = {"audio": 0.1, "vision": -0.15}  # seconds by which frames lag behind the words

_MISSING = {"audio": 0.01, "vision": 0.02}  # shares of the utterances
_INFINITE, _NOT_A_NUMBER = 0.004, 0.002  # shares of the audio frames with one such value
_GAP, _GAP_MIN_SECONDS = 0.2, 2.0  # share of long utterances with a gap; their minimum length
_EDGE = 1e-3  # seconds; an alignment may count a shorter distance as overlap

Channel = Literal["audio", "vision"]


@dataclass(frozen=True, kw_only=True)
class Loadings:
    """The directions of one modality in its frame space, constant within a corpus.

    Attributes:
        signal_FD: one direction per shown latent.
        nuisance_KD: one direction per nuisance latent.
        cue_D: the direction of the reliability.
        energy_D: the direction of the emphasis.
    """

    signal_FD: NDArray[np.float64]
    nuisance_KD: NDArray[np.float64]
    cue_D: NDArray[np.float64]
    energy_D: NDArray[np.float64]


def frame_width(config: GeneratorConfig, channel: Channel) -> int:
    """Return the width of a frame."""
    return config.audio_dims if channel == "audio" else config.vision_dims


def draw_loadings(config: GeneratorConfig, channel: Channel) -> Loadings:
    """Draw the directions as unit vectors, and multiply each by the scale of its component."""
    rng = random_stream(config.seed, "loadings", channel)
    rows = rng.standard_normal((SHOWN + _NUISANCES + 2, frame_width(config, channel)))
    rows /= np.sqrt((rows**2).sum(axis=1, keepdims=True))
    return Loadings(
        signal_FD=_SIGNAL * rows[:SHOWN],
        nuisance_KD=_NUISANCE * rows[SHOWN : SHOWN + _NUISANCES],
        cue_D=_CUE * rows[-2],
        energy_D=_ENERGY * rows[-1],
    )


def draw_frames(
    config: GeneratorConfig,
    channel: Channel,
    video: Video,
    truth: GroundTruth,
    transcript: Transcript,
    directions: Loadings,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Draw the frames `[T, D]` of one video, and their intervals `[T, 2]` in seconds."""
    rng = random_stream(config.seed, "frames", channel, video.index)
    rate = config.audio_rate if channel == "audio" else config.vision_rate
    d = frame_width(config, channel)
    modality = MODALITIES.index(channel)
    rows = slice(video.first, video.first + video.num_segments)

    phase = rng.random() / rate
    count = max(1, int((transcript.end - phase) * rate))
    edges = round_to_ticks(phase + np.arange(count + 1) / rate)
    intervals_T2 = np.stack([edges[:-1], edges[1:]], axis=1)

    # The utterance of each frame, and the frame's position in it (0 to 1).
    middle_T = intervals_T2.mean(axis=1) - _LAG[channel]
    start_S, end_S = transcript.segments_S2.T
    segment_T = np.clip(np.searchsorted(start_S, middle_T, side="right") - 1, 0, None)
    inside_T = (middle_T >= start_S[segment_T]) & (middle_T < end_S[segment_T])
    position_T = (middle_T - start_S[segment_T]) / (end_S - start_S)[segment_T]

    cue_S = 2.0 * truth.cue_NM[rows, modality] - 1.0
    cue_S = cue_S + _CUE_SD * rng.standard_normal(video.num_segments)
    nuisance_SK = rng.standard_normal((video.num_segments, _NUISANCES))
    steady_SD = np.outer(cue_S, directions.cue_D) + nuisance_SK @ directions.nuisance_KD
    signal_SD = truth.shown_NMF[rows, modality] @ directions.signal_FD

    # The signal has one peak per utterance, and the energy shows its position.
    peak_S = rng.uniform(0.2, 0.8, video.num_segments)
    swell_T = 0.55 + 0.9 * np.exp(-(((position_T - peak_S[segment_T]) / 0.25) ** 2))
    shown_TD = swell_T[:, None] * signal_SD[segment_T] + steady_SD[segment_T]
    shown_TD += np.outer(swell_T - 1.0, directions.energy_D)

    noise_TD = rng.standard_normal((count + 1, d))
    noise_TD = 0.8 * noise_TD[1:] + 0.6 * noise_TD[:-1]  # neighbours correlate; the variance is 1
    speaker_D = _SPEAKER * rng.standard_normal(d)
    if config.interaction > 0 and channel == "audio":
        shown_TD += _bursts(config, video, truth.reversed_N[rows], position_T, segment_T, d)
    return round_to_grid(
        speaker_D + noise_TD + np.where(inside_T[:, None], shown_TD, 0.0)
    ), intervals_T2


def _bursts(
    config: GeneratorConfig,
    video: Video,
    reversed_S: NDArray[np.bool_],
    position_T: NDArray[np.float64],
    segment_T: NDArray[np.int64],
    dims: int,
) -> NDArray[np.float64]:
    """Return the cue `[T, D]` of utterances whose words mean the opposite; else zeros."""
    direction_D = random_stream(config.seed, "loadings", "interaction").standard_normal(dims)
    direction_D *= _BURST / np.sqrt((direction_D**2).sum())
    rng = random_stream(config.seed, "interaction", video.index)
    centre_S = rng.uniform(*_BURST_CENTRE, video.num_segments)
    centre_S = np.where(rng.random(video.num_segments) < 0.5, centre_S, 1.0 - centre_S)
    distance_T = (position_T - centre_S[segment_T]) / _BURST_WIDTH
    size_T = reversed_S[segment_T] * np.exp(-0.5 * distance_T**2)
    return np.outer(size_T, direction_D)


def absent_utterances(config: GeneratorConfig) -> dict[Channel, frozenset[int]]:
    """Choose the utterances without audio (1%) and those without vision (2%).

    Returns:
        The rows of the ground truth for each channel, at least one; no utterance lacks both.
    """
    n = config.n_train + config.n_valid + config.n_test
    audio, vision = (max(1, round(_MISSING[name] * n)) for name in ("audio", "vision"))
    rows = [int(row) for row in random_stream(config.seed, "absences").permutation(n)]
    return {"audio": frozenset(rows[:audio]), "vision": frozenset(rows[audio : audio + vision])}


def add_faults(
    config: GeneratorConfig,
    channel: Channel,
    video: Video,
    transcript: Transcript,
    absent: frozenset[int],
    frames_TD: NDArray[np.float32],
    intervals_T2: NDArray[np.float64],
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Add faults to the frames and intervals of a video, and return both.

    `absent` has the rows of the ground truth whose utterances lack the channel.
    """
    rng = random_stream(config.seed, "faults", channel, video.index)
    keep_T = np.ones(len(frames_TD), dtype=bool)
    for index, (start, end) in enumerate(transcript.segments_S2):
        gap = rng.random() < _GAP and channel == "vision" and end - start >= _GAP_MIN_SECONDS
        if video.first + index in absent:
            keep_T &= ~_touches(intervals_T2, start, end)
        elif gap:
            # The face is not visible in the middle of the utterance.
            keep_T &= ~_touches(
                intervals_T2, start + 0.3 * (end - start), start + 0.7 * (end - start)
            )
    frames_TD = frames_TD.copy()
    if channel == "audio":
        chance_T = rng.random(len(frames_TD))
        column_T = rng.integers(0, frames_TD.shape[1], len(frames_TD))
        if video.index == 0:
            first = np.flatnonzero(keep_T)[:2]
            chance_T[first] = (0.0, _INFINITE)[: len(first)]  # at least one of each per corpus
        infinite_T = chance_T < _INFINITE
        undefined_T = ~infinite_T & (chance_T < _INFINITE + _NOT_A_NUMBER)
        frames_TD[infinite_T, column_T[infinite_T]] = -np.inf
        frames_TD[undefined_T, column_T[undefined_T]] = np.nan
    return frames_TD[keep_T], intervals_T2[keep_T]


def _touches(intervals_T2: NDArray[np.float64], start: float, end: float) -> NDArray[np.bool_]:
    """Return a mask `[T]` of the intervals that overlap or touch the one from start to end."""
    touching: NDArray[np.bool_] = (intervals_T2[:, 0] < end + _EDGE) & (
        intervals_T2[:, 1] > start - _EDGE
    )
    return touching
