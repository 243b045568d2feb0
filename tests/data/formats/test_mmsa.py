"""MMSA's and MulT's feature files: features, ids, labels, splits and errors."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.base.label_sets import decode_sets
from dhmd.data.formats import known_file
from dhmd.data.formats.drafting import LabelOptions, draft_recipe
from tests.data.formats.files import joined, mmsa_splits, mult_splits, write_pickle
from tests.data.formats.recipes import SPLITS, import_mmsa, mmsa_error, mmsa_recipe, problems


def test_the_mask_determines_the_steps_of_an_aligned_file(tmp_path):
    content = mmsa_splits()
    corpus = import_mmsa(tmp_path, content)
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


def test_modalities_of_an_unaligned_file_have_different_lengths(tmp_path):
    content = mmsa_splits(aligned=False)
    assert mmsa_error(tmp_path, content) == (
        f"{tmp_path / 'file.pkl'} is unaligned, each modality has its own steps: "
        "set data.alignment to none"
    )
    corpus = import_mmsa(tmp_path, content, alignment="none")
    for modality in ("audio", "vision"):
        lengths = joined(content, f"{modality}_lengths")
        assert np.array_equal(corpus.features[modality].lengths, lengths)
        for n, values in enumerate(joined(content, modality)):
            assert np.array_equal(corpus.features[modality][n], values[: lengths[n]])
    text_lengths = [int(row[1].sum()) for row in joined(content, "text_bert")]
    assert np.array_equal(corpus.features["text"].lengths, text_lengths)


def test_each_modality_has_a_maximum_length(tmp_path):
    content = mmsa_splits(aligned=False)
    limits = {"text": 4, "audio": 9, "vision": 7}
    corpus = import_mmsa(tmp_path, content, alignment="none", max_steps_unaligned=limits)
    lengths = np.array(joined(content, "audio_lengths"))
    assert np.array_equal(corpus.features["audio"].lengths, np.minimum(lengths, 9))
    first = joined(content, "audio")[0]
    assert np.array_equal(corpus.features["audio"][0], first[: min(9, lengths[0])])
    cut = np.maximum(0, lengths - 9).sum()
    cut += np.maximum(0, np.array(joined(content, "vision_lengths")) - 7).sum()
    cut += sum(max(0, int(row[1].sum()) - 4) for row in joined(content, "text_bert"))
    assert sum(c["steps_cut"] for c in corpus.report["modalities"].values()) == cut


def test_the_last_steps_can_be_kept(tmp_path):
    content = mmsa_splits()
    corpus = import_mmsa(tmp_path, content, max_steps=2, truncate="last")
    length = int(content["train"]["text_bert"][0, 1].sum())
    expected = content["train"]["vision"][0][length - 2 : length]
    assert np.array_equal(corpus.features["vision"][0], expected)


def test_a_missing_modality_and_missing_values_are_counted(tmp_path):
    content = mmsa_splits()
    content["train"]["vision"][3] = 0.0
    content["valid"]["audio"][0, 0, :4] = [-np.inf, np.inf, np.nan, 1e30]
    corpus = import_mmsa(tmp_path, content)
    assert not corpus.present_NM[3, 2]
    assert corpus.present_NM.sum() == corpus.present_NM.size - 1
    assert corpus.report["modalities"]["vision"]["segments_absent"] == 1
    assert corpus.report["modalities"]["audio"]["values_cleaned"] == 4
    assert not corpus.features["audio"][12][0, :4].any()


@pytest.mark.parametrize(("rule", "count"), [("drop", 21), ("keep", 22)])
def test_an_empty_utterance_is_reported_and_dropped_or_kept(tmp_path, rule, count):
    content = mmsa_splits()
    content["train"]["text_bert"][2, 1] = 0
    corpus = import_mmsa(tmp_path, content, empty_segments=rule)
    assert len(corpus.ids) == count
    assert corpus.report["empty_segments"] == {"train1[0]": "no row of any modality"}
    assert ("train1[0]" in corpus.ids) == (rule == "keep")


def test_labels_may_be_classes_or_another_column(tmp_path):
    content = mmsa_splits()
    for part in content.values():
        part["regression_labels_A"] = part["regression_labels"] / 3
    classes = {"task": "classification", "classes": ["Negative", "Neutral", "Positive"]}
    corpus = import_mmsa(tmp_path, content, {"labels": classes})
    assert np.array_equal(corpus.labels_N, joined(content, "classification_labels"))
    assert corpus.class_names == ("Negative", "Neutral", "Positive")
    regression = {"task": "regression", "low": -1, "high": 1, "column": "regression_labels_A"}
    corpus = import_mmsa(tmp_path, content, {"labels": regression})
    assert np.allclose(corpus.labels_N, joined(content, "regression_labels_A"))


def test_a_recipe_may_have_one_or_two_modalities(tmp_path):
    for modalities in (["audio"], ["text", "vision"]):
        keys = {"modalities": {name: name for name in reversed(modalities)}}
        assert import_mmsa(tmp_path, mmsa_splits(), keys).modalities == tuple(modalities)


def test_the_report_names_a_published_file(tmp_path):
    digest = "d3994fd25681f9c7ad6e9c6596a6fe9b4beb85ff7d478ba978b124139002e5f9"
    assert known_file(digest) == "MMSA MOSI aligned_50.pkl"
    assert known_file("0" * 64) is None
    corpus = import_mmsa(tmp_path, mmsa_splits(), sources={"file.pkl": digest})
    assert corpus.report["file"] == "MMSA MOSI aligned_50.pkl"


def test_the_folds_file_must_agree_with_the_splits(tmp_path):
    videos = {split: [f"{split}{n}" for n in range(6)] for split in SPLITS}
    folds = tmp_path / "folds.json"
    folds.write_text(json.dumps(videos))
    keys = {"folds": {"file": "folds.json"}}
    assert import_mmsa(tmp_path, mmsa_splits(), keys, folds=folds).folds == ("standard",)
    folds.write_text(
        json.dumps({"train": videos["train"], "valid": videos["test"], "test": videos["valid"]})
    )
    assert mmsa_error(tmp_path, mmsa_splits(), keys, folds=folds) == (
        f"tiny: video 'valid0' is in valid of the files, but in test of {folds}: "
        "are the files' splits swapped? (10 in total)"
    )


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
        (lambda content: [1, 2], "is of type list, but must be a dict"),
        (lambda content: {**content, "train": 3}, "train is of type int, but must be a dict"),
        (lambda content: {"a": 1}, "its top-level keys are 'a', but must be train, valid and test"),
        *(
            (changed("train", "id", lambda x, first=first: [first, *x[1:]]), message)
            for first, message in (
                ("train0", "is not video$_$clip"),
                ("train0$_$x", "is not video$_$clip"),
                ("$_$1", "is not video$_$clip"),
                ("train0$_$1_2", "is not video$_$clip"),
                ("train0$_$²", "is not video$_$clip"),
                ("a$_$" + "1" * 5000, "is not video$_$clip"),
                ("train0$_$0001", "the id 'train0[1]' occurs twice"),
                ("\ud800$_$1", "invalid characters"),
                ("a\0b$_$1", "invalid characters"),
            )
        ),
        (removed("test", "audio"), "test has no 'audio'; it has raw_text, id"),
        (removed("test", "id"), "test has no 'id'"),
        (removed("train", "regression_labels"), "train has no 'regression_labels'"),
        (changed("train", "text", lambda x: x[:, 0]), "text has shape [12, 8], but must have 3"),
        (changed("train", "text", lambda x: x[:-1]), "train has 12 ids, but 11 rows of text"),
        (changed("train", "text", lambda x: x[:, :-1]), "text_bert of 10 steps, but text of 9"),
        (changed("valid", "audio", lambda x: x[..., :-1]), "'valid0[0]' has 4 values per step"),
        (changed("train", "audio", lambda x: x.astype(str)), "contains text instead of numbers"),
        (changed("train", "audio", lambda x: [[[1.0], [2.0, 3.0]]]), "train.audio is ragged"),
        (changed("train", "audio", lambda x: None), "train.audio has shape [], but must have 3"),
        (changed("train", "audio", lambda x: [[[{}]]]), "contains objects instead of numbers"),
        (
            changed("train", "id", lambda x: 7),
            "train.id is of type int, but must be a list of text",
        ),
        (changed("train", "id", lambda x: [1] * 12), "train.id contains int instead of text"),
        (changed("train", "text_bert", lambda x: x[:, :2]), "must have shape [N, 3, K]"),
        (changed("train", "text_bert", lambda x: x + 0.5), "not an attention mask of 0 and 1"),
        (
            changed("train", "text_bert", lambda x: x * [[[-1], [1], [1]]]),
            "has values that are not token ids",
        ),
        (changed("train", "regression_labels", lambda x: x * 0 + 9), "allows -3 to 3 (12 in tot"),
        (changed("train", "regression_labels", lambda x: x * np.nan), "is nan, but recipes/tiny"),
        (
            changed("train", "regression_labels", lambda x: x[None, :, None]),
            "train.regression_labels has shape [1, 12, 1], but must have shape [12]",
        ),
        (changed("train", "regression_labels", lambda x: [1.0, [2.0]]), "is ragged"),
        (changed("train", "regression_labels", lambda x: [10**400] * 12), "contains objects inst"),
        (changed("train", "regression_labels", lambda x: ["x" * 9, 1.0]), "contains text instead"),
        (changed("train", "id", lambda x: np.full(12, 2**31, "u4").view("U1")), "invalid char"),
    ],
)
def test_invalid_files_are_errors(tmp_path, change, expected):
    assert expected in mmsa_error(tmp_path, change(mmsa_splits()))


def test_invalid_lengths_are_errors(tmp_path):
    content = mmsa_splits(aligned=False)
    content["train"]["vision_lengths"][0] = -1
    message = mmsa_error(tmp_path, content, alignment="none")
    assert "train.vision_lengths has negative lengths" in message
    content["train"]["vision_lengths"].pop()
    message = mmsa_error(tmp_path, content, alignment="none")
    assert message.endswith("train has 12 ids, but 11 rows of vision_lengths")


def test_unknown_options_are_errors(tmp_path):
    message = mmsa_error(tmp_path, mmsa_splits(), {"options": {"paddding": "none"}})
    assert message == "recipes/tiny.yaml: unknown key options.paddding; format mmsa has padding"
    message = mmsa_error(tmp_path, mmsa_splits(), {"options": {"padding": "left"}})
    assert "must be one of marked, start, end, none, zeros, trailing_zeros" in message


def test_all_problems_are_listed_at_once(tmp_path):
    content = mmsa_splits()
    content["train"]["id"][0] = "nonsense"
    content["train"]["regression_labels"][2:5] = 9
    content["test"]["id"][0] = "train1$_$7"
    message = mmsa_error(tmp_path, content)
    messages = problems(mmsa_recipe(), tmp_path)
    assert len(messages) == 3
    assert "nonsense" in messages[0]
    assert "(3 in total)" in messages[1]
    assert "in both train and test" in messages[2]
    assert message == messages[0] + "; 2 more: `dhmd data check tiny` lists them"


EMOTIONS = {
    "task": "multilabel",
    "column": "labels",
    "classes": ["neutral", "happy", "sad", "angry"],
}
ZEROS = {"padding": "zeros"}


def test_mult_pickles_of_iemocap_are_read(tmp_path):
    content = mult_splits()
    corpus = import_mmsa(tmp_path, content, {"labels": EMOTIONS, "options": ZEROS})
    present = np.concatenate([part["labels"][:, :, 1] for part in content.values()])
    assert decode_sets(corpus.labels_N).tolist() == (present > 0).tolist()
    assert len(set(corpus.videos)) == len(corpus.ids)
    assert any("no ids" in warning for warning in corpus.report["warnings"])
    rows = content["train"]["text"][1]
    assert np.allclose(corpus.features["text"][1], rows[rows.any(1)], atol=1e-6)
    assert corpus.report["modalities"]["audio"]["values_cleaned"] == 3


def test_mult_pickles_of_mosi_are_read(tmp_path):
    content = mult_splits(num_classes=None, ids=True)
    labels = {"task": "regression", "low": -3.0, "high": 3.0, "column": "labels"}
    corpus = import_mmsa(tmp_path, content, {"labels": labels, "options": ZEROS})
    assert corpus.ids[:4] == ("train0[0]", "train0[1]", "train1[0]", "train1[1]")
    labels_N = np.concatenate([part["labels"].ravel() for part in content.values()])
    assert np.allclose(corpus.labels_N, labels_N)
    rows = content["train"]["vision"][1]
    assert np.allclose(corpus.features["vision"][1], rows[rows.any(1)], atol=1e-6)


def test_a_train_split_smaller_than_the_test_split_is_a_warning(tmp_path, caplog):
    content = mmsa_splits(counts={"train": 4, "valid": 4, "test": 12})
    corpus = import_mmsa(tmp_path, content)
    assert [len(corpus.index(split)) for split in SPLITS] == [4, 4, 12]
    assert "train has 4 utterances and test 12: make sure that the splits are not" in caplog.text
    assert problems(mmsa_recipe(), tmp_path) == []


def test_the_clip_is_any_text_with_one_number(tmp_path):
    content = mmsa_splits()
    for split, part in content.items():
        part["id"] = [f"{split}_dia{n // 2}$_$utt{n % 2:03}" for n in range(len(part["id"]))]
    content["train"]["id"][0] = "Ein $_$ Vidéo, a/b_-$_$0012"
    corpus = import_mmsa(tmp_path, content)
    assert corpus.ids[:4] == (
        "Ein $_$ Vidéo, a/b_-[12]",
        "train_dia0[1]",
        "train_dia1[0]",
        "train_dia1[1]",
    )
    assert corpus.videos[1:4] == ("train_dia0", "train_dia1", "train_dia1")


def test_lost_data_cause_warnings(tmp_path, caplog):
    content = mmsa_splits()
    content["test"]["text_bert"][2, 1] = 0
    for part in content.values():
        part["vision"][: len(part["id"]) * 2 // 3] = 0
    import_mmsa(tmp_path, content, max_steps=4)
    assert "tiny: 1 utterance of test left out: no modality has a value" in caplog.text
    assert "tiny: vision is absent from 13 of 21 utterances" in caplog.text
    assert "steps of text are cut off: align.max_steps is 4" in caplog.text
    for part in content.values():
        part["vision"][:] = 0
    assert mmsa_error(tmp_path, content) == (
        "tiny: vision has no value in any utterance: leave it out of modalities in "
        "recipes/tiny.yaml"
    )


def test_labels_may_have_two_columns(tmp_path, caplog):
    content = mmsa_splits()
    for part in content.values():
        labels = part["regression_labels"]
        part["regression_labels"] = np.stack([labels, labels / 2], axis=1)
    path = write_pickle(tmp_path / "file.pkl", content)
    with pytest.raises(DhmdError) as caught:
        draft_recipe("mmsa", "mine", path, LabelOptions())
    assert str(caught.value) == (
        f"{path}: train.regression_labels has shape [12, 2], but must have shape [12], one label "
        "per utterance"
    )
    second = {"task": "regression", "low": -3, "high": 3, "column": 1}
    corpus = import_mmsa(tmp_path, content, {"labels": second})
    assert np.allclose(corpus.labels_N[:12], content["train"]["regression_labels"][:, 1])
    assert caplog.text == ""
    import_mmsa(tmp_path, content)
    assert "regression_labels has 2 columns, of which labels.column" in caplog.text
