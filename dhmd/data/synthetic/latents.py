"""Generate the ground truth: videos and splits, latent factors, reliabilities and labels.

Axes: N utterances, M modalities, S shared latents, E exclusive latents per modality, F shown
latents.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dhmd.base.errors import DhmdError
from dhmd.data.synthetic.config import GeneratorConfig

Floats = NDArray[np.float64]

MODALITIES: tuple[Literal["text", "audio", "vision"], ...] = ("text", "audio", "vision")
SPLITS = ("train", "valid", "test")
TOPICS = 6
CONTENT = 3  # number of content latents
SHARED = 1 + CONTENT  # number of shared latents; the first is the tone
EXCLUSIVE = 2  # number of exclusive latents per modality; only the first affects the ground truth
SHOWN = SHARED + EXCLUSIVE  # number of latents that a modality shows, in this order

TRUTH_SD = 1.7  # standard deviation of the ground truth before clipping
LOW, HIGH = -3.0, 3.0  # range of the labels
LABEL_STEP = 0.2  # as if averaged over five annotators who give whole numbers
FLIP = 0.4  # reliability at which the sentiment is pure noise; below it, its sign is flipped
CONTENT_STRENGTH = 0.9  # correlation between shown and true content

# Two video ids of MOSEI in different splits, one a prefix of the other: a reader that compares
# prefixes would leak test labels.
PREFIX_IDS = {"train": "25522", "test": "255224"}

_TOPIC_RADIUS, _TOPIC_SD = 1.6, 0.4
_RELIABLE, _MISLEADING = (30.0, 1.5), (2.0, 6.0)  # Beta distributions of the reliability

# The last bits of exp, log and matrix products depend on the processor. Rounding to multiples of
# 2^-12, which are exact in float32, gives the same bytes on all processors.
_GRID = 4096.0
# Times are multiples of 2^-10 s, which are exact in float32 up to 4.5 hours, so that the end of an
# interval equals the start of the next.
_TICKS = 1024.0


def random_stream(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return a random generator for one purpose, independent of those for other purposes."""
    digest = hashlib.sha256(json.dumps([seed, *purpose]).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def round_to_grid(values: NDArray[Any]) -> NDArray[np.float32]:
    """Round values to multiples of 2^-12, as float32."""
    return (np.round(np.asarray(values, dtype=np.float64) * _GRID) / _GRID).astype(np.float32)


def round_to_ticks(seconds: NDArray[Any]) -> Floats:
    """Round times in seconds to multiples of 2^-10 s."""
    return np.round(np.asarray(seconds, dtype=np.float64) * _TICKS) / _TICKS


@dataclass(frozen=True, kw_only=True)
class Video:
    """A generated video.

    Attributes:
        id: its id.
        index: its number, which selects its random generators.
        split: train, valid or test.
        first: its first row in the ground truth.
        num_segments: its number of utterances.
    """

    id: str
    index: int
    split: str
    first: int
    num_segments: int


def plan_videos(config: GeneratorConfig) -> tuple[Video, ...]:
    """Return all videos in the order of the rows of the ground truth: train, valid, test."""
    totals = (config.n_train, config.n_valid, config.n_test)
    counts = [
        (split, count)
        for split, total in zip(SPLITS, totals, strict=True)
        for count in _segment_counts(config, split, total)
    ]
    # The numbers are shuffled, so that an id does not reveal the split.
    numbers = random_stream(config.seed, "ids").permutation(len(counts))
    digits = max(4, len(str(len(counts))))
    videos: list[Video] = []
    prefixes = dict(PREFIX_IDS)
    row = 0
    for index, (split, count) in enumerate(counts):
        name = prefixes.pop(split, f"generated{numbers[index]:0{digits}d}")
        videos.append(Video(id=name, index=index, split=split, first=row, num_segments=count))
        row += count
    return tuple(videos)


def _segment_counts(config: GeneratorConfig, split: str, total: int) -> list[int]:
    """Draw the number of segments of each video in a split; they add up to `total`.

    The numbers are within the configured bounds, except that the last may be smaller.
    """
    rng = random_stream(config.seed, "segments", split)
    counts: list[int] = []
    left = total
    while left > config.segments_max:
        count = int(rng.integers(config.segments_min, config.segments_max + 1))
        # Leave enough for one more video if the bounds allow it.
        if left - count < config.segments_min:
            count = max(config.segments_min, left - config.segments_min)
        counts.append(min(count, left))
        left -= counts[-1]
    return [*counts, left] if left else counts


@dataclass(frozen=True, kw_only=True)
class GroundTruth:
    """The ground truth and the latent factors, one row per utterance.

    Attributes:
        truth_N, label_N: the label without and with annotator noise, both in [-3, 3].
        topic_N: the topic, which determines the cluster of the content latents.
        shared_NS, exclusive_NME: the latent factors of the ground truth.
        reliability_NM: the reliability of each modality, in (0, 1).
        cue_NM: the reliability that the features reveal (that of another utterance in `no_cue`).
        reversed_N: whether the text shows the opposite sentiment, and the voice the cue to it.
        shown_NMF: the latents that each modality shows.
    """

    truth_N: Floats
    label_N: Floats
    topic_N: NDArray[np.int64]
    shared_NS: Floats
    exclusive_NME: Floats
    reliability_NM: Floats
    cue_NM: Floats
    reversed_N: NDArray[np.bool_]
    shown_NMF: Floats


def gain(reliability: Floats) -> Floats:
    """Return the factor of the true sentiment: 1 at reliability 1, 0 at FLIP, negative below it."""
    return (reliability - FLIP) / (1.0 - FLIP)


def draw_ground_truth(config: GeneratorConfig) -> GroundTruth:
    """Draw the ground truth of all utterances; regimes differ only in noise and cue."""
    n, m = config.n_train + config.n_valid + config.n_test, len(MODALITIES)
    topic_N, shared_NS, offset_N = _draw_shared(config.seed, n)
    exclusive_NME = random_stream(config.seed, "exclusive").standard_normal((n, m, EXCLUSIVE))

    weights_M = np.sqrt([config.exclusive[name] for name in MODALITIES])
    raw_N = TRUTH_SD * (
        np.sqrt(config.tone) * shared_NS[:, 0]
        + np.sqrt(config.topic) * offset_N
        + (exclusive_NME[:, :, 0] * weights_M).sum(axis=1)
    )
    noise_N = random_stream(config.seed, "annotators").standard_normal(n) * config.noise
    label_N = raw_N if config.regime == "clean" else raw_N + noise_N

    reliability_NM = _draw_reliability(config, n)
    cue_NM = reliability_NM
    if config.regime == "no_cue":
        # Another utterance's reliability: the same values, but uninformative.
        cue_NM = random_stream(config.seed, "no cue").permuted(reliability_NM, axis=0)

    shown_NMF = _shown_latents(config, shared_NS, exclusive_NME, reliability_NM)
    reversed_N = random_stream(config.seed, "interaction").random(n) < config.interaction
    for sentiment in (0, SHARED):
        shown_NMF[reversed_N, MODALITIES.index("text"), sentiment] *= -1.0

    return GroundTruth(
        truth_N=to_label(raw_N),
        label_N=to_label(label_N),
        topic_N=topic_N,
        shared_NS=shared_NS,
        exclusive_NME=exclusive_NME,
        reliability_NM=reliability_NM,
        cue_NM=cue_NM,
        reversed_N=reversed_N,
        shown_NMF=shown_NMF,
    )


def to_label(raw_N: Floats) -> Floats:
    """Clip values to the range of the labels, and round them to multiples of LABEL_STEP."""
    return np.round(np.clip(raw_N, LOW, HIGH) / LABEL_STEP) * LABEL_STEP


def _draw_shared(seed: int, n: int) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Draw the topic `[N]`, the shared latents `[N, S]` and the offset of the topic `[N]`."""
    rng = random_stream(seed, "shared")
    topic_N = rng.integers(0, TOPICS, n)
    tone_N1 = rng.standard_normal((n, 1))
    # The centres of the topics are on both ends of each content axis.
    centres = np.concatenate([np.eye(CONTENT), -np.eye(CONTENT)]) * _TOPIC_RADIUS
    content_NC = centres[topic_N] + _TOPIC_SD * rng.standard_normal((n, CONTENT))
    offsets: Floats = np.arange(TOPICS, dtype=np.float64) - (TOPICS - 1) / 2
    offsets /= math.sqrt((offsets**2).mean())
    offsets = random_stream(seed, "topics").permutation(offsets)
    return topic_N, np.concatenate([tone_N1, content_NC], axis=1), offsets[topic_N]


def _draw_reliability(config: GeneratorConfig, n: int) -> Floats:
    """Draw the reliability of each modality `[N, M]`."""
    columns = []
    for name in MODALITIES:
        rng = random_stream(config.seed, "reliability", name)
        misleads_N = rng.random(n) < config.misleading[name]
        columns.append(np.where(misleads_N, rng.beta(*_MISLEADING, n), rng.beta(*_RELIABLE, n)))
    return np.stack(columns, axis=1)


def _shown_latents(
    config: GeneratorConfig, shared_NS: Floats, exclusive_NME: Floats, reliability_NM: Floats
) -> Floats:
    """Compute the latents that each modality shows, `[N, M, F]`.

    The reliability scales or flips the sentiment (the tone and the first exclusive latent), but not
    the other latents. An unrelated draw of the same distribution restores the variance, so that
    only the cue reveals the reliability. Then noise is added.
    """
    n = len(shared_NS)
    shown = np.empty((n, len(MODALITIES), SHOWN))
    for index, name in enumerate(MODALITIES):
        rng = random_stream(config.seed, "shown", name)
        true_NF = np.concatenate([shared_NS, exclusive_NME[:, index]], axis=1)
        other_NF = rng.standard_normal((n, SHOWN))
        noise_NF = rng.standard_normal((n, SHOWN))
        strength_F = np.full(SHOWN, CONTENT_STRENGTH)
        gain_NF = np.ones((n, SHOWN))
        for sentiment in (0, SHARED):
            strength_F[sentiment] = config.strength[name]
            gain_NF[:, sentiment] = gain(reliability_NM[:, index])
        signal_NF = gain_NF * true_NF + np.sqrt(1.0 - gain_NF**2) * other_NF
        shown[:, index] = strength_F * signal_NF + np.sqrt(1.0 - strength_F**2) * noise_NF
    return shown


def oracle_mae(truth: NDArray[np.floating], labels: NDArray[np.floating]) -> float:
    """Return the mean absolute error of the ground truth as a prediction of noisy labels.

    The ground truth is the label before annotator noise, clipped like the label, so it is the
    median of possible labels: no predictor has a lower expected error.

    Args:
        truth: the ground truth `[N]`.
        labels: the labels with annotator noise `[N]`.

    Raises:
        DhmdError: the shapes differ, or are empty.
    """
    if truth.shape != labels.shape or truth.ndim != 1 or truth.size == 0:
        raise DhmdError(
            f"the oracle needs one ground truth per label, got {truth.shape} for {labels.shape}"
        )
    return float(np.mean(np.abs(truth.astype(np.float64) - labels.astype(np.float64))))
