"""Inputs that users of these formats report: padding at the start, few-shot splits, other ids."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.config.yaml12 import parse_yaml
from dhmd.data.formats.drafting import LabelOptions, draft_recipe
from dhmd.recipes import parse_recipe
from tests.data.formats.files import array_splits, mmsa_splits, write_arrays, write_pickle
from tests.data.formats.recipes import error_message, imported, mmsa_recipe, problems

SPLITS = ("train", "valid", "test")
FOUR = ("angry", "happy", "sad", "neutral")


def padded_at_the_start(content, share=1.0):
    """Move the rows of audio and vision of the first utterances of each split to the end."""
    for part in content.values():
        for modality in ("audio", "vision"):
            for n in range(round(share * len(part["id"]))):
                length = part[f"{modality}_lengths"][n]
                part[modality][n] = np.roll(part[modality][n], -length, axis=0)
    return content


def test_the_side_of_the_padding_is_found_and_said(tmp_path, caplog):
    at_the_end = mmsa_splits(aligned=False)
    write_pickle(tmp_path / "file.pkl", padded_at_the_start(mmsa_splits(aligned=False)))
    caplog.set_level(logging.WARNING)
    corpus = imported(mmsa_recipe(), tmp_path, alignment="none")
    assert corpus.report["padding"] == {"audio": "start", "vision": "start"}
    assert "tiny: audio is padded at the start (" in caplog.text
    assert "tiny: vision is padded at the start (" in caplog.text
    n = 0
    for split in SPLITS:
        for i, length in enumerate(at_the_end[split]["audio_lengths"]):
            expected = at_the_end[split]["audio"][i][:length]
            assert np.array_equal(corpus.features["audio"][n], expected)
            n += 1
    assert corpus.report["rows_beyond_the_mask"] == {"text": 0, "audio": 0, "vision": 0}


def test_padding_at_the_end_is_checked_and_nothing_is_said(tmp_path, caplog):
    content = mmsa_splits(aligned=False)
    content["train"]["audio"][0] = 0  # an absent modality fits both sides
    content["train"]["vision_lengths"][0] = 1000  # a length from before a cut: no padding
    write_pickle(tmp_path / "file.pkl", content)
    corpus = imported(mmsa_recipe(), tmp_path, alignment="none")
    assert corpus.report["padding"] == {"audio": "end", "vision": "end"}
    assert caplog.text == ""


def test_ambiguous_padding_is_refused_unless_it_is_named(tmp_path):
    content = padded_at_the_start(mmsa_splits(aligned=False), share=0.5)
    path = write_pickle(tmp_path / "file.pkl", content)
    message = error_message(mmsa_recipe(), tmp_path, alignment="none")
    assert message.startswith(
        f"{path}: the padding of audio is ambiguous: according to its lengths and "
    )
    assert message.endswith(
        "; choose with `dhmd import mmsa … --padding` start or end (options.padding of "
        "recipes/tiny.yaml)"
    )
    corpus = imported(mmsa_recipe(options={"padding": "start"}), tmp_path, alignment="none")
    length = content["train"]["audio_lengths"][0]
    assert np.array_equal(corpus.features["audio"][0], content["train"]["audio"][0][-length:])
    corpus = imported(mmsa_recipe(options={"padding": "end"}), tmp_path, alignment="none")
    length = content["train"]["audio_lengths"][-1]
    assert np.array_equal(corpus.features["audio"][11], content["train"]["audio"][-1][:length])


def test_padding_that_is_not_zeros_is_refused(tmp_path):
    content = mmsa_splits(aligned=False)
    for part in content.values():
        part["vision"] += 1.0
    write_pickle(tmp_path / "file.pkl", content)
    message = error_message(mmsa_recipe(), tmp_path, alignment="none")
    assert "the padding of vision is ambiguous" in message


@pytest.mark.parametrize("side", ["start", "end"])
def test_unmarked_padding_of_a_named_side(tmp_path, side):
    content = mmsa_splits()
    expected = [row for split in SPLITS for row in content[split]["audio"]]
    lengths = [int(row[1].sum()) for split in SPLITS for row in content[split]["text_bert"]]
    for part in content.values():
        counts = part.pop("text_bert")[:, 1].sum(axis=1).astype(int)
        for modality in ("text", "audio", "vision") if side == "start" else ():
            rows = zip(part[modality], counts, strict=True)
            part[modality] = np.stack([np.roll(row, -count, axis=0) for row, count in rows])
    write_pickle(tmp_path / "file.pkl", content)
    corpus = imported(mmsa_recipe(options={"padding": side}), tmp_path)
    assert np.array_equal(corpus.features["audio"].lengths, lengths)
    for n, (row, length) in enumerate(zip(expected, lengths, strict=True)):
        assert np.array_equal(corpus.features["audio"][n], row[:length])


def test_rows_outside_of_the_mask_are_said(tmp_path, caplog):
    # Aligned, the mask of text at the start, audio at the end.
    content = mmsa_splits()
    for part in content.values():
        part["audio"] = np.flip(part["audio"], axis=1)
    write_pickle(tmp_path / "file.pkl", content)
    imported(mmsa_recipe(), tmp_path)
    assert "rows of audio with nonzero values are outside of the steps that the file" in caplog.text


def test_values_that_are_not_finite_are_counted_in_half_precision(tmp_path):
    content = mmsa_splits(aligned=False)
    for part in content.values():
        part["audio"] = part["audio"].astype(np.float16)
        part["audio"][:, 0, 0] = -np.inf
    content["test"]["audio"][0, 0, 1] = np.nan
    write_pickle(tmp_path / "file.pkl", content)
    corpus = imported(mmsa_recipe(), tmp_path, alignment="none")
    assert corpus.report["modalities"]["audio"]["values_cleaned"] == 22 + 1
    first = corpus.features["audio"][0]
    assert first[0, 0] == 0
    assert np.allclose(first[0, 1:], content["train"]["audio"][0, 0, 1:])


def test_a_train_split_smaller_than_the_test_split_is_a_warning(tmp_path, caplog):
    content = mmsa_splits(counts={"train": 4, "valid": 4, "test": 12})
    write_pickle(tmp_path / "file.pkl", content)
    corpus = imported(mmsa_recipe(), tmp_path)
    assert [len(corpus.index(split)) for split in SPLITS] == [4, 4, 12]
    assert "train has 4 utterances and test 12: make sure that the splits are not" in caplog.text
    assert problems(mmsa_recipe(), tmp_path) == []


def test_any_number_behind_the_separator_is_the_clip(tmp_path):
    content = mmsa_splits()
    for split, part in content.items():
        part["id"] = [f"{split}_dia{n // 2}$_$utt{n % 2:03}" for n in range(len(part["id"]))]
    content["train"]["id"][0] = "Ein $_$ Vidéo, a/b_-$_$0012"
    write_pickle(tmp_path / "file.pkl", content)
    corpus = imported(mmsa_recipe(), tmp_path)
    assert corpus.ids[:4] == (
        "Ein $_$ Vidéo, a/b_-[12]",
        "train_dia0[1]",
        "train_dia1[0]",
        "train_dia1[1]",
    )
    assert corpus.videos[1:4] == ("train_dia0", "train_dia1", "train_dia1")


def test_utterances_that_are_left_out_are_said(tmp_path, caplog):
    content = mmsa_splits()
    content["test"]["text_bert"][2, 1] = 0
    for part in content.values():
        part["vision"][: len(part["id"]) * 2 // 3] = 0
    write_pickle(tmp_path / "file.pkl", content)
    imported(mmsa_recipe(), tmp_path, max_steps=4)
    assert "tiny: 1 utterance of test left out: no modality has a value" in caplog.text
    assert "tiny: vision is absent from 13 of 21 utterances" in caplog.text
    assert "steps of text are cut off: align.max_steps is 4" in caplog.text
    for part in content.values():
        part["vision"][:] = 0
    write_pickle(tmp_path / "file.pkl", content)
    (tmp_path / "tiny.h5").unlink()
    assert error_message(mmsa_recipe(), tmp_path) == (
        "tiny: vision has no value in any utterance: leave it out of modalities in "
        "recipes/tiny.yaml"
    )


def test_two_columns_of_labels(tmp_path, caplog):
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
    corpus = imported(mmsa_recipe(labels=second), tmp_path)
    assert np.allclose(corpus.labels_N[:12], content["train"]["regression_labels"][:, 1])
    assert caplog.text == ""
    imported(mmsa_recipe(), tmp_path)
    assert "regression_labels has 2 columns, of which labels.column" in caplog.text


@pytest.mark.parametrize("format", ["mmsa", "arrays"])
def test_whole_numbers_may_be_classes(tmp_path, format):
    rng = np.random.default_rng(0)
    path = tmp_path / "file.pkl" if format == "mmsa" else tmp_path
    content = mmsa_splits() if format == "mmsa" else array_splits()
    for part in content.values():
        keys = ("regression_labels", "classification_labels") if format == "mmsa" else ("labels",)
        for key in keys:
            part[key] = rng.permutation(np.arange(len(part[key])) % 4)
    if format == "mmsa":
        write_pickle(path, content)
    else:
        write_arrays(tmp_path, content)
    with pytest.raises(DhmdError) as caught:
        draft_recipe(format, "tiny", path, LabelOptions())
    assert str(caught.value) == (
        f"{path}: all labels are whole numbers from 0 to 3; name the classes with --classes "
        "NAME,NAME,…, or add --task regression or --label-range LOW HIGH if they are points on a "
        "scale"
    )
    text = draft_recipe(format, "tiny", path, LabelOptions(classes=FOUR))
    recipe = parse_recipe("tiny", parse_yaml(text, "x"))
    corpus = imported(recipe, tmp_path)
    assert corpus.task == "classification"
    assert corpus.class_names == FOUR
    assert set(corpus.labels_N) == {0, 1, 2, 3}
    too_few = parse_yaml(draft_recipe(format, "tiny", path, LabelOptions(classes=("a", "b"))), "x")
    assert "allows the classes 0 to 1" in problems(parse_recipe("tiny", too_few), tmp_path)[0]
    text = draft_recipe(format, "tiny", path, LabelOptions(task="regression"))
    labels = parse_recipe("tiny", parse_yaml(text, "x")).labels
    assert (labels.task, labels.low, labels.high) == ("regression", 0.0, 3.0)
    for task, classes in (("classification", ()), ("regression", ("a", "b"))):
        options = LabelOptions(task=task, classes=classes)
        with pytest.raises(DhmdError, match="--classes names the classes of a classification"):
            draft_recipe(format, "tiny", path, options)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda part: part.pop("ids"), "train.npz: ids is missing"),
        (lambda part: part.pop("labels"), "train.npz: labels is missing"),
        (lambda part: part.pop("audio_offsets"), "or in arrays [rows, values] with audio_offsets"),
        (lambda part: part.update(labels=part["labels"] * 0), "all labels are equal"),
        (lambda part: [part.pop(m) for m in ("text", "audio", "vision")], "none of text, audio"),
    ],
)
def test_files_that_cannot_be_drafted_are_refused(tmp_path, change, expected):
    content = array_splits()
    for part in content.values():
        change(part)
    write_arrays(tmp_path, content)
    with pytest.raises(DhmdError) as caught:
        draft_recipe("arrays", "tiny", tmp_path, LabelOptions())
    assert expected in str(caught.value)
