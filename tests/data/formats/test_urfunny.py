"""UR-FUNNY's pickles: words to vectors, context, uneven utterances, folds."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from tests.data.formats.files import WORDS, write_pickle, write_urfunny
from tests.data.formats.recipes import error_message, import_files, problems, urfunny_recipe


def content(tmp_path: Path, name: str):
    return pickle.loads((tmp_path / f"{name}.pkl").read_bytes())


@pytest.mark.parametrize("lists", [True, False])
def test_punchlines_are_read(tmp_path, lists):
    words = write_urfunny(tmp_path, lists=lists)
    corpus = import_files(urfunny_recipe(words=True), tmp_path)
    assert corpus.task == "classification"
    assert corpus.class_names == ("no", "yes")
    assert corpus.ids[0] == "1[0]"
    assert [len(corpus.index(split)) for split in ("train", "valid", "test")] == [12, 4, 6]
    assert np.array_equal(corpus.features["text"].lengths, [w["punchline"] for w in words.values()])
    language, audio = content(tmp_path, "language_sdk"), content(tmp_path, "covarep_features_sdk")
    vectors = np.array(content(tmp_path, "word_embedding_list"))
    for n, utterance_id in enumerate(range(1, 23)):
        index = language[utterance_id]["punchline_embedding_indexes"]
        assert np.allclose(corpus.features["text"][n], vectors[index])
        assert np.allclose(corpus.features["audio"][n], audio[utterance_id]["punchline_features"])
        assert corpus.words[n] == tuple(WORDS[i] for i in index)
        assert corpus.labels_N[n] == utterance_id % 2
    assert corpus.word_intervals is None


def test_context_comes_before_the_punchline(tmp_path):
    words = write_urfunny(tmp_path)
    corpus = import_files(urfunny_recipe(options={"context": True}), tmp_path)
    total = [count["context"] + count["punchline"] for count in words.values()]
    assert np.array_equal(corpus.features["vision"].lengths, total)
    vision = content(tmp_path, "openface_features_sdk")[1]
    rows = [row for sentence in vision["context_features"] for row in sentence]
    assert np.allclose(corpus.features["vision"][0], [*rows, *vision["punchline_features"]])
    assert corpus.words is None


def test_uneven_utterances_are_left_out_and_listed(tmp_path):
    write_urfunny(tmp_path)
    audio = content(tmp_path, "covarep_features_sdk")
    audio[3]["punchline_features"].append(audio[3]["punchline_features"][0])
    write_pickle(tmp_path / "covarep_features_sdk.pkl", audio)
    corpus = import_files(urfunny_recipe(), tmp_path)
    assert "3[0]" not in corpus.ids
    uneven = corpus.report["uneven_utterances"]
    assert list(uneven) == ["3[0]"]
    assert uneven["3[0]"]["audio"] == uneven["3[0]"]["text"] + 1


def change(tmp_path, name, utterance_id, value):
    entries = content(tmp_path, name)
    if utterance_id is None:
        entries = value
    else:
        entries[utterance_id] = value
    write_pickle(tmp_path / f"{name}.pkl", entries)


@pytest.mark.parametrize(
    ("name", "utterance_id", "value", "expected"),
    [
        ("data_folds", None, {"train": []}, "has the keys train, but must have train, dev and"),
        ("data_folds", None, [1], "is of type list, but must be a dict"),
        ("data_folds", "train", 5, "train is of type int, but must be a list"),
        ("data_folds", "train", [[1]], "train: '[1]' is not a valid utterance id"),
        ("covarep_features_sdk", 2, {"punchline_features": [[1.0] * 5, [1.0]]}, "is ragged"),
        ("covarep_features_sdk", 2, {"punchline_features": "abc"}, "no punchline_features"),
        ("covarep_features_sdk", 2, {"punchline_features": []}, "has no rows"),
        ("covarep_features_sdk", 2, {}, "entry 2 has no punchline_features"),
        ("covarep_features_sdk", 2, 5, "entry 2 is of type int, but must be a dict"),
        (
            "language_sdk",
            2,
            {"punchline_embedding_indexes": [0, 99]},
            "a word index that is not an integer from 0 to 7",
        ),
        (
            "language_sdk",
            2,
            {"punchline_embedding_indexes": [0.5]},
            "a word index that is not an integer from 0 to 7",
        ),
        ("humor_label_sdk", 2, 7, "the label of '2[0]' is 7, but recipes/tiny.yaml allows"),
        ("humor_label_sdk", 2, "yes", "the label of 2 must be one number"),
        ("humor_label_sdk", None, {}, "(22 in total)"),
    ],
)
def test_invalid_files_are_errors(tmp_path, name, utterance_id, value, expected):
    write_urfunny(tmp_path)
    change(tmp_path, name, utterance_id, value)
    assert expected in error_message(urfunny_recipe(), tmp_path)


def test_a_missing_entry_and_a_short_word_list_are_problems(tmp_path):
    write_urfunny(tmp_path)
    vision = content(tmp_path, "openface_features_sdk")
    del vision[9]
    write_pickle(tmp_path / "openface_features_sdk.pkl", vision)
    write_pickle(tmp_path / "word_list.pkl", ["so"])
    messages = problems(urfunny_recipe(words=True), tmp_path)
    assert any("entry 9 is missing" in sentence for sentence in messages)
    assert any("beyond the 1 words" in sentence for sentence in messages)


def test_a_recipe_without_a_required_sequence_is_an_error(tmp_path):
    write_urfunny(tmp_path)
    recipe = urfunny_recipe()
    del recipe.sequences["embeddings"]
    message = error_message(recipe, tmp_path)
    assert message == (
        "recipes/tiny.yaml has no sequences.embeddings, which format urfunny requires"
    )
