"""DialogueRNN's pickles of IEMOCAP and MELD."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dhmd.recipes import Recipe
from tests.data.formats.files import dialogue_content, write_pickle
from tests.data.formats.recipes import error_message, import_files, recipe

SIX = ["happy", "sad", "neutral", "angry", "excited", "frustrated"]


def dialogue_recipe(classes: list[str], layout: str = "iemocap", **more: Any) -> Recipe:
    labels = {"task": "classification", "classes": classes, "column": more.pop("column", 0)}
    modalities = {"text": "text", "audio": "audio"}
    if layout != "meld":
        modalities["vision"] = "vision"
    options = {"layout": layout, "context": more.pop("context", False)}
    more = {"labels": labels, "modalities": modalities, "options": options} | more
    return recipe("dialogues", {"pickle": "file.pkl"}, **more)


@pytest.mark.parametrize("protocol", [2, 4])
def test_utterances_of_iemocap_are_read(tmp_path, protocol):
    content = dialogue_content()
    write_pickle(tmp_path / "file.pkl", content, protocol)
    corpus = import_files(dialogue_recipe(SIX), tmp_path)
    _, _, labels, text, _, vision, sentences, train, test = content
    assert {video for video in corpus.videos} == train | test
    for n, (utterance_id, video) in enumerate(zip(corpus.ids, corpus.videos, strict=True)):
        row = int(utterance_id.removeprefix(f"{video}[").removesuffix("]"))
        assert corpus.labels_N[n] == labels[video][row]
        assert np.allclose(corpus.features["text"][n], [text[video][row]])
        assert np.allclose(corpus.features["vision"][n], [vision[video][row]])
        assert corpus.words[n] == (sentences[video][row],)
        assert (corpus.split_N[n] == "test") == (video in test)
    assert len({v for v, s in zip(corpus.videos, corpus.split_N, strict=True) if s == "valid"}) == 2


def test_earlier_utterances_are_steps_if_context_is_used(tmp_path):
    content = dialogue_content()
    write_pickle(tmp_path / "file.pkl", content)
    corpus = import_files(
        dialogue_recipe(SIX, context=True), tmp_path, max_steps=3, truncate="last"
    )
    for n, (utterance_id, video) in enumerate(zip(corpus.ids, corpus.videos, strict=True)):
        row = int(utterance_id.removeprefix(f"{video}[").removesuffix("]"))
        expected = content[4][video][max(0, row - 2) : row + 1]
        assert np.allclose(corpus.features["audio"][n], expected)


def test_classes_are_joined_or_left_out(tmp_path):
    content = dialogue_content()
    write_pickle(tmp_path / "file.pkl", content)
    corpus = import_files(dialogue_recipe(["angry", "happy+excited"]), tmp_path)
    labels = [label for dialogue in content[2].values() for label in dialogue]
    counts = np.bincount(corpus.labels_N.astype(int))
    assert counts.tolist() == [labels.count(3), labels.count(0) + labels.count(4)]
    left_out = " ".join(corpus.report["warnings"])
    assert "left out: their class is not in labels.classes" in left_out


@pytest.mark.parametrize(
    ("layout", "column", "classes"),
    [
        ("meld", "emotion", ["neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"]),
        ("meld", "sentiment", ["neutral", "positive", "negative"]),
        ("meld_vision", 0, ["neutral", "surprise", "fear", "sadness", "joy", "disgust", "anger"]),
    ],
)
def test_meld_has_emotions_and_sentiments(tmp_path, layout, column, classes):
    content = dialogue_content(layout)
    write_pickle(tmp_path / "file.pkl", content)
    corpus = import_files(dialogue_recipe(classes, layout, column=column), tmp_path)
    labels = content[-1 if column == "sentiment" else 2]
    dialogues = [labels[int(video)] for video in dict.fromkeys(corpus.videos)]
    assert corpus.labels_N.tolist() == [label for dialogue in dialogues for label in dialogue]
    assert len(corpus.modalities) == (3 if layout == "meld_vision" else 2)


def changed(part: int, value: Any) -> tuple[Any, ...]:
    content = list(dialogue_content())
    content[part] = value(content[part]) if callable(value) else value
    return tuple(content)


def without_first(part: dict[Any, Any]) -> dict[Any, Any]:
    return dict(list(part.items())[1:])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([1, 2], "is not a tuple of 9 items (ids, speakers, emotion, text, audio, vision"),
        (dialogue_content("meld"), "test is not a list of dialogues"),
        (dialogue_content("meld_vision"), "correct options.layout of recipes/tiny.yaml, which is"),
        (changed(3, without_first), "has no text"),
        (changed(3, lambda x: {k: v[1:] for k, v in x.items()}), "rows of text"),
        (changed(2, lambda x: {k: ["hap"] * len(v) for k, v in x.items()}), "text instead of n"),
        (changed(7, set()), "train has 0 dialogues"),
        (
            changed(3, lambda x: {**x, "Ses02F_impro01": [v[1:] for v in x["Ses02F_impro01"]]}),
            "text of 'Ses02F_impro01[0]' has 7 values per step, but 8 elsewhere",
        ),
    ],
)
def test_invalid_files_are_errors(tmp_path, content, sentence):
    write_pickle(tmp_path / "file.pkl", content)
    assert sentence in error_message(dialogue_recipe(SIX), tmp_path)


def test_unknown_classes_are_errors(tmp_path):
    write_pickle(tmp_path / "file.pkl", dialogue_content())
    message = error_message(dialogue_recipe(["joy", "sad"]), tmp_path)
    assert "labels.classes has 'joy', but may only have happy, sad, neutral" in message
    message = error_message(dialogue_recipe(SIX, column="sentiment"), tmp_path)
    assert "labels.column is 'sentiment', but must be emotion" in message
