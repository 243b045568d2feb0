"""Generate a vocabulary with word vectors, and sentences that express the latent factors.

Axes: V words of the vocabulary, D dimensions of a vector, T word rows of a video, S segments.
"""

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
PAUSE_ROW = -1  # the word number of a pause

_SENTIMENT, _TOPIC, _PLAIN = 120, 80, 160  # numbers of words of each kind
_SPREAD = 1.2  # standard deviation of the words' meanings
_FOCUS = 0.35  # tolerance in the choice of a word for a meaning; smaller is closer
_KINDS = (0.5, 0.2, 0.3)  # probabilities of sentiment, topic and plain words
_NEGATED = 0.2  # probability that a plain word before a sentiment word is a negation
_PAUSES = 0.2  # probability of a pause between two words
_SILENCE = (1.1, 3.0)  # range of the seconds of silence before and after the speech
_EMPTY = 0.012  # probability of a word of zero length between two words

Numbers = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The words of a corpus: sentiment words, topic words, and words without meaning.

    `good…` and `bad…` express the tone and the first exclusive latent, `thing…` the content and the
    second one. `word…`, `um` and `uh` have no meaning, and `not` negates the next word.

    Attributes:
        words: the V words by number.
        vectors_VD: the word vectors.
        sentiment_V2: the meanings of the sentiment words.
        topic_V4: the meanings of the topic words.
    """

    words: tuple[str, ...]
    vectors_VD: NDArray[np.float32]
    sentiment_V2: NDArray[np.float64]
    topic_V4: NDArray[np.float64]

    @property
    def plain(self) -> range:
        """The numbers of the words without meaning, except fillers and negation."""
        first = len(self.sentiment_V2) + len(self.topic_V4)
        return range(first, first + _PLAIN)

    def number(self, word: str) -> int:
        """Return a word's number."""
        return self.words.index(word)


@dataclass(frozen=True, kw_only=True)
class Transcript:
    """The word rows of a video in time order, including pauses, and its label segments.

    Attributes:
        numbers_T: word numbers, PAUSE_ROW for a pause.
        intervals_T2: start and end of the word rows in seconds.
        segments_S2: start and end of the label segments in seconds.
        end: the end of the recording in seconds.
    """

    numbers_T: Numbers
    intervals_T2: NDArray[np.float64]
    segments_S2: NDArray[np.float64]
    end: float


def draw_vocabulary(config: GeneratorConfig) -> Vocabulary:
    """Draw the words of a corpus with their meanings and vectors."""
    rng = random_stream(config.seed, "vocabulary")
    d = config.text_dims
    sentiment = _SPREAD * rng.standard_normal((_SENTIMENT, 2))
    # The spread is wider so that topic words reach the centres of the topics.
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
    # Plain words vary along the meaning axes too; only the offset of their kind differs.
    vectors[plain] += 0.5 * rng.standard_normal((_PLAIN, 6)) @ axes + kinds[2]
    vectors[plain.stop :] += 0.6 * rng.standard_normal((len(names) - plain.stop, d))
    return Vocabulary(
        words=tuple(names),
        vectors_VD=round_to_grid(vectors),
        sentiment_V2=sentiment,
        topic_V4=topic,
    )


def draw_transcript(
    config: GeneratorConfig, video: Video, truth: GroundTruth, words: Vocabulary
) -> Transcript:
    """Draw the sentences of a video and the times of their words."""
    rng = random_stream(config.seed, "text", video.index)
    numbers: list[int] = []
    lengths: list[float] = []
    bounds: list[tuple[int, int]] = []
    start = float(rng.uniform(*_SILENCE))
    for row in range(video.first, video.first + video.num_segments):
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
    edges = round_to_ticks(start + np.concatenate([[0.0], np.cumsum(lengths)]))
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
    """Draw the word numbers of one utterance; their count is within the configured bounds."""
    tone, *content = truth.shown_NMF[row, 0, :SHARED]
    exclusive = truth.shown_NMF[row, 0, SHARED:]
    sentiment = np.array([tone, exclusive[0]])
    subject = np.array([*content, *exclusive[1:]])
    spread = config.words_max - config.words_min
    length = config.words_min + int(rng.binomial(spread, 0.4))

    # At least two sentiment words, one topic word and one plain word, in random order.
    kinds = np.concatenate([[0, 0, 1, 2], rng.choice(3, size=length - 4, p=_KINDS)])
    kinds = rng.permutation(kinds)
    filler = 0.02 + 0.9 * (1.0 - truth.cue_NM[row, 0])
    sentence: list[int] = []
    for position, kind in enumerate(kinds):
        if kind == 0:
            negated = bool(sentence) and words.words[sentence[-1]] == NEGATION
            meaning = -sentiment if negated else sentiment
            sentence.append(_choose(words.sentiment_V2, meaning, rng))
        elif kind == 1:
            sentence.append(_SENTIMENT + _choose(words.topic_V4, subject, rng))
        else:
            # All three numbers are always drawn, so that the cue affects only the fillers.
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
    meanings_VK: NDArray[np.float64], meaning_K: NDArray[np.float64], rng: np.random.Generator
) -> int:
    """Draw a word number; words whose meaning is close to `meaning_K` are more probable."""
    distance_V = ((meanings_VK - meaning_K) ** 2).sum(axis=1)
    chance_V = np.exp(-(distance_V - distance_V.min()) / (2.0 * _FOCUS**2))
    total_V = np.cumsum(chance_V)
    return int(np.searchsorted(total_V, rng.random() * total_V[-1], side="right"))
