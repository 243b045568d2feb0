"""Alignment with a text encoder; a fake one counts letters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.aligned import Corpus
from dhmd.data.alignment import AlignConfig, CorpusJob, EncoderSource, check_corpus
from dhmd.data.text.subwords import Subwords
from tests.data.alignment.files import (
    FOLDS,
    generated_recipe,
    hand_entries,
    write_files,
    write_folds,
)
from tests.data.alignment.files import align as align_files

NO_SP = AlignConfig(drop_words=("sp",))


class LetterEncoder:
    """A fake encoder; a vector has the number of letters of the word and of the utterance."""

    def __init__(self, *, trained: bool = False) -> None:
        self.source = EncoderSource(written="letters", digest="ab" * 32, trained=trained)
        self.feature_names = ("own", "all")
        self.calls = 0

    def split(self, words: Sequence[str], where: str) -> list[Subwords]:
        letters = [(ord(letter), n) for n, word in enumerate(words) for letter in word]
        return [Subwords.from_lists(*zip(*letters, strict=True))] if letters else []

    def from_tokens(self, ids: Any, types: Any, steps: Any, where: str) -> list[Subwords]:
        return [Subwords(ids, types, steps)]

    def encode(
        self, passes: Sequence[Sequence[Subwords]], lengths: Sequence[int]
    ) -> list[np.ndarray[Any, Any]]:
        self.calls += 1
        vectors = []
        for utterance, length in zip(passes, lengths, strict=True):
            counts = [sum(int((s.steps == t).sum()) for s in utterance) for t in range(length)]
            vectors.append(np.array([[n, sum(counts)] for n in counts], np.float32).reshape(-1, 2))
        return vectors


def align(
    folder: Path,
    encoder: LetterEncoder | None,
    config: AlignConfig = NO_SP,
    alignment: Any = "word",
    **changes: Any,
) -> Corpus:
    """Align the corpus of files.py with an encoder."""
    entries = hand_entries()
    del entries["vectors"]  # not needed
    corpus, _ = align_files(
        folder, entries, recipe=changes, config=config, alignment=alignment, encoder=encoder
    )
    return corpus


def test_results_equal_those_calculated_by_hand(tmp_path: Path) -> None:
    corpus = align(tmp_path, LetterEncoder())
    assert corpus.words is not None
    assert corpus.words[:3] == (("good",), ("oh",), ("oh", "good", "bad"))
    assert corpus.feature_names["text"] == ("own", "all")
    assert corpus.features["text"].lengths.tolist() == [1, 1, 3, 1, 1]
    np.testing.assert_array_equal(corpus.features["text"][2], [[2, 9], [4, 9], [3, 9]])
    # The other modalities are as in test_align.py.
    np.testing.assert_array_equal(corpus.features["audio"][2], [[0.5, -0.25], [6.5, -3.25], [0, 0]])
    assert corpus.present_NM.all()
    assert corpus.tokens is None
    assert corpus.report["origin"]["encoder"] == {
        "written": "letters",
        "digest": "ab" * 32,
        "trained": False,
    }


def test_the_encoder_is_part_of_the_identity(tmp_path: Path) -> None:
    corpus = align(tmp_path, LetterEncoder())
    assert corpus.sources == {"words.csd": "00", "features.encoder": "ab" * 32}
    other = LetterEncoder()
    other.source = replace(other.source, digest="cd" * 32)
    assert align(tmp_path, other).identity != corpus.identity


def test_sub_words_are_stored_if_the_encoder_is_trained(tmp_path: Path) -> None:
    corpus = align(tmp_path, LetterEncoder(trained=True), AlignConfig(empty_segments="keep"))
    tokens = corpus.tokens
    assert tokens is not None
    #                                good, oh sp, nothing, nothing, oh sp good bad, one, one
    assert tokens.lengths.tolist() == [4, 4, 0, 0, 11, 3, 3]
    assert bytes(tokens.ids[:8].tolist()) == b"goodohsp"
    assert tokens.steps[8:19].tolist() == [0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 3]
    assert corpus.features["text"].lengths.tolist() == [1, 2, 0, 0, 4, 1, 1]


def test_results_do_not_depend_on_the_block_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = align(tmp_path, LetterEncoder(trained=True))
    monkeypatch.setattr("dhmd.data.text.writer._BLOCK", 2)
    encoder = LetterEncoder(trained=True)
    blocks = align(tmp_path, encoder)
    assert encoder.calls == 3
    np.testing.assert_array_equal(blocks.features["text"].values, whole.features["text"].values)
    assert blocks.tokens is not None
    assert whole.tokens is not None
    np.testing.assert_array_equal(blocks.tokens.steps, whole.tokens.steps)


def test_text_has_one_step_per_word_without_alignment(tmp_path: Path) -> None:
    corpus = align(tmp_path, LetterEncoder(), alignment="none")
    assert corpus.features["text"].lengths.tolist() == [1, 1, 0, 3, 1, 1]  # v[2] has rows, no word
    assert corpus.features["audio"].lengths.tolist() == [3, 4, 2, 8, 1, 1]


def test_the_recipe_may_have_words_without_vectors(tmp_path: Path) -> None:
    roles = {"text": "words", "audio": "acoustic", "vision": "visual"}
    corpus = align(tmp_path, LetterEncoder(), modalities=roles)
    np.testing.assert_array_equal(corpus.features["text"][2], [[2, 9], [4, 9], [3, 9]])
    with pytest.raises(DhmdError, match=r"has words; set features\.text to contextual"):
        align(tmp_path, None, modalities=roles)


@pytest.mark.parametrize(
    ("config", "changes", "expected"),
    [
        (
            NO_SP,
            {"modalities": {"audio": "acoustic"}},
            "random.yaml has no text: set features.text to",
        ),
        (AlignConfig(), {"reference": "visual"}, "the reference 'visual' has no words"),
        (AlignConfig(centre_by_video=("text",)), {}, "align.centre_by_video names text, whose"),
    ],
)
def test_settings_that_contradict_the_encoder_are_errors(
    tmp_path: Path, config: AlignConfig, changes: Any, expected: str
) -> None:
    with pytest.raises(DhmdError, match=expected):
        align(tmp_path, LetterEncoder(), config, **changes)
    job = CorpusJob(
        recipe=generated_recipe(**changes),
        paths=write_files(tmp_path, hand_entries()),
        align=config,
        alignment="word",
        folds_path=write_folds(tmp_path, FOLDS),
        encoder=LetterEncoder(),
    )
    (problem,) = check_corpus(job)
    assert expected in problem
