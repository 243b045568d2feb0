"""HKT's pickles: words and their vectors, context, and MUStARD's folds."""

from __future__ import annotations

import json
import zipfile

import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.data.formats.vectors import read_vectors
from tests.data.formats.files import (
    WORDS,
    hkt_content,
    write_glove,
    write_mustard_files,
    write_pickle,
)
from tests.data.formats.recipes import error_message, import_files, mustard_recipe


@pytest.fixture
def content(tmp_path):
    splits = hkt_content()
    write_pickle(tmp_path / "mustard.pkl", splits)
    write_glove(tmp_path / "glove.txt")
    write_mustard_files(tmp_path)
    return splits


def test_utterances_are_read(tmp_path, content):
    vectors = write_glove(tmp_path / "glove.txt")
    corpus = import_files(mustard_recipe(), tmp_path)
    assert corpus.folds == ("own",)
    assert [len(corpus.index(split)) for split in ("train", "valid", "test")] == [24, 6, 10]
    items = [item for split in ("train", "dev", "test") for item in content[split]]
    assert corpus.ids == tuple(f"{item[2]}[0]" for item in items)
    for n, ((text, visual, acoustic, _), _, _, label) in enumerate(items):
        assert corpus.words[n] == tuple(text.split())
        assert np.allclose(corpus.features["vision"][n], visual)
        assert np.allclose(corpus.features["audio"][n], acoustic)
        rows = [vectors.get(word, np.zeros(8)) for word in text.split()]
        assert np.allclose(corpus.features["text"][n], rows)
        assert corpus.labels_N[n] == label
    assert corpus.report["words_without_vector"] == 1


def test_context_comes_first(tmp_path, content):
    corpus = import_files(mustard_recipe(options={"context": True}), tmp_path)
    (text, visual, _, _), (sentences, context_visual, _, _), _, _ = content["train"][1]
    assert corpus.words[1] == (*" ".join(sentences).split(), *text.split())
    assert np.allclose(corpus.features["vision"][1], np.concatenate([context_visual, visual]))


def test_the_speaker_independent_test_split_is_friends(tmp_path, content):
    corpus = import_files(mustard_recipe(options={"folds": "independent"}), tmp_path)
    assert corpus.folds == ("independent",)
    records = json.loads((tmp_path / "sarcasm_data.json").read_text())
    test = {corpus.videos[n] for n in corpus.index("test")}
    assert test == {utterance_id for utterance_id, r in records.items() if r["show"] == "FRIENDS"}
    valid = corpus.labels_N[corpus.index("valid")]
    assert set(valid) == {0.0, 1.0}
    assert len(valid) == 2


def test_speaker_dependent_folds_are_stratified(tmp_path, content):
    recipe = mustard_recipe(options={"folds": "dependent"})
    first = import_files(recipe, tmp_path)
    assert first.folds == tuple(f"dependent_{k}" for k in range(1, 6))
    tested: list[str] = []
    for fold in first.folds:
        corpus = import_files(recipe, tmp_path, fold=fold)
        tested += [corpus.videos[n] for n in corpus.index("test")]
    assert sorted(tested) == sorted(first.videos)
    assert first.videos[0] == "1_1"
    assert first.split_N[0] == "test"


def test_uneven_utterances_are_left_out_and_listed(tmp_path, content):
    (text, visual, acoustic, hcf), *rest = content["train"][0]
    content["train"][0] = ((text + " more", visual, acoustic, hcf), *rest)
    write_pickle(tmp_path / "mustard.pkl", content)
    corpus = import_files(mustard_recipe(), tmp_path)
    assert corpus.ids[0] == "1_2[0]"
    assert list(corpus.report["uneven_utterances"]) == ["1_1[0]"]


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ("abc", "train[0] is not ((words, visual"),
        ((1, 2, 3, 4), "train[0] is not ((words, visual"),
        ((("a", [], [], []), ("", [], [], []), "1_1", 0), "has no rows"),
        ((("a", [[1.0]], [[1.0]], 0), ("", [], [], 0), {}, 0), "'{}' is not a valid utterance id"),
        ((("a", [[1.0]], [[1.0]], 0), ("", [], [], 0), "1_1", "x"), "label must be one number"),
        (
            (("a", [[1.0]], [[1.0]], 0), ("", [], [], 0), "1_1", np.array(["x"])),
            "the label contains text instead of numbers",
        ),
        (
            (("a", [[1.0]], [[1.0]], 0), ("", [], [], 0), 10**5000, 0),
            "a number of many digits is not a valid utterance id",
        ),
        ((("a", [["x"]], [[1.0]], 0), ("", [], [], 0), "1_1", 0), "contains text instead"),
        (((3, [[1.0]], [[1.0]], 0), ("", [], [], 0), "1_1", 0), "must be a list of text"),
        ((("a", [[1.0] * 4], [[1.0] * 5], 0), ("", [], [], 0), "1_2", 0), "'1_2[0]' occurs twice"),
        ((("a", [[1.0]], [[1.0]], 0), ("", [], [], 0), "1_99", 0), "values per step, but"),
    ],
)
def test_invalid_utterances_are_errors(tmp_path, content, item, expected):
    # At the end of train, so that the first utterance sets the widths.
    content["train"][0 if "train[0]" in expected else -1] = item
    write_pickle(tmp_path / "mustard.pkl", content)
    assert expected in error_message(mustard_recipe(), tmp_path)


def test_invalid_files_are_errors(tmp_path, content):
    write_pickle(tmp_path / "mustard.pkl", {"train": []})
    assert "must have train, dev and test" in error_message(mustard_recipe(), tmp_path)
    write_pickle(tmp_path / "mustard.pkl", {"train": [], "dev": [], "test": []})
    assert "has no utterances" in error_message(mustard_recipe(), tmp_path)


def test_invalid_folds_files_are_errors(tmp_path, content):
    path = tmp_path / "sarcasm_data.json"
    recipe = mustard_recipe(options={"folds": "independent"})
    path.write_text("{")
    assert f"cannot read {path} as JSON" in error_message(recipe, tmp_path)
    path.write_text('{"1_1": {"show": "FRIENDS"}}')
    assert "lacks the utterance '1_2' (39 in total)" in error_message(recipe, tmp_path)
    write_mustard_files(tmp_path)
    path.write_text(path.read_text().replace("FRIENDS", "BBT"))
    assert "has no utterance of the show FRIENDS" in error_message(recipe, tmp_path)
    recipe = mustard_recipe(options={"folds": "dependent"})
    write_pickle(tmp_path / "split_indices.p", [([1], [99])])
    assert "fold 1 has an index that is not one of the 40 utterances" in error_message(
        recipe, tmp_path
    )
    write_pickle(tmp_path / "split_indices.p", {})
    assert "is not a list of (train, test) indices" in error_message(recipe, tmp_path)
    message = error_message(mustard_recipe(options={"folds": "all"}), tmp_path)
    assert "must be one of own, dependent, independent" in message


def test_vectors_are_read_from_text_and_zip(tmp_path):
    expected = write_glove(tmp_path / "glove.txt")
    with zipfile.ZipFile(tmp_path / "glove.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "glove.txt", "glove.txt")
    for name in ("glove.txt", "glove.zip"):
        vectors, width = read_vectors(tmp_path / name, {"So", "laugh", WORDS[-1]})
        assert width == 8
        assert set(vectors) == {"So", "laugh"}
        assert np.array_equal(vectors["So"], expected["so"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "has no word vectors"),
        ("so\n", "line 1: not a word and its numbers"),
        ("so 1 2 x\n", "line 1: not a word and 3 numbers"),
        ("a 1 2 3\nso 1 2\n", "line 2: not a word and 3 numbers"),
    ],
)
def test_invalid_vector_files_are_errors(tmp_path, text, expected):
    path = tmp_path / "glove.txt"
    path.write_text(text)
    with pytest.raises(DhmdError, match=expected):
        read_vectors(path, {"so"})


def _truncate(data):
    del data[60:]


def _damage(data):
    data[60:90] = b"\xff" * 30


def _compress_with_deflate64(data):
    for header, offset in ((b"PK\1\2", 10), (b"PK\3\4", 8)):
        data[data.index(header) + offset] = 9


def _encrypt(data):
    for header, offset in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        data[data.index(header) + offset] |= 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (_truncate, r"it is damaged \(File is not a zip file\)"),
        (_damage, r"it is damaged \(Error -3 .*\): download the file again$"),
        (_compress_with_deflate64, r"cannot unpack .*\(.*\): use the unpacked text file"),
        (_encrypt, r"\(.*password required.*\): use the unpacked text file instead$"),
    ],
)
def test_zip_files_that_cannot_be_unpacked_are_errors(tmp_path, change, expected):
    write_glove(tmp_path / "glove.txt")
    path = tmp_path / "glove.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "glove.txt", "glove.txt")
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(bytes(data))
    with pytest.raises(DhmdError, match=expected):
        read_vectors(path, {"so"})
