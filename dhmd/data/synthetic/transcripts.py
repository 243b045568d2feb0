"""A vocabulary with consistent vectors, and sentences that express the latent factors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dhmd.data.synthetic.config import GeneratorConfig
from dhmd.data.synthetic.latents import (
    CONTENT,
    EXCLUSIVE,
    SHARED,
    GroundTruth,
    Video,
    random_stream,
    round_to_grid,
    round_to_ticks,
)

PAUSE = "sp"
NEGATION = "not"
FILLERS = ("um", "uh")
PAUSE_ROW = -1  # in place of a word's number

_SENTIMENT, _TOPIC, _PLAIN = 120, 80, 160
_SPREAD = 1.2  # sd of word meanings
_FOCUS = 0.35  # how closely a chosen word matches the intended meaning
_KINDS = (0.5, 0.2, 0.3)  # sentiment, topic, plain words of a sentence
_NEGATED = 0.2  # of the plain words before a sentiment word
_PAUSES = 0.2  # of the gaps between two words
_SILENCE = (1.1, 3.0)  # seconds of silence before and after the speech
_EMPTY = 0.012  # words of zero length, of the gaps between two words

Numbers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """Words by number: sentiment words first, then topic words, then words without meaning.

    `good…` and `bad…` mean a tone and an exclusive sentiment; `thing…` a content and the exclusive
    latent without label; `word…`, `um`, `uh` nothing; `not` negates the next word.
    """

    words: tuple[str, ...]
    vectors_VD: NDArray[np.float32]
    sentiment_V2: NDArray[np.float64]
    topic_V4: NDArray[np.float64]

    @property
    def plain(self) -> range:
        """Numbers of the words without meaning."""
        first = len(self.sentiment_V2) + len(self.topic_V4)
        return range(first, first + _PLAIN)

    def number(self, word: str) -> int:
        """Return a word's number."""
        return self.words.index(word)


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """A video's word rows in time order, pauses included, and its label segments.

    Attributes:
        numbers_T: word numbers, PAUSE_ROW for a pause.
        intervals_T2, segments_S2: seconds.
        end: seconds, where the recording ends.
    """

    numbers_T: Numbers
    intervals_T2: NDArray[np.float64]
    segments_S2: NDArray[np.float64]
    end: float


def vocabulary(config: GeneratorConfig) -> Vocabulary:
    """Draw the corpus's words with their meanings and vectors [V, text_dims]."""
    rng = random_stream(config.seed, "vocabulary")
    d = config.text_dims
    sentiment = _SPREAD * rng.standard_normal((_SENTIMENT, 2))
    # Topic words must reach the topics' centres, hence the wider spread.
    topic = 1.2 * _SPREAD * rng.standard_normal((_TOPIC, CONTENT + EXCLUSIVE - 1))
    names = [f"{'good' if s >= 0 else 'bad'}{i}" for i, s in enumerate(sentiment.sum(axis=1))]
    names += [f"thing{i}" for i in range(_TOPIC)]
    names += [f"word{i}" for i in range(_PLAIN)]
    names += [*FILLERS, NEGATION]

    axes = rng.standard_normal((6, d))
    axes /= np.sqrt((axes**2).sum(axis=1, keepdims=True))
    kinds = 0.35 * rng.standard_normal((3, d))
    vectors = 0.2 * rng.standard_normal((len(names), d))
    topics = slice(_SENTIMENT, _SENTIMENT + _TOPIC)
    plain = slice(_SENTIMENT + _TOPIC, _SENTIMENT + _TOPIC + _PLAIN)
    vectors[:_SENTIMENT] += sentiment @ axes[:2] + kinds[0]
    vectors[topics] += topic @ axes[2:] + kinds[1]
    # Plain words lie along the meaning axes too: only their kind distinguishes them.
    vectors[plain] += 0.5 * rng.standard_normal((_PLAIN, 6)) @ axes + kinds[2]
    vectors[plain.stop :] += 0.6 * rng.standard_normal((len(names) - plain.stop, d))
    return Vocabulary(
        words=tuple(names),
        vectors_VD=round_to_grid(vectors),
        sentiment_V2=sentiment,
        topic_V4=topic,
    )


def transcribe(
    config: GeneratorConfig, video: Video, truth: GroundTruth, words: Vocabulary
) -> Transcript:
    """Write one video's sentences and lay them out in time."""
    rng = random_stream(config.seed, "text", video.index)
    numbers: list[int] = []
    lengths: list[float] = []
    bounds: list[tuple[int, int]] = []
    start = float(rng.uniform(*_SILENCE))
    for row in range(video.first, video.first + video.segments):
        # A pause may separate two utterances.
        if row > video.first and rng.random() < 0.6:
            numbers.append(PAUSE_ROW)
            lengths.append(float(rng.uniform(0.2, 1.2)))
        first = len(numbers)
        sentence = _sentence(config, truth, row, words, rng)
        for position, number in enumerate(sentence):
            if position and rng.random() < _PAUSES:
                numbers.append(PAUSE_ROW)
                lengths.append(float(rng.uniform(0.1, 0.4)))
            if position and rng.random() < _EMPTY:
                numbers.append(int(rng.choice(np.asarray(words.plain))))
                lengths.append(0.0)
            numbers.append(number)
            lengths.append(float(rng.uniform(0.18, 0.55)))
        bounds.append((first, len(numbers)))
    edges = start + np.concatenate([[0.0], np.cumsum(lengths)])
    edges = round_to_ticks(edges)
    return Transcript(
        numbers_T=np.array(numbers, dtype=np.int64),
        intervals_T2=np.stack([edges[:-1], edges[1:]], axis=1),
        segments_S2=np.array([[edges[a], edges[b]] for a, b in bounds]),
        end=float(edges[-1] + round_to_ticks(rng.uniform(*_SILENCE, 1))[0]),
    )


def _sentence(
    config: GeneratorConfig,
    truth: GroundTruth,
    row: int,
    words: Vocabulary,
    rng: np.random.Generator,
) -> list[int]:
    """Draw the word numbers of one utterance, between the configured bounds."""
    tone, *content = truth.shown_NMF[row, 0, :SHARED]
    exclusive = truth.shown_NMF[row, 0, SHARED:]
    sentiment = np.array([tone, exclusive[0]])
    subject = np.array([*content, *exclusive[1:]])
    spread = config.words_max - config.words_min
    length = config.words_min + int(rng.binomial(spread, 0.4))

    # Two sentiment words, one topic word and one plain word at least, in any order.
    kinds = np.concatenate([[0, 0, 1, 2], rng.choice(3, size=length - 4, p=_KINDS)])
    kinds = rng.permutation(kinds)
    filler = 0.02 + 0.9 * (1.0 - truth.cue_NM[row, 0])
    sentence: list[int] = []
    for position, kind in enumerate(kinds):
        if kind == 0:
            negated = bool(sentence) and words.words[sentence[-1]] == NEGATION
            wanted = -sentiment if negated else sentiment
            sentence.append(_choose(words.sentiment_V2, wanted, rng))
        elif kind == 1:
            sentence.append(_SENTIMENT + _choose(words.topic_V4, subject, rng))
        else:
            # Always draw all three numbers, so that another cue changes only the fillers.
            negate, fill = rng.random(2)
            plain = int(rng.choice(np.asarray(words.plain)))
            if position + 1 < length and kinds[position + 1] == 0 and negate < _NEGATED:
                sentence.append(words.number(NEGATION))
            elif fill < filler:
                sentence.append(words.number(FILLERS[plain % len(FILLERS)]))
            else:
                sentence.append(plain)
    return sentence


def _choose(
    meanings_VK: NDArray[np.float64], wanted_K: NDArray[np.float64], rng: np.random.Generator
) -> int:
    """Draw a word; words close to the intended meaning are more likely."""
    distance_V = ((meanings_VK - wanted_K) ** 2).sum(axis=1)
    chance_V = np.exp(-(distance_V - distance_V.min()) / (2.0 * _FOCUS**2))
    total_V = np.cumsum(chance_V)
    return int(np.searchsorted(total_V, rng.random() * total_V[-1], side="right"))
