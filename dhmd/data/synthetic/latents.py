"""What is planted an utterance: latents, reliabilities, truth, labels, what a modality shows.

Shapes: N utterances, M modalities, S shared latents, E exclusive latents a modality.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dhmd.data.synthetic.config import GeneratorConfig
from dhmd.data.synthetic.streams import stream

Floats = NDArray[np.float64]

MODALITIES = ("text", "audio", "vision")
TOPICS = 6
CONTENT = 3  # content dimensions of the shared latent; shared_0 is the tone
SHARED = 1 + CONTENT
EXCLUSIVE = 2  # exclusive_<m>_0 carries part of the truth, exclusive_<m>_1 none
SHOWN = SHARED + EXCLUSIVE  # latents a modality shows, in this order

TRUTH_SD = 1.7
LOW, HIGH = -3.0, 3.0
LABEL_STEP = 0.2  # the average of five annotators who give whole numbers
FLIP = 0.4  # at this reliability a modality's sentiment is pure noise; below, it turns round
CONTENT_STRENGTH = 0.9

_TOPIC_RADIUS, _TOPIC_SD = 1.6, 0.4
_RELIABLE, _MISLEADING = (30.0, 1.5), (2.0, 6.0)  # Beta distributions of the reliability


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything planted, one row an utterance.

    Attributes:
        truth_N, label_N: the label without and with annotator noise, both on [-3, 3].
        topic_N: cluster of the shared latent's content.
        shared_NS, exclusive_NME: the latents behind the truth.
        reliability_NM: in (0, 1).
        cue_NM: the reliability that the features betray (another utterance's in `no_cue`).
        shown_NMF: the latents as a modality shows them (F = SHOWN).
    """

    truth_N: Floats
    label_N: Floats
    topic_N: NDArray[np.int64]
    shared_NS: Floats
    exclusive_NME: Floats
    reliability_NM: Floats
    cue_NM: Floats
    shown_NMF: Floats


def gain(reliability: Floats) -> Floats:
    """How much of the true sentiment a modality shows: 1 at r = 1, 0 at FLIP, negative below."""
    return (reliability - FLIP) / (1.0 - FLIP)


def plan(config: GeneratorConfig) -> Plan:
    """Draw all utterances. The streams do not depend on the regime: only noise or cue differ."""
    n, m = config.n_train + config.n_valid + config.n_test, len(MODALITIES)
    topic_N, shared_NS, offset_N = _shared(config.seed, n)
    exclusive_NME = stream(config.seed, "exclusive").standard_normal((n, m, EXCLUSIVE))

    own = config.exclusive
    weights_M = np.sqrt([own.text, own.audio, own.vision])
    raw_N = TRUTH_SD * (
        np.sqrt(config.tone) * shared_NS[:, 0]
        + np.sqrt(config.topic) * offset_N
        + (exclusive_NME[:, :, 0] * weights_M).sum(axis=1)
    )
    noise_N = stream(config.seed, "annotators").standard_normal(n) * config.noise
    label_N = raw_N if config.regime == "clean" else raw_N + noise_N

    reliability_NM = _reliability(config, n)
    cue_NM = reliability_NM
    if config.regime == "no_cue":
        # Another utterance's reliability: the same values, and nothing to learn from them.
        cue_NM = stream(config.seed, "no cue").permuted(reliability_NM, axis=0)

    return Plan(
        truth_N=to_label(raw_N),
        label_N=to_label(label_N),
        topic_N=topic_N,
        shared_NS=shared_NS,
        exclusive_NME=exclusive_NME,
        reliability_NM=reliability_NM,
        cue_NM=cue_NM,
        shown_NMF=_shown(config, shared_NS, exclusive_NME, reliability_NM),
    )


def to_label(raw_N: Floats) -> Floats:
    """Clip to the label's range and round to its steps."""
    return np.round(np.clip(raw_N, LOW, HIGH) / LABEL_STEP) * LABEL_STEP


def _shared(seed: int, n: int) -> tuple[NDArray[np.int64], Floats, Floats]:
    """Topic [N], shared latents [N,S] and the topic's standardised offset of the truth [N]."""
    rng = stream(seed, "shared")
    topic_N = rng.integers(0, TOPICS, n)
    tone_N1 = rng.standard_normal((n, 1))
    # Topics sit on both ends of each content axis; which topic means what is drawn a corpus.
    centres = np.concatenate([np.eye(CONTENT), -np.eye(CONTENT)]) * _TOPIC_RADIUS
    content_NC = centres[topic_N] + _TOPIC_SD * rng.standard_normal((n, CONTENT))
    offsets: Floats = np.arange(TOPICS, dtype=np.float64) - (TOPICS - 1) / 2
    offsets /= math.sqrt((offsets**2).mean())
    offsets = stream(seed, "topics").permutation(offsets)
    return topic_N, np.concatenate([tone_N1, content_NC], axis=1), offsets[topic_N]


def _reliability(config: GeneratorConfig, n: int) -> Floats:
    columns = []
    for name in MODALITIES:
        rng = stream(config.seed, "reliability", name)
        share: float = getattr(config.misleading, name)
        misleads_N = rng.random(n) < share
        columns.append(np.where(misleads_N, rng.beta(*_MISLEADING, n), rng.beta(*_RELIABLE, n)))
    return np.stack(columns, axis=1)


def _shown(
    config: GeneratorConfig, shared_NS: Floats, exclusive_NME: Floats, reliability_NM: Floats
) -> Floats:
    """What each modality shows [N,M,F]: latents dimmed, replaced or turned round, plus noise.

    Sentiment (tone and exclusive_0) goes through the reliability; content and exclusive_1 do
    not. What is lost is replaced by an unrelated draw of the same distribution, so that the size
    of a signal betrays nothing: only the cue does.
    """
    n = len(shared_NS)
    shown = np.empty((n, len(MODALITIES), SHOWN))
    for index, name in enumerate(MODALITIES):
        rng = stream(config.seed, "shown", name)
        true_NF = np.concatenate([shared_NS, exclusive_NME[:, index]], axis=1)
        other_NF = rng.standard_normal((n, SHOWN))
        noise_NF = rng.standard_normal((n, SHOWN))
        strength_F = np.full(SHOWN, CONTENT_STRENGTH)
        gain_NF = np.ones((n, SHOWN))
        for sentiment in (0, SHARED):
            strength_F[sentiment] = getattr(config.strength, name)
            gain_NF[:, sentiment] = gain(reliability_NM[:, index])
        kept_NF = gain_NF * true_NF + np.sqrt(1.0 - gain_NF**2) * other_NF
        shown[:, index] = strength_F * kept_NF + np.sqrt(1.0 - strength_F**2) * noise_NF
    return shown
