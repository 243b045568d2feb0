"""Words and sentences of the synthetic corpus."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from dhmd.data.synthetic import GeneratorConfig
from dhmd.data.synthetic.latents import draw_ground_truth, plan_videos
from dhmd.data.synthetic.transcripts import PAUSE_ROW, Transcript, transcribe, vocabulary

CONFIG = GeneratorConfig()
WORDS = vocabulary(CONFIG)
TRUTH = draw_ground_truth(CONFIG)


@pytest.fixture(scope="module")
def scripts() -> list[Transcript]:
    return [transcribe(CONFIG, video, TRUTH, WORDS) for video in plan_videos(CONFIG)]


def test_words_fit_a_csd_and_are_unique() -> None:
    assert len(set(WORDS.words)) == len(WORDS.words) == len(WORDS.vectors_VD)
    assert max(len(word.encode()) for word in WORDS.words) <= 12


def test_vectors_of_words_that_matter_lie_along_their_meaning() -> None:
    sentiment = WORDS.vectors_VD[:120].astype(np.float64)
    design = np.column_stack([WORDS.sentiment_V2, np.ones(120)])
    left = sentiment - design @ np.linalg.lstsq(design, sentiment, rcond=None)[0]
    # What the meaning does not explain is a word's own part, sd 0.2.
    assert left.std() == pytest.approx(0.2, abs=0.02)


def test_lengths_are_within_the_bounds_and_eight_on_average(scripts: list[Transcript]) -> None:
    lengths = []
    for script in scripts:
        duration = np.diff(script.intervals_T2, axis=1)[:, 0]
        spoken = (script.numbers_T != PAUSE_ROW) & (duration > 0)
        for start, end in script.segments_S2:
            inside = (script.intervals_T2[:, 0] >= start) & (script.intervals_T2[:, 1] <= end)
            lengths.append(int((spoken & inside).sum()))
    assert min(lengths) >= 4
    assert max(lengths) <= 14
    assert np.mean(lengths) == pytest.approx(8.0, abs=0.2)


def test_rows_follow_each_other_without_a_hole(scripts: list[Transcript]) -> None:
    for script in scripts:
        np.testing.assert_array_equal(script.intervals_T2[1:, 0], script.intervals_T2[:-1, 1])
        assert (script.segments_S2[:, 1] - script.segments_S2[:, 0] > 0.7).all()
        assert script.end > script.segments_S2[-1, 1]


def test_sentences_express_what_text_shows_and_negate_it_after_not(
    scripts: list[Transcript],
) -> None:
    negation = WORDS.number("not")
    plain, turned = [], []
    for video, script in zip(plan_videos(CONFIG), scripts, strict=True):
        numbers = script.numbers_T
        for index, (start, end) in enumerate(script.segments_S2):
            tone = TRUTH.shown_NMF[video.first + index, 0, 0]
            inside = (script.intervals_T2[:, 0] >= start) & (script.intervals_T2[:, 1] <= end)
            spoken = numbers[inside & (numbers != PAUSE_ROW)]
            for before, number in pairwise(spoken):
                if number < 120:
                    pair = (tone, WORDS.sentiment_V2[number, 0])
                    (turned if before == negation else plain).append(pair)
    assert len(turned) > 150
    assert np.corrcoef(np.array(plain).T)[0, 1] > 0.8
    assert np.corrcoef(np.array(turned).T)[0, 1] < -0.6


def test_fillers_reveal_unreliable_text(scripts: list[Transcript]) -> None:
    fillers = {WORDS.number("um"), WORDS.number("uh")}
    shares = []
    for video, script in zip(plan_videos(CONFIG), scripts, strict=True):
        for index, (start, end) in enumerate(script.segments_S2):
            inside = (script.intervals_T2[:, 0] >= start) & (script.intervals_T2[:, 1] <= end)
            r = TRUTH.reliability_NM[video.first + index, 0]
            shares.append((r, np.isin(script.numbers_T[inside], list(fillers)).mean()))
    r, share = np.array(shares).T
    assert share[r < 0.4].mean() > 3 * share[r > 0.8].mean()
