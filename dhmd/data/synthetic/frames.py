"""Audio and vision frames of a video: the shown latents, spread over many dimensions and time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dhmd.data.synthetic.config import GeneratorConfig
from dhmd.data.synthetic.latents import MODALITIES, SHOWN, Plan
from dhmd.data.synthetic.layout import Video
from dhmd.data.synthetic.streams import on_grid, on_ticks, stream
from dhmd.data.synthetic.text import Transcript

_NUISANCES = 6  # latents an utterance that fill the features and mean nothing
_SIGNAL, _NUISANCE, _SPEAKER, _CUE, _ENERGY = 2.0, 1.5, 0.4, 2.0, 1.0
_CUE_SD = 0.3  # what blurs the cue, on the reliability's scale of (-1, 1)
_LAG = {"audio": 0.1, "vision": -0.15}  # seconds behind the words

Channel = Literal["audio", "vision"]


@dataclass(frozen=True, kw_only=True)
class Loadings:
    """Directions of one modality's frame space [.., D], fixed a corpus.

    `energy_D` shows the emphasis, `cue_D` the reliability.
    """

    signal_FD: NDArray[np.float64]
    nuisance_KD: NDArray[np.float64]
    cue_D: NDArray[np.float64]
    energy_D: NDArray[np.float64]


def dimensions(config: GeneratorConfig, channel: Channel) -> int:
    """Length of one frame."""
    return config.audio_dims if channel == "audio" else config.vision_dims


def loadings(config: GeneratorConfig, channel: Channel) -> Loadings:
    """Draw the directions, each of length one before its scale."""
    rng = stream(config.seed, "loadings", channel)
    rows = rng.standard_normal((SHOWN + _NUISANCES + 2, dimensions(config, channel)))
    rows /= np.sqrt((rows**2).sum(axis=1, keepdims=True))
    return Loadings(
        signal_FD=_SIGNAL * rows[:SHOWN],
        nuisance_KD=_NUISANCE * rows[SHOWN : SHOWN + _NUISANCES],
        cue_D=_CUE * rows[-2],
        energy_D=_ENERGY * rows[-1],
    )


def film(
    config: GeneratorConfig,
    channel: Channel,
    video: Video,
    plan: Plan,
    transcript: Transcript,
    directions: Loadings,
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Frames [T, D] and intervals [T, 2] of one video, at the channel's own rate and phase."""
    rng = stream(config.seed, "frames", channel, video.index)
    rate = config.audio_rate if channel == "audio" else config.vision_rate
    d = dimensions(config, channel)
    modality = MODALITIES.index(channel)
    rows = slice(video.first, video.first + video.segments)

    phase = rng.random() / rate
    count = max(1, int((transcript.end - phase) * rate))
    edges = on_ticks(phase + np.arange(count + 1) / rate)
    intervals_T2 = np.stack([edges[:-1], edges[1:]], axis=1)

    # Which utterance a frame shows, and how far into it: the face and voice run ahead or behind.
    middle_T = intervals_T2.mean(axis=1) - _LAG[channel]
    start_S, end_S = transcript.segments_S2.T
    segment_T = np.clip(np.searchsorted(start_S, middle_T, side="right") - 1, 0, None)
    inside_T = (middle_T >= start_S[segment_T]) & (middle_T < end_S[segment_T])
    place_T = (middle_T - start_S[segment_T]) / (end_S - start_S)[segment_T]

    cue_S = 2.0 * plan.cue_NM[rows, modality] - 1.0
    cue_S = cue_S + _CUE_SD * rng.standard_normal(video.segments)
    nuisance_SK = rng.standard_normal((video.segments, _NUISANCES))
    steady_SD = np.outer(cue_S, directions.cue_D) + nuisance_SK @ directions.nuisance_KD
    signal_SD = plan.shown_NMF[rows, modality] @ directions.signal_FD

    # The signal swells once an utterance, somewhere in its middle; the energy shows where.
    peak_S = rng.uniform(0.2, 0.8, video.segments)
    swell_T = 0.55 + 0.9 * np.exp(-(((place_T - peak_S[segment_T]) / 0.25) ** 2))
    shown_TD = swell_T[:, None] * signal_SD[segment_T] + steady_SD[segment_T]
    shown_TD += np.outer(swell_T - 1.0, directions.energy_D)

    noise_TD = rng.standard_normal((count + 1, d))
    noise_TD = 0.8 * noise_TD[1:] + 0.6 * noise_TD[:-1]  # neighbours are alike, variance 1
    speaker_D = _SPEAKER * rng.standard_normal(d)
    return on_grid(speaker_D + noise_TD + np.where(inside_T[:, None], shown_TD, 0.0)), intervals_T2
