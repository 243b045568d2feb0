"""Configurations as values: to JSON and back, changed by overlays, compared by structure."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from dhmd.base.errors import DhmdError
from dhmd.training.configuration import Configuration, flat, overlay, subsets
from tests.training.corpora import TINY, tiny_configuration


def test_a_configuration_goes_to_json_and_back() -> None:
    value = json.loads(json.dumps(TINY.as_json()))
    assert Configuration.from_json(value, "here") == TINY
    assert value["kd"]["lambda"] == 0.3
    assert value["train"]["seeds"] == [1, 2]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda value: value["kd"].update({"lambda": 1.5}), r"here.*kd\.lambda"),
        (lambda value: value["model"].update({"depth": 3}), r"here.*model\.depth"),
        (lambda value: value["train"].update({"epochs": "many"}), r"here.*train\.epochs"),
        (lambda value: value.pop("modalities"), "modalities"),
    ],
)
def test_json_that_is_no_configuration_is_refused_by_key(change: Any, words: str) -> None:
    value = TINY.as_json()
    change(value)
    with pytest.raises(DhmdError, match=words):
        Configuration.from_json(value, "here")


def test_the_width_must_be_a_multiple_of_the_heads() -> None:
    with pytest.raises(DhmdError, match=r"model\.width is 8.*model\.heads, which is 3"):
        tiny_configuration({"model": {"heads": 3}})


def test_an_overlay_replaces_nested_keys_and_nothing_else() -> None:
    changed = overlay(TINY, {"kd": {"lambda": 0.7, "graph": {"edges": "self"}}})
    before, after = flat(TINY.as_json()), flat(changed.as_json())
    differing = {key for key in before if before[key] != after[key]}
    assert differing == {"kd.lambda", "kd.graph.edges"}
    assert overlay(TINY, {}) == TINY
    with pytest.raises(DhmdError, match=r"unknown key kd\.graph\.egdes .*; did you mean"):
        overlay(TINY, {"kd": {"graph": {"egdes": "self"}}})


@pytest.mark.parametrize(
    "changes",
    [
        {"kd": {"lambda": 0.9, "aux": 0.2}},
        {"kd": {"graph": {"homogeneous": False, "heterogeneous": False, "edges": "prior"}}},
        {"kd": {"dictionary": {"matching": False, "weight": 3.0}}},
        {"decouple": {"weight": 0.4, "gamma": 0.4}},
        {"compute": {"threads": 4}},
        {"compute": {"workers": 4}},
    ],
)
def test_what_differs_in_numbers_of_the_loss_alone_trains_as_one_stack(
    changes: dict[str, Any],
) -> None:
    assert tiny_configuration(changes).structure() == TINY.structure()


@pytest.mark.parametrize(
    "changes",
    [
        {"model": {"width": 16}},
        {"model": {"cross_modal": False}},
        {"decouple": {"enabled": False}},
        {"decouple": {"margin": 0.2}},
        {"kd": {"graph": {"edge_loss": "kl"}}},
        {"kd": {"dictionary": {"homogeneous": False}}},
        {"kd": {"dictionary": {"lr_factor": 1.0}}},
        {"train": {"lr": 0.5}},
        {"train": {"seeds": (1, 2, 3)}},
        {"pretrain": {"enabled": False}},
    ],
)
def test_what_shapes_the_model_or_its_training_does_not(changes: dict[str, Any]) -> None:
    assert tiny_configuration(changes).structure() != TINY.structure()
    assert replace(TINY, architecture="mult").structure() != TINY.structure()
    assert replace(TINY, modalities=("text",)).structure() != TINY.structure()


def test_pretraining_depends_on_nothing_that_it_does_not_use() -> None:
    same = [
        {"kd": {"lambda": 0.9}},
        {"decouple": {"enabled": False}},
        {"model": {"layers": 3, "cross_modal": False, "dropout": {"layer": 0.7}}},
        {"train": {"epochs": 99, "lr": 0.5, "early_stop": 3, "modality_dropout": 0.1}},
        {"pretrain": {"enabled": False}},
    ]
    for changes in same:
        assert tiny_configuration(changes).for_pretraining() == TINY.for_pretraining(), changes
    other = [
        {"model": {"width": 16}},
        {"model": {"kernels": {"audio": 5}}},
        {"model": {"dropout": {"output": 0.9}}},
        {"pretrain": {"lr": 0.5}},
        {"train": {"batch_size": 4}},
        {"train": {"seeds": (5,)}},
    ]
    for changes in other:
        assert tiny_configuration(changes).for_pretraining() != TINY.for_pretraining(), changes


def test_nested_values_get_dotted_keys() -> None:
    assert flat({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == {"a.b": 1, "a.c.d": [2], "e": None}


def test_subsets_are_all_proper_ones_of_up_to_four_modalities() -> None:
    assert subsets(("a",)) == []
    assert subsets(("a", "b", "c")) == [
        *[("a",), ("b",), ("c",)],
        *[("a", "b"), ("a", "c"), ("b", "c")],
    ]
    assert len(subsets(tuple("abcd"))) == 4 + 6 + 4
    # With more, those of one modality and those that leave one out.
    assert {len(subset) for subset in subsets(tuple("abcde"))} == {1, 4}
    assert len(subsets(tuple("abcde"))) == 5 + 5


def test_an_older_model_json_has_another_name_for_the_auxiliary_average() -> None:
    value = TINY.as_json()
    del value["model"]["auxiliary_average"]
    value["model"]["vote"] = False
    assert Configuration.from_json(value, "model.json").model.auxiliary_average is False


def test_an_older_model_json_has_the_compute_settings_in_section_train() -> None:
    value = TINY.as_json()
    del value["compute"]
    value["train"] |= {"threads": 1, "workers": None, "device": "cpu", "cuda_graph": True}
    assert Configuration.from_json(value, "model.json").train == TINY.train
