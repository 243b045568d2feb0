"""Mappings are converted to dataclasses; an invalid value is one sentence that names the key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic.dataclasses import dataclass

from dhmd.base.errors import DhmdError
from dhmd.config.modalities import per_modality
from dhmd.config.schema import CONFIG, FromRecipe, Share, as_json, load_section


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Inner:
    path: str = "x"
    layers: FromRecipe[PositiveInt] = 2


@dataclass(frozen=True, kw_only=True, config=CONFIG)
class Section:
    lr: FromRecipe[PositiveFloat] = 1e-3
    share: Annotated[Share, Field(alias="lambda")] = 0.3
    seeds: tuple[NonNegativeInt, ...] = (1, 2)
    device: Literal["auto", "cpu"] = "auto"
    threads: PositiveInt | None = None
    words: FromRecipe[tuple[str, ...] | None] = None
    column: NonNegativeInt | str = 0
    margins: Mapping[str, PositiveFloat] = field(default_factory=dict)
    kernels: Annotated[Mapping[str, FromRecipe[PositiveInt]], per_modality(5, text=1)] = field(
        default_factory=dict
    )
    fast: bool = True
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None

    def __post_init__(self) -> None:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds has one number twice")


KEYS = "lr, lambda, seeds, device, threads, words, column, margins, kernels, fast, inner, maybe"


def load(mapping: object, **options: Any) -> Section:
    return load_section(Section, mapping, where="train", **options)


def error_message(mapping: object, **options: Any) -> str:
    with pytest.raises(DhmdError) as caught:
        load(mapping, **options)
    return str(caught.value)


def test_a_mapping_is_merged_with_the_defaults() -> None:
    assert load({}) == Section()
    values = {"lr": 1, "lambda": 1e-05, "seeds": [3, 4], "inner": {"path": "y"}, "column": "mean"}
    section = load(values | {"margins": {"mae": 1e-3}, "maybe": {"layers": 7}})
    assert section == Section(
        lr=1.0,
        share=1e-5,
        seeds=(3, 4),
        inner=Inner(path="y"),
        column="mean",
        margins={"mae": 1e-3},
        maybe=Inner(layers=7),
    )
    assert type(section.lr) is float
    assert load(as_json(section)) == section
    assert as_json(section)["lambda"] == 1e-5


def test_null_means_the_value_of_the_recipe_or_the_default() -> None:
    recipe = {"lr": 0.5, "words": ["sp"], "inner": {"layers": 7}, "kernels": {"audio": 3}}
    nulls = {"lr": None, "words": None, "lambda": None, "inner": {"layers": None}, "maybe": None}
    section = load(nulls | {"kernels": {"text": None, "vision": 9}}, recipe=recipe)
    assert (section.lr, section.words, section.share) == (0.5, ("sp",), 0.3)
    assert (section.inner, section.maybe) == (Inner(layers=7), None)
    assert section.kernels == {"text": 1, "audio": 3, "vision": 9}
    section = load({"lr": 2.0, "words": [], "inner": {"layers": 1}}, recipe=recipe)
    assert (section.lr, section.words, section.inner.layers) == (2.0, (), 1)
    assert load(nulls, recipe={"lr": None}) == Section()


def test_a_setting_per_modality_has_a_value_for_each_modality() -> None:
    kernels = load({"kernels": {"vision": 3, "physio": 7}}).kernels
    assert list(kernels.items()) == [("text", 1), ("audio", 5), ("vision", 3), ("physio", 7)]
    names = ("text", "physio", "gaze")
    assert load({}, modalities=names).kernels == {"text": 1, "physio": 5, "gaze": 5}
    assert error_message({"kernels": {"fysio": 3}}, modalities=names) == (
        "params.yaml: train.kernels: 'fysio' is not a modality; the modalities are text, physio, "
        "gaze"
    )
    assert error_message({"kernels": {"physio": 0}}) == (
        "params.yaml: train.kernels.physio is 0, but must be a whole number above 0 "
        "(or null: the recipe's value)"
    )


@pytest.mark.parametrize(
    ("mapping", "sentence"),
    [
        ({"lrr": 1}, "unknown key train.lrr (value 1); did you mean train.lr?"),
        (
            {"inner": {"layer": 1}},
            "unknown key train.inner.layer (value 1); did you mean train.inner.layers?",
        ),
        ({"zzz": None}, f"unknown key train.zzz (value null); known keys are {KEYS}"),
        ({"share": 1}, f"unknown key train.share (value 1); known keys are {KEYS}"),
        (
            {"lr": "1e-4x"},
            "train.lr is '1e-4x', but must be a number above 0 (or null: the recipe's value)",
        ),
        (
            {"lr": 10**400},
            f"train.lr is 1{'0' * 56}…, but must be a number above 0 (or null: the recipe's value)",
        ),
        ({"lambda": 1.5}, "train.lambda is 1.5, but must be a number between 0 and 1"),
        ({"lambda": True}, "train.lambda is true, but must be a number between 0 and 1"),
        ({"lambda": float("nan")}, "train.lambda is nan, but must be a number between 0 and 1"),
        ({"seeds": [1, True]}, "train.seeds[1] is true, but must be a whole number of at least 0"),
        ({"seeds": [1, 2.0]}, "train.seeds[1] is 2.0, but must be a whole number of at least 0"),
        (
            {"seeds": 5},
            "train.seeds is 5, but must be a list, each value a whole number of at least 0",
        ),
        ({"seeds": [1, 1]}, "train: seeds has one number twice"),
        ({"device": "gpu"}, "train.device is 'gpu', but must be one of auto, cpu"),
        ({"threads": 0}, "train.threads is 0, but must be a whole number above 0 or null"),
        ({"column": -1}, "train.column is -1, but must be a whole number of at least 0 or text"),
        ({"fast": 1}, "train.fast is 1, but must be true or false"),
        ({"margins": {"mae": 0}}, "train.margins.mae is 0, but must be a number above 0"),
        ({"margins": 1}, "train.margins is 1, but must be a mapping, each value a number above 0"),
        ({"inner": 1}, "train.inner is 1, but must be a mapping with the keys path, layers"),
        ([], f"train is [], but must be a mapping with the keys {KEYS}"),
        ({"device": "\ud800"}, "train: "),
    ],
)
def test_an_invalid_value_is_named(mapping: object, sentence: str) -> None:
    assert error_message(mapping).startswith(f"params.yaml: {sentence}")


def test_the_message_names_the_file_of_an_invalid_value() -> None:
    options = {"recipe_source": "recipes/demo.yaml"}
    message = error_message({"lr": None}, recipe={"lr": -1}, **options)
    assert message.startswith("recipes/demo.yaml: train.lr is -1, but must be")
    message = error_message({}, recipe={"lambda": 0.5}, **options)
    assert message == "recipes/demo.yaml: train.lambda cannot be set in a recipe"
    message = error_message({"inner": {"layers": None}}, recipe={"inner": {"layer": 1}}, **options)
    assert message.startswith("recipes/demo.yaml: unknown key train.inner.layer (value 1)")
    message = error_message(
        {"kernels": {"text": None}}, recipe={"kernels": {"x": 1}}, modalities=["text"]
    )
    assert message.startswith("the recipe: train.kernels: 'x' is not a modality")
    message = error_message(
        {"kernels": {"text": 1}}, recipe={"kernels": {"x": 1}}, modalities=["text"]
    )
    assert message.startswith("params.yaml and the recipe: train.kernels: 'x' is not a modality")


def test_all_missing_keys_are_reported_if_the_mapping_must_be_complete() -> None:
    with pytest.raises(DhmdError) as caught:
        load_section(Inner, {}, where="model", complete=True)
    assert str(caught.value) == (
        "params.yaml lacks model.path, model.layers: every key must be present, null for no value"
    )
    assert load_section(Inner, {"path": None, "layers": 3}, complete=True) == Inner(layers=3)

    @dataclass(frozen=True, kw_only=True, config=CONFIG)
    class Required:
        path: str

    for mapping in ({}, {"path": None}):
        with pytest.raises(DhmdError, match=r"^recipes/x\.yaml lacks labels\.path, which must be"):
            load_section(Required, mapping, where="labels", source="recipes/x.yaml")
