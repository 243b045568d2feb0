"""Mappings become dataclasses, and each mistake is one sentence that names the key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from dhmd.base.errors import DhmdError
from dhmd.config.schema import load_section


@dataclass(frozen=True, kw_only=True)
class Inner:
    text: int = field(default=5, metadata={"recipe": True, "min": 1})
    audio: int = field(default=5, metadata={"recipe": True, "min": 1})


@dataclass(frozen=True, kw_only=True)
class Section:
    lr: float = field(default=1e-3, metadata={"recipe": True, "exclusive_min": 0.0})
    share: float = field(default=0.3, metadata={"key": "lambda", "min": 0.0, "max": 1.0})
    seeds: tuple[int, ...] = field(default=(1, 2), metadata={"min": 0})
    device: Literal["auto", "cpu"] = "auto"
    threads: int | None = field(default=None, metadata={"min": 1})
    steps: int | None = field(default=None, metadata={"recipe": True, "min": 1})
    words: tuple[str, ...] | None = field(default=None, metadata={"recipe": True})
    sources: Mapping[str, str | tuple[str, ...] | None] = field(default_factory=dict)
    fast: bool = True
    inner: Inner = field(default_factory=Inner)
    maybe: Inner | None = None

    def __post_init__(self) -> None:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("seeds holds one number twice")


@dataclass(frozen=True, kw_only=True)
class Needed:
    path: str
    column: int | str = 0
    inner: Inner = field(default_factory=lambda: Inner(text=9))


def load(mapping: object, **options: Any) -> Section:
    return load_section(Section, mapping, where="train", **options)


def test_defaults_and_values() -> None:
    assert load({}) == Section()
    section = load(
        {
            "lr": 1,
            "lambda": 1e-05,
            "seeds": [3, 4],
            "sources": {"a": None, "b": "x", "c": ["x", "y"]},
            "inner": {"text": 3},
            "maybe": {"audio": 7},
        }
    )
    assert section.lr == 1.0
    assert type(section.lr) is float
    assert section.share == 1e-5
    assert section.seeds == (3, 4)
    assert section.sources == {"a": None, "b": "x", "c": ("x", "y")}
    assert section.inner == Inner(text=3)
    assert section.maybe == Inner(audio=7)


def test_null_means_the_recipes_and_any_other_value_wins() -> None:
    recipe = {"lr": 0.5, "steps": 50, "words": ["sp"], "inner": {"text": 7, "audio": 9}}
    nulls = {"lr": None, "steps": None, "words": None, "inner": {"text": None, "audio": 1}}
    section = load(nulls, recipe=recipe)
    assert (section.lr, section.steps, section.words) == (0.5, 50, ("sp",))
    assert section.inner == Inner(text=7, audio=1)
    assert load({"lr": 2.0, "words": []}, recipe=recipe).lr == 2.0
    assert load({"lr": 2.0, "words": []}, recipe=recipe).words == ()
    # The recipe is silent: the defaults.
    assert load(nulls, recipe={"lr": None}).lr == 1e-3
    assert load(nulls).steps is None


def test_defaults_of_a_nested_dataclass_are_the_fields_own() -> None:
    assert load_section(Needed, {"path": "x"}).inner == Inner(text=9)
    assert load_section(Needed, {"path": "x", "column": "mean"}).column == "mean"


@pytest.mark.parametrize(
    ("mapping", "sentence"),
    [
        ({"lrr": 1}, "params.yaml: unknown key train.lrr (value 1); did you mean train.lr?"),
        (
            {"inner": {"texd": 1}},
            "params.yaml: unknown key train.inner.texd (value 1); did you mean train.inner.text?",
        ),
        (
            {"zzz": 1},
            "params.yaml: unknown key train.zzz (value 1); known keys are lr, lambda, seeds, "
            "device, threads, steps, words, sources, fast, inner, maybe",
        ),
        (
            {"share": 1},
            "params.yaml: unknown key train.share (value 1); known keys are lr, lambda, seeds, "
            "device, threads, steps, words, sources, fast, inner, maybe",
        ),
        (
            {"lr": "1e-4x"},
            "params.yaml: train.lr is '1e-4x', but must be a finite number, above 0 "
            "(or null: the recipe's)",
        ),
        (
            {"lr": 0},
            "params.yaml: train.lr is 0, but must be a finite number, above 0 "
            "(or null: the recipe's)",
        ),
        (
            {"lambda": 1.5},
            "params.yaml: train.lambda is 1.5, but must be a finite number, "
            "at least 0 and at most 1",
        ),
        (
            {"lambda": True},
            "params.yaml: train.lambda is true, but must be a finite number, "
            "at least 0 and at most 1",
        ),
        (
            {"lambda": None},
            "params.yaml: train.lambda is null, but must be a finite number, "
            "at least 0 and at most 1",
        ),
        (
            {"lambda": float("nan")},
            "params.yaml: train.lambda is nan, but must be a finite number, "
            "at least 0 and at most 1",
        ),
        (
            {"seeds": [1, True]},
            "params.yaml: train.seeds[1] is true, but must be a whole number, at least 0",
        ),
        (
            {"seeds": [1, 2.0]},
            "params.yaml: train.seeds[1] is 2.0, but must be a whole number, at least 0",
        ),
        (
            {"seeds": 5},
            "params.yaml: train.seeds is 5, but must be a list, each item a whole number, "
            "at least 0",
        ),
        ({"seeds": [1, 1]}, "params.yaml: train: seeds holds one number twice"),
        ({"device": "gpu"}, "params.yaml: train.device is 'gpu', but must be one of auto, cpu"),
        (
            {"threads": 0},
            "params.yaml: train.threads is 0, but must be null or a whole number, at least 1",
        ),
        ({"fast": 1}, "params.yaml: train.fast is 1, but must be true or false"),
        (
            {"sources": {"a": 1}},
            "params.yaml: train.sources.a is 1, but must be null or text or a list, each item text",
        ),
        (
            {"inner": None},
            "params.yaml: train.inner is null, but must be a mapping with the keys text, audio",
        ),
        (
            {"lr": 10**400},
            f"params.yaml: train.lr is 1{'0' * 56}…, but must be a finite number, above 0 "
            "(or null: the recipe's)",
        ),
        (
            [],
            "params.yaml: train is [], but must be a mapping with the keys lr, lambda, seeds, "
            "device, threads, steps, words, sources, fast, inner, maybe",
        ),
    ],
)
def test_each_mistake_is_named(mapping: object, sentence: str) -> None:
    with pytest.raises(DhmdError) as caught:
        load(mapping)
    assert str(caught.value) == sentence


def test_a_recipes_mistakes_name_the_recipe() -> None:
    with pytest.raises(DhmdError) as caught:
        load({}, recipe={"lr": -1}, recipe_source="recipes/demo.yaml")
    assert str(caught.value).startswith("recipes/demo.yaml: train.lr is -1, but must be")
    with pytest.raises(DhmdError) as caught:
        load({}, recipe={"lambda": 0.5}, recipe_source="recipes/demo.yaml")
    assert str(caught.value) == "recipes/demo.yaml: train.lambda is not for a recipe to set"
    with pytest.raises(DhmdError, match=r"recipes/demo\.yaml: unknown key train\.inner\.vision"):
        load({}, recipe={"inner": {"vision": 1}}, recipe_source="recipes/demo.yaml")


def test_complete_names_every_absent_key() -> None:
    with pytest.raises(DhmdError) as caught:
        load_section(Inner, {}, where="model.kernels", complete=True)
    assert str(caught.value) == (
        "params.yaml lacks model.kernels.text, model.kernels.audio: "
        "every key must be there, null if need be"
    )
    assert load_section(Inner, {"text": None, "audio": 2}, complete=True) == Inner(audio=2)


def test_a_key_without_a_default_must_be_given() -> None:
    with pytest.raises(DhmdError) as caught:
        load_section(Needed, {}, where="labels", source="recipes/x.yaml")
    assert str(caught.value) == "recipes/x.yaml lacks labels.path: must be text"
