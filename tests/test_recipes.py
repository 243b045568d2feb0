"""Recipes: roles, defaults and invalid values."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dhmd.base.errors import DhmdError
from dhmd.base.files import json_sha256
from dhmd.recipes import load_recipe, parse_recipe, recipe_names, repository_root
from tests.shipped import SHIPPED

ROOT = Path(__file__).parents[1]

KITCHEN: dict[str, Any] = {
    "title": "a small corpus",
    "format": "csd",
    "sources": ["https://example.org/files", "../elsewhere"],
    "sequences": {
        "words": {"path": "words.csd"},
        "glove": {"path": "a/glove.csd", "bytes": 12, "sha256": "ab" * 32},
        "covarep": {"path": "covarep.csd"},
        "opensmile": {"path": "opensmile.csd"},
        "labels": {"path": "labels.csd"},
    },
    "modalities": {"audio": "covarep", "text": "glove"},
    "reference": "words",
    "labels": {"sequence": "labels", "low": -3, "high": 3},
    "folds": {"file": "folds/kitchen.json"},
    "train": {"lr": 1e-3},
}

Change = Callable[[dict[str, Any]], object]


def kitchen_with(change: Change) -> dict[str, Any]:
    mapping = copy.deepcopy(KITCHEN)
    change(mapping)
    return mapping


def test_a_recipe_has_roles_and_defaults() -> None:
    recipe = parse_recipe("kitchen", KITCHEN)
    assert recipe.name == "kitchen"
    assert recipe.source == "recipes/kitchen.yaml"
    assert recipe.modality_names == ("text", "audio")
    assert recipe.sequences["glove"].bytes == 12
    assert recipe.labels.task == "regression"
    assert (recipe.labels.low, recipe.labels.high, recipe.labels.classes) == (-3.0, 3.0, ())
    assert dict(recipe.train) == {"lr": 1e-3}
    assert dict(recipe.model) == {}
    assert recipe.provenance == ""


def test_only_sequences_with_a_role_are_required() -> None:
    assert list(parse_recipe("kitchen", KITCHEN).required_sequences) == [
        "words",
        "glove",
        "covarep",
        "labels",
    ]
    other = kitchen_with(lambda r: r["modalities"].update(audio="opensmile"))
    assert "opensmile" in parse_recipe("kitchen", other).required_sequences
    assert "covarep" not in parse_recipe("kitchen", other).required_sequences


def test_nulls_are_empty_values() -> None:
    nulls = kitchen_with(
        lambda r: r.update(sources=None, train=None, generator=None, provenance=None)
    )
    recipe = parse_recipe("kitchen", nulls)
    assert (recipe.sources, dict(recipe.train), dict(recipe.generator)) == ((), {}, {})


def test_the_definition_of_a_corpus_has_no_locations() -> None:
    corpus = parse_recipe("kitchen", KITCHEN).definition()
    assert json.loads(json.dumps(corpus)) == corpus
    same = kitchen_with(
        lambda r: r.update(title="x", sources=None, train={"lr": 1}, provenance="y")
    )
    assert parse_recipe("kitchen", same).definition() == corpus
    other = kitchen_with(lambda r: r["labels"].update(high=2))
    assert parse_recipe("kitchen", other).definition() != corpus


def test_the_labels_of_a_classification_have_classes() -> None:
    labels = {"sequence": "labels", "task": "classification", "classes": ["no", "yes"]}
    recipe = parse_recipe("kitchen", kitchen_with(lambda r: r.update(labels=labels)))
    assert recipe.labels.classes == ("no", "yes")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda r: r.update(sequence={}), "unknown key sequence"),
        (lambda r: r.update(name="x"), "unknown key name (value 'x'); known keys are title"),
        (lambda r: r.pop("title"), "lacks title, which must be text"),
        (lambda r: r.pop("format"), "lacks format, which must be one of csd, generated"),
        (lambda r: r.update(format="zip"), "format is 'zip', but must be one of csd"),
        (lambda r: r.update(sources="x"), "sources is 'x', but must be a list, each value text"),
        (
            lambda r: r["sequences"]["glove"].update(sha256="abc"),
            "sequences.glove: sha256 is 'abc', but must be 64 digits",
        ),
        (
            lambda r: r["sequences"]["glove"].update(bytes=-1),
            "sequences.glove.bytes is -1, but must be a whole number above 0 or null",
        ),
        (
            lambda r: r["sequences"].update({"../x": {"path": "x"}}),
            "sequences: '../x' is not a valid name",
        ),
        (
            lambda r: r["modalities"].update({"a+b": "x"}),
            "modalities: 'a+b' is not a valid name",
        ),
        (lambda r: r.update(modalities=None), "modalities is empty, but must name"),
        (
            lambda r: r["modalities"].update(vision="facet"),
            "modalities.vision is 'facet', but sequences has only words, glove",
        ),
        (lambda r: r.update(reference="word"), "reference is 'word', but sequences has only"),
        (lambda r: r.update(reference=None), "reference is null, but must name a sequence"),
        (lambda r: r["labels"].pop("sequence"), "labels.sequence is null, but must name"),
        (lambda r: r.update(planted="truth"), "planted is 'truth', but sequences has only"),
        (lambda r: r.pop("labels"), "lacks labels, which must be a mapping with the keys sequence"),
        (
            lambda r: r["labels"].update(low=3, high=-3),
            "labels: a regression needs low < high, but low is 3.0 and high is -3.0",
        ),
        (lambda r: r["labels"].update(low=1, high=5), "low is 1.0 and high is 5.0, but both"),
        (lambda r: r["labels"].update(low=-4), "both must be between -3 and 3"),
        (lambda r: r["labels"].update(low=0.1, high=0.9), "with a whole number in their range"),
        (lambda r: r["labels"].update(classes=["a", "b"]), "labels: classes belong to a"),
        (
            lambda r: r["labels"].update(task="classification", classes=["a", "a"]),
            "labels: classes must be two or more different names, since task is classification",
        ),
        (lambda r: r["labels"].update(column=-1), "labels.column is -1, but must be"),
        (
            lambda r: r["folds"].update(file="../../etc/passwd"),
            "folds: file is '../../etc/passwd', but must be a plain path below recipes/",
        ),
        (lambda r: r["folds"].update(file="/etc/passwd"), "folds: file is '/etc/passwd'"),
        (lambda r: r.update(generator={"seed": 1}), "generator belongs to format generated"),
    ],
)
def test_an_invalid_value_is_named(change: Change, sentence: str) -> None:
    with pytest.raises(DhmdError) as caught:
        parse_recipe("kitchen", kitchen_with(change))
    message = str(caught.value)
    assert message.startswith("recipes/kitchen.yaml")
    assert sentence in message
    assert "\n" not in message


def test_a_missing_recipe_suggests_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    with pytest.raises(DhmdError, match=r"no recipe recipes/demo\.yaml .*; there are no recipes"):
        load_recipe("demo", tmp_path)
    (tmp_path / "recipes" / "demo.yaml").write_text("title: x\nformat: mmsa\nlabels: {low: 0}\n")
    assert recipe_names(tmp_path) == ("demo",)
    with pytest.raises(DhmdError, match=r"dataset demmo; did you mean demo\?"):
        load_recipe("demmo", tmp_path)
    with pytest.raises(DhmdError, match=r"^recipes/demo\.yaml: labels: a regression needs"):
        load_recipe("demo", tmp_path)
    with pytest.raises(DhmdError, match=r"'\.\./demo' is not a valid name"):
        load_recipe("../demo", tmp_path)


def test_the_root_is_that_of_dvc_or_the_nearest_with_params(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    (tmp_path / "params.yaml").touch()
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    assert repository_root() == tmp_path.resolve()
    monkeypatch.setenv("DVC_ROOT", "/elsewhere")
    assert repository_root() == Path("/elsewhere")


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_describes_its_origin(name: str) -> None:
    recipe = load_recipe(name, ROOT)
    assert recipe.title
    # Where the files come from, their licence and what they are comparable with, in words.
    assert len(recipe.provenance.split()) > 20
    if recipe.folds is not None:
        folds = json.loads((ROOT / "recipes" / recipe.folds.file).read_text(encoding="utf-8"))
        videos = [video for split in ("train", "valid", "test") for video in folds[split]]
        assert len(videos) == len(set(videos))


# A changed one makes every earlier result on that corpus incomparable.
CORPORA = {
    "demo": "8d74c3585629",
    "mmmo": "3008a4da0e6c",
    "mosi_real": "f92988f614e1",
    "mustard": "f835ebb89f7c",
}


@pytest.mark.parametrize(("name", "sha256"), CORPORA.items())
def test_the_definition_of_shipped_corpora_has_not_changed(name: str, sha256: str) -> None:
    assert json_sha256(load_recipe(name, ROOT).definition()).startswith(sha256)


def test_shipped_folds_have_the_standard_sizes() -> None:
    sizes = {}
    for name in ("mosi", "mosei"):
        folds = json.loads((ROOT / "recipes" / "folds" / f"{name}.json").read_text("utf-8"))
        sizes[name] = [len(folds[split]) for split in ("train", "valid", "test")]
    assert sizes == {"mosi": [52, 10, 31], "mosei": [2249, 300, 678]}
