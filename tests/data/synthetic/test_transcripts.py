"""Words and sentences of the synthetic corpus."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from dhmd.data.synthetic import GeneratorConfig
from dhmd.data.synthetic.latents import draw_ground_truth, plan_videos
from dhmd.data.synthetic.transcripts import PAUSE_ROW, Transcript, draw_transcript, draw_vocabulary

CONFIG = GeneratorConfig()
WORDS = draw_vocabulary(CONFIG)
TRUTH = draw_ground_truth(CONFIG)


@pytest.fixture(scope="module")
def transcripts() -> list[Transcript]:
    return [draw_transcript(CONFIG, video, TRUTH, WORDS) for video in plan_videos(CONFIG)]


def utterances(transcript: Transcript) -> list[np.ndarray]:
    """Return the word numbers of each utterance, without pauses and words of zero length."""
    start_T, end_T = transcript.intervals_T2.T
    spoken_T = (transcript.numbers_T != PAUSE_ROW) & (end_T > start_T)
    return [
        transcript.numbers_T[spoken_T & (start_T >= start) & (end_T <= end)]
        for start, end in transcript.segments_S2
    ]


def test_words_are_unique_and_at_most_12_bytes_long() -> None:
    assert len(set(WORDS.words)) == len(WORDS.words) == len(WORDS.vectors_VD)
    assert max(len(word.encode()) for word in WORDS.words) <= 12


def test_vectors_of_sentiment_words_are_linear_in_the_meaning() -> None:
    sentiment = WORDS.vectors_VD[:120].astype(np.float64)
    design = np.column_stack([WORDS.sentiment_V2, np.ones(120)])
    residual = sentiment - design @ np.linalg.lstsq(design, sentiment, rcond=None)[0]
    assert residual.std() == pytest.approx(0.2, abs=0.02)


def test_lengths_are_within_the_bounds_and_eight_on_average(transcripts: list[Transcript]) -> None:
    lengths = [len(numbers) for transcript in transcripts for numbers in utterances(transcript)]
    assert min(lengths) >= 4
    assert max(lengths) <= 14
    assert np.mean(lengths) == pytest.approx(8.0, abs=0.2)


def test_rows_have_no_gaps(transcripts: list[Transcript]) -> None:
    for transcript in transcripts:
        start_T, end_T = transcript.intervals_T2.T
        np.testing.assert_array_equal(start_T[1:], end_T[:-1])
        assert (transcript.segments_S2[:, 1] - transcript.segments_S2[:, 0] > 0.7).all()
        assert transcript.end > transcript.segments_S2[-1, 1]


def test_sentences_express_the_tone_and_negate_it_after_not(transcripts: list[Transcript]) -> None:
    negation = WORDS.number("not")
    plain, negated = [], []
    for video, transcript in zip(plan_videos(CONFIG), transcripts, strict=True):
        for index, numbers in enumerate(utterances(transcript)):
            tone = TRUTH.shown_NMF[video.first + index, 0, 0]
            for before, number in pairwise(numbers):
                if number < 120:
                    pair = (tone, WORDS.sentiment_V2[number, 0])
                    (negated if before == negation else plain).append(pair)
    assert len(negated) > 150
    assert np.corrcoef(np.array(plain).T)[0, 1] > 0.8
    assert np.corrcoef(np.array(negated).T)[0, 1] < -0.6


def test_fillers_reveal_unreliable_text(transcripts: list[Transcript]) -> None:
    fillers = [WORDS.number("um"), WORDS.number("uh")]
    shares = [
        np.isin(numbers, fillers).mean()
        for transcript in transcripts
        for numbers in utterances(transcript)
    ]
    r, share = TRUTH.reliability_NM[:, 0], np.array(shares)
    assert share[r < 0.4].mean() > 3 * share[r > 0.8].mean()
