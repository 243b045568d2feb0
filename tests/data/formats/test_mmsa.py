"""MMSA's feature files: masks, lengths, ids, labels, splits, and every way to be wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dhmd.base.label_sets import decode_sets
from dhmd.data.formats import known_file
from tests.data.formats.files import mmsa_splits, mult_splits, write_pickle
from tests.data.formats.recipes import error_message, imported, mmsa_recipe, problems

SPLITS = ("train", "valid", "test")


def write(tmp_path: Path, content: object) -> Path:
    return write_pickle(tmp_path / "file.pkl", content)


def joined(content, key):
    return [value for split in SPLITS for value in content[split][key]]


def test_aligned_file_is_read_by_its_mask(tmp_path):
    content = mmsa_splits()
    write(tmp_path, content)
    corpus = imported(mmsa_recipe(), tmp_path)
    assert corpus.ids == tuple(
        f"{split}{n // 2}[{n % 2}]" for split in SPLITS for n in range(len(content[split]["id"]))
    )
    assert corpus.videos[:3] == ("train0", "train0", "train1")
    assert [len(corpus.index(split)) for split in SPLITS] == [12, 4, 6]
    assert np.allclose(corpus.labels_N, joined(content, "regression_labels"))
    masks = [row[1].astype(bool) for row in joined(content, "text_bert")]
    for modality in ("text", "audio", "vision"):
        for n, values in enumerate(joined(content, modality)):
            assert np.array_equal(corpus.features[modality][n], values[masks[n]])
    tokens = [row[0][mask] for row, mask in zip(joined(content, "text_bert"), masks, strict=True)]
    assert np.array_equal(corpus.tokens.ids, np.concatenate(tokens))
    assert corpus.tokens.mask.all()
    assert np.array_equal(corpus.tokens.lengths, [len(row) for row in tokens])
    assert corpus.present_NM.all()
    assert corpus.alignment == "word"


def test_mask_with_padding_on_the_left_or_with_holes_is_obeyed(tmp_path):
    content = mmsa_splits()
    part = content["train"]
    part["text_bert"][0, 1] = [0, 0, 1, 0, 1, 1, 0, 0, 0, 0]
    write(tmp_path, content)
    corpus = imported(mmsa_recipe(), tmp_path)
    assert np.array_equal(corpus.features["text"][0], part["text"][0][[2, 4, 5]])


def test_rows_beyond_the_mask_are_counted(tmp_path):
    content = mmsa_splits()
    content["train"]["text_bert"][0, 1] = 0
    content["train"]["text_bert"][0, 1, 0] = 1
    content["train"]["audio"][0] = 1.0
    write(tmp_path, content)
    report = imported(mmsa_recipe(), tmp_path).report
    assert report["rows_beyond_the_mask"]["audio"] == 9


def test_unaligned_file_keeps_each_modalitys_own_rate(tmp_path):
    content = mmsa_splits(aligned=False)
    write(tmp_path, content)
    corpus = imported(mmsa_recipe(), tmp_path, alignment="none")
    for modality in ("audio", "vision"):
        lengths = joined(content, f"{modality}_lengths")
        assert np.array_equal(corpus.features[modality].lengths, lengths)
        for n, values in enumerate(joined(content, modality)):
            assert np.array_equal(corpus.features[modality][n], values[: lengths[n]])
    text_lengths = [int(row[1].sum()) for row in joined(content, "text_bert")]
    assert np.array_equal(corpus.features["text"].lengths, text_lengths)


def test_unaligned_file_is_refused_for_word_alignment(tmp_path):
    write(tmp_path, mmsa_splits(aligned=False))
    message = error_message(mmsa_recipe(), tmp_path)
    assert message == (
        f"{tmp_path / 'file.pkl'} is unaligned, each modality has its own steps: "
        "set data.alignment to none"
    )


def test_steps_are_capped_by_modality_and_counted(tmp_path):
    content = mmsa_splits(aligned=False)
    write(tmp_path, content)
    caps = {"text": 4, "audio": 9, "vision": 7}
    corpus = imported(mmsa_recipe(), tmp_path, alignment="none", max_steps_unaligned=caps)
    lengths = np.array(joined(content, "audio_lengths"))
    assert np.array_equal(corpus.features["audio"].lengths, np.minimum(lengths, 9))
    first = joined(content, "audio")[0]
    assert np.array_equal(corpus.features["audio"][0], first[: min(9, lengths[0])])
    cut = np.maximum(0, lengths - 9).sum()
    cut += np.maximum(0, np.array(joined(content, "vision_lengths")) - 7).sum()
    cut += sum(max(0, int(row[1].sum()) - 4) for row in joined(content, "text_bert"))
    assert sum(c["steps_cut"] for c in corpus.report["modalities"].values()) == cut


def test_last_steps_can_be_kept(tmp_path):
    content = mmsa_splits()
    write(tmp_path, content)
    corpus = imported(mmsa_recipe(), tmp_path, max_steps=2, truncate="last")
    length = int(content["train"]["text_bert"][0, 1].sum())
    expected = content["train"]["vision"][0][length - 2 : length]
    assert np.array_equal(corpus.features["vision"][0], expected)


def without_mask(content):
    for part in content.values():
        del part["text_bert"]
    return content


def test_padding_is_never_guessed(tmp_path):
    write(tmp_path, without_mask(mmsa_splits()))
    message = error_message(mmsa_recipe(), tmp_path)
    assert message == (
        f"{tmp_path / 'file.pkl'}: train has neither text_lengths nor text_bert, which mark "
        "padding: if rows of zeros are padding, or if there is no padding, choose with `dhmd "
        "import mmsa … --padding` start, end, zeros (either side) or none (options.padding of "
        "recipes/tiny.yaml)"
    )


def test_trailing_zeros_are_padding_where_the_recipe_says_so(tmp_path):
    content = mmsa_splits()
    lengths = [int(row[1].sum()) for row in joined(content, "text_bert")]
    # Zeros in the middle or at the beginning are values; so is a zero row of one modality alone.
    for modality in ("text", "audio", "vision"):
        content["train"][modality][0][0] = 0.0
    content["train"]["text"][1][lengths[1] - 1] = 0.0
    write(tmp_path, without_mask(content))
    corpus = imported(mmsa_recipe(options={"padding": "trailing_zeros"}), tmp_path)
    for modality in ("text", "audio", "vision"):
        assert np.array_equal(corpus.features[modality].lengths, lengths)
    assert corpus.tokens is None
    assert corpus.report["steps_without_values"] == 1


def test_no_padding_at_all(tmp_path):
    write(tmp_path, without_mask(mmsa_splits()))
    corpus = imported(mmsa_recipe(options={"padding": "none"}), tmp_path)
    assert (corpus.features["text"].lengths == 10).all()


def test_missing_modality_and_bad_values_are_counted(tmp_path):
    content = mmsa_splits()
    content["train"]["vision"][3] = 0.0
    content["valid"]["audio"][0, 0, :4] = [-np.inf, np.inf, np.nan, 1e30]
    write(tmp_path, content)
    corpus = imported(mmsa_recipe(), tmp_path)
    assert not corpus.present_NM[3, 2]
    assert corpus.present_NM.sum() == corpus.present_NM.size - 1
    assert corpus.report["modalities"]["vision"]["segments_absent"] == 1
    assert corpus.report["modalities"]["audio"]["values_cleaned"] == 4
    assert not corpus.features["audio"][12][0, :4].any()


@pytest.mark.parametrize(("rule", "count"), [("drop", 21), ("keep", 22)])
def test_empty_utterance_is_listed_and_dropped_or_kept(tmp_path, rule, count):
    content = mmsa_splits()
    content["train"]["text_bert"][2, 1] = 0
    write(tmp_path, content)
    corpus = imported(mmsa_recipe(), tmp_path, empty_segments=rule)
    assert len(corpus.ids) == count
    assert corpus.report["empty_segments"] == {"train1[0]": "no row of any modality"}
    assert ("train1[0]" in corpus.ids) == (rule == "keep")


def test_classification_labels_and_other_columns(tmp_path):
    content = mmsa_splits()
    for part in content.values():
        part["regression_labels_A"] = part["regression_labels"] / 3
    write(tmp_path, content)
    classes = {"task": "classification", "classes": ["Negative", "Neutral", "Positive"]}
    corpus = imported(mmsa_recipe(labels=classes), tmp_path)
    assert np.array_equal(corpus.labels_N, joined(content, "classification_labels"))
    assert corpus.class_names == ("Negative", "Neutral", "Positive")
    regression = {"task": "regression", "low": -1, "high": 1, "column": "regression_labels_A"}
    corpus = imported(mmsa_recipe(labels=regression), tmp_path)
    assert np.allclose(corpus.labels_N, joined(content, "regression_labels_A"))


def test_one_or_two_modalities(tmp_path):
    write(tmp_path, mmsa_splits())
    corpus = imported(mmsa_recipe(modalities={"audio": "audio"}), tmp_path)
    assert corpus.modalities == ("audio",)
    corpus = imported(mmsa_recipe(modalities={"vision": "vision", "text": "text"}), tmp_path)
    assert corpus.modalities == ("text", "vision")


def test_known_file_is_named_in_the_report(tmp_path):
    write(tmp_path, mmsa_splits())
    digest = "d3994fd25681f9c7ad6e9c6596a6fe9b4beb85ff7d478ba978b124139002e5f9"
    assert known_file(digest) == "MMSA MOSI aligned_50.pkl"
    assert known_file("0" * 64) is None
    corpus = imported(mmsa_recipe(), tmp_path, sources={"file.pkl": digest})
    assert corpus.report["file"] == "MMSA MOSI aligned_50.pkl"


def test_folds_file_must_agree_with_the_splits(tmp_path):
    write(tmp_path, mmsa_splits())
    videos = {split: [f"{split}{n}" for n in range(6)] for split in SPLITS}
    folds = tmp_path / "folds.json"
    folds.write_text(json.dumps(videos))
    recipe = mmsa_recipe(folds={"file": "folds.json"})
    assert imported(recipe, tmp_path, folds=folds).folds == ("standard",)
    (tmp_path / "tiny.h5").unlink()
    folds.write_text(
        json.dumps({"train": videos["train"], "valid": videos["test"], "test": videos["valid"]})
    )
    message = error_message(recipe, tmp_path, folds=folds)
    assert message == (
        f"tiny: video 'valid0' is in valid of the files, but in test of {folds}: "
        "are the files' splits swapped? (10 in total)"
    )


def test_id_twice_is_refused(tmp_path):
    content = mmsa_splits()
    content["train"]["id"][1] = "train0$_$0000"
    write(tmp_path, content)
    assert "the id 'train0[0]' occurs twice" in error_message(mmsa_recipe(), tmp_path)


@pytest.mark.parametrize("bad", ["train0", "train0$_$x", "$_$1", "train0$_$1_2", "train0$_$²"])
def test_other_ids_are_refused(tmp_path, bad):
    content = mmsa_splits()
    content["train"]["id"][0] = bad
    write(tmp_path, content)
    assert "is not video$_$clip" in error_message(mmsa_recipe(), tmp_path)


def changed(split, key, change):
    def apply(content):
        content[split][key] = change(content[split][key])
        return content

    return apply


def removed(split, key=None):
    def apply(content):
        if key is None:
            del content[split]
        else:
            del content[split][key]
        return content

    return apply


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (removed("valid"), "is not an MMSA feature file: its top-level keys are 'train', 'test'"),
        (lambda content: [1, 2], "is list, but must be a dict"),
        (lambda content: {**content, "train": 3}, "train is int, but must be a dict"),
        (lambda content: {"a": 1}, "its top-level keys are 'a', but must be train, valid and test"),
        (removed("test", "audio"), "test has no 'audio'; it has raw_text, id"),
        (removed("test", "id"), "test has no 'id'"),
        (removed("train", "regression_labels"), "train has no 'regression_labels'"),
        (
            changed("train", "text", lambda x: x[:, 0]),
            "train.text has shape [12, 8], but must have 3 axes",
        ),
        (changed("train", "text", lambda x: x[:-1]), "train has 12 ids, but 11 rows of text"),
        (changed("train", "text", lambda x: x[:, :-1]), "text_bert of 10 steps, but text of 9"),
        (
            changed("valid", "audio", lambda x: x[..., :-1]),
            "'valid0[0]' has 4 values per step",
        ),
        (changed("train", "audio", lambda x: x.astype(str)), "contains text instead of numbers"),
        (changed("train", "audio", lambda x: [[[1.0], [2.0, 3.0]]]), "train.audio is ragged"),
        (
            changed("train", "audio", lambda x: None),
            "train.audio has shape [], but must have 3 axes",
        ),
        (changed("train", "audio", lambda x: [[[{}]]]), "contains objects instead of numbers"),
        (changed("train", "id", lambda x: 7), "train.id is int, but must be a list of text"),
        (changed("train", "id", lambda x: [1] * 12), "train.id contains int instead of text"),
        (changed("train", "text_bert", lambda x: x[:, :2]), "must have shape [N, 3, K]"),
        (changed("train", "text_bert", lambda x: x + 0.5), "not a mask of 0 and 1"),
        (
            changed("train", "text_bert", lambda x: x * [[[-1], [1], [1]]]),
            "has values that are not token ids",
        ),
        (
            changed("train", "regression_labels", lambda x: x * 0 + 9),
            "allows -3 to 3 (12 in total)",
        ),
        (changed("train", "regression_labels", lambda x: x * np.nan), "is nan, but recipes/tiny"),
        (
            changed("train", "regression_labels", lambda x: x[None, :, None]),
            "train.regression_labels has shape [1, 12, 1], but must have shape [12]",
        ),
        (changed("train", "regression_labels", lambda x: [[1.0], [2.0, 3.0]]), "is ragged"),
        (changed("train", "regression_labels", lambda x: [1.0, [2.0]]), "is ragged"),
        (
            changed("train", "regression_labels", lambda x: [10**400] * 12),
            "contains objects instead",
        ),
        (changed("train", "regression_labels", lambda x: ["x" * 9, 1.0]), "contains text instead"),
        (changed("train", "id", lambda x: ["a$_$" + "1" * 5000, *x[1:]]), "is not video$_$clip"),
        (changed("train", "id", lambda x: ["\ud800$_$1", *x[1:]]), "invalid characters"),
        (changed("train", "id", lambda x: ["a\0b$_$1", *x[1:]]), "invalid characters"),
        (
            changed("train", "id", lambda x: np.full(12, 2**31, "u4").view("U1")),
            "invalid char",
        ),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, change, expected):
    write(tmp_path, change(mmsa_splits()))
    assert expected in error_message(mmsa_recipe(), tmp_path)


def test_wrong_lengths_are_refused(tmp_path):
    content = mmsa_splits(aligned=False)
    content["train"]["vision_lengths"][0] = -1
    write(tmp_path, content)
    message = error_message(mmsa_recipe(), tmp_path, alignment="none")
    assert "train.vision_lengths has negative lengths" in message
    content["train"]["vision_lengths"].pop()
    write(tmp_path, content)
    message = error_message(mmsa_recipe(), tmp_path, alignment="none")
    assert message.endswith("train has 12 ids, but 11 rows of vision_lengths")


def test_unknown_options_are_refused(tmp_path):
    write(tmp_path, mmsa_splits())
    message = error_message(mmsa_recipe(options={"paddding": "none"}), tmp_path)
    assert message == "recipes/tiny.yaml: unknown key options.paddding; format mmsa has padding"
    message = error_message(mmsa_recipe(options={"padding": "left"}), tmp_path)
    assert "must be one of marked, start, end, none, zeros, trailing_zeros" in message


def test_all_problems_are_listed_at_once(tmp_path):
    content = mmsa_splits()
    content["train"]["id"][0] = "nonsense"
    content["train"]["regression_labels"][2:5] = 9
    content["test"]["id"][0] = "train1$_$7"
    write(tmp_path, content)
    messages = problems(mmsa_recipe(), tmp_path)
    assert len(messages) == 3
    assert "nonsense" in messages[0]
    assert "(3 in total)" in messages[1]
    assert "in both train and test" in messages[2]
    message = error_message(mmsa_recipe(), tmp_path)
    assert message == messages[0] + "; 2 more: `dhmd data check tiny` lists them"
    write(tmp_path, mmsa_splits())
    assert problems(mmsa_recipe(), tmp_path) == []


EMOTIONS = {
    "task": "multilabel",
    "column": "labels",
    "classes": ["neutral", "happy", "sad", "angry"],
}
ZEROS = {"padding": "zeros"}


def test_mult_pickles_of_iemocap(tmp_path):
    content = mult_splits()
    write(tmp_path, content)
    corpus = imported(mmsa_recipe(labels=EMOTIONS, options=ZEROS), tmp_path)
    present = np.concatenate([part["labels"][:, :, 1] for part in content.values()])
    assert decode_sets(corpus.labels_N).tolist() == (present > 0).tolist()
    assert len(set(corpus.videos)) == len(corpus.ids)
    assert any("no ids" in warning for warning in corpus.report["warnings"])
    rows = content["train"]["text"][1]
    assert np.allclose(corpus.features["text"][1], rows[rows.any(1)], atol=1e-6)
    assert corpus.report["modalities"]["audio"]["values_cleaned"] == 3


def test_mult_pickles_of_mosi(tmp_path):
    content = mult_splits(classes=None, ids=True)
    write(tmp_path, content)
    labels = {"task": "regression", "low": -3.0, "high": 3.0, "column": "labels"}
    corpus = imported(mmsa_recipe(labels=labels, options=ZEROS), tmp_path)
    assert corpus.ids[:4] == ("train0[0]", "train0[1]", "train1[0]", "train1[1]")
    labels_N = np.concatenate([part["labels"].ravel() for part in content.values()])
    assert np.allclose(corpus.labels_N, labels_N)
    rows = content["train"]["vision"][1]
    assert np.allclose(corpus.features["vision"][1], rows[rows.any(1)], atol=1e-6)
