"""The dataset configs that `dhmd import` drafts."""

from __future__ import annotations

import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.config.yaml12 import parse_yaml
from dhmd.data.formats.drafting import LabelOptions, draft_recipe
from dhmd.recipes import parse_recipe
from tests.data.formats.files import array_splits, mmsa_splits, write_arrays, write_pickle
from tests.data.formats.recipes import import_files, problems

FOUR = ("angry", "happy", "sad", "neutral")


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
    corpus = import_files(recipe, tmp_path)
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
def test_files_that_cannot_be_drafted_are_errors(tmp_path, change, expected):
    content = array_splits()
    for part in content.values():
        change(part)
    write_arrays(tmp_path, content)
    with pytest.raises(DhmdError) as caught:
        draft_recipe("arrays", "tiny", tmp_path, LabelOptions())
    assert expected in str(caught.value)
