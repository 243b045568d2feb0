"""The vectors of the frozen encoder do not depend on the rest of the batch."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.alignment import EncoderSource
from dhmd.data.text.config import FeaturesConfig
from dhmd.data.text.contextual import ContextualEncoder, load_contextual, reload_contextual

Utterances = Sequence[Sequence[str]]

UTTERANCES: Utterances = (
    ["i", "like", "it"],
    ["bad"],
    [],
    ["ungoodness", "oh", "good"],
    ["it", "like", "i"],
    ["good", "i", "'", "t", "like", "it", "one", "bad", "oh"],
)


def encode(contextual: ContextualEncoder, expected: Utterances) -> list[np.ndarray]:
    passes = [contextual.split(words, "x") for words in expected]
    return contextual.encode(passes, [len(words) for words in expected])


@pytest.fixture(scope="module")
def contextual(tiny_encoder: Path) -> ContextualEncoder:
    features = FeaturesConfig(text="contextual", encoder=str(tiny_encoder))
    return load_contextual(features, tiny_encoder, device="cpu", threads=1)


def test_vectors_do_not_depend_on_the_batch(contextual: ContextualEncoder) -> None:
    together = encode(contextual, UTTERANCES)
    assert [rows.shape for rows in together] == [(len(words), 16) for words in UTTERANCES]
    for words, rows in zip(UTTERANCES, together, strict=True):
        np.testing.assert_allclose(encode(contextual, [words])[0], rows, atol=1e-5)
    again = encode(contextual, UTTERANCES)
    assert all(np.array_equal(a, b) for a, b in zip(together, again, strict=True))


def test_vectors_are_those_of_transformers(contextual: ContextualEncoder) -> None:
    torch = pytest.importorskip("torch")
    tokens = contextual.encoder.tokenizer("i like ungoodness", return_tensors="pt")
    with torch.no_grad():
        hidden = contextual.encoder.model(**tokens).last_hidden_state[0].numpy()
    (rows,) = encode(contextual, [["i", "like", "ungoodness"]])
    # [CLS] i like un ##good ##ness [SEP]
    np.testing.assert_allclose(rows[:2], hidden[1:3], atol=1e-5)
    np.testing.assert_allclose(rows[2], hidden[3:6].mean(0), atol=1e-5)


def test_a_word_depends_on_its_sentence(contextual: ContextualEncoder) -> None:
    first, second = encode(contextual, [["good", "bad"], ["good", "like"]])
    assert np.abs(first[0] - second[0]).max() > 1e-2


def test_a_long_utterance_needs_several_passes_and_cannot_be_fine_tuned(tiny_encoder: Path) -> None:
    words = ["ungoodness"] * 40
    options = {"device": "cpu", "threads": 1}
    features = FeaturesConfig(text="contextual", encoder=str(tiny_encoder))
    (rows,) = encode(load_contextual(features, tiny_encoder, **options), [words])  # type: ignore[arg-type]
    assert np.abs(rows).sum(1).min() > 0
    features = FeaturesConfig(text="finetune", encoder=str(tiny_encoder))
    trained = load_contextual(features, tiny_encoder, **options)  # type: ignore[arg-type]
    with pytest.raises(DhmdError, match=r"x is longer than the 64 sub-words that bert reads: lo"):
        trained.split(words, "x")


def test_tokens_of_another_model_are_errors(contextual: ContextualEncoder) -> None:
    ids = np.array([2, 30000, 3])
    with pytest.raises(
        DhmdError, match=r"x has the token 30000, but bert has only \d+ tokens: features"
    ):
        contextual.from_tokens(ids, ids * 0, np.arange(3), "x")
    with pytest.raises(DhmdError, match=r"x has 65 tokens, but bert reads 64"):
        contextual.from_tokens(np.ones(65, int), np.ones(65, int), np.arange(65), "x")


def test_only_the_same_encoder_can_be_reloaded(
    contextual: ContextualEncoder, tiny_encoder: Path, tmp_path: Path
) -> None:
    source = contextual.source
    assert source.written == str(tiny_encoder)
    assert reload_contextual(source, tiny_encoder, device="cpu").source == source
    other = EncoderSource(written=str(tiny_encoder), digest="0" * 64)
    with pytest.raises(DhmdError, match="is not the encoder that the model was"):
        reload_contextual(other, tiny_encoder, device="cpu")
    shutil.copytree(tiny_encoder, tmp_path / "bert")
    moved = EncoderSource(written="bert", digest=source.digest)
    assert reload_contextual(moved, tmp_path, device="cpu").source.digest == source.digest
