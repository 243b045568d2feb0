"""Configurations as values: to JSON and back, changed by overlays, compared by structure."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from dhmd.base.errors import DhmdError
from dhmd.training.configuration import Configuration, overlay, subsets
from tests.training.corpora import TINY, flat, tiny_configuration


def test_a_configuration_survives_json() -> None:
    value = json.loads(json.dumps(TINY.as_json()))
    assert Configuration.from_json(value, "here") == TINY
    assert value["kd"]["lambda"] == 0.3
    assert value["train"]["seeds"] == [1, 2]
    assert "recurrent" not in value["model"]  # so that hashes from before the key are valid
    recurrent = tiny_configuration({"model": {"recurrent": {"audio": True}}})
    value = json.loads(json.dumps(recurrent.as_json()))
    assert Configuration.from_json(value, "here") == recurrent != TINY


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda value: value["kd"].update({"lambda": 1.5}), r"here.*kd\.lambda"),
        (lambda value: value["model"].update({"depth": 3}), r"here.*model\.depth"),
        (lambda value: value["train"].update({"epochs": "many"}), r"here.*train\.epochs"),
        (lambda value: value.pop("modalities"), "modalities"),
    ],
)
def test_invalid_json_is_refused_by_key(change: Any, words: str) -> None:
    value = TINY.as_json()
    change(value)
    with pytest.raises(DhmdError, match=words):
        Configuration.from_json(value, "here")


def test_the_width_must_be_a_multiple_of_the_heads() -> None:
    with pytest.raises(DhmdError, match=r"model\.width is 8.*model\.heads, which is 3"):
        tiny_configuration({"model": {"heads": 3}})


def test_an_overlay_replaces_only_its_keys() -> None:
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
def test_loss_weights_do_not_change_the_structure(changes: dict[str, Any]) -> None:
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
def test_other_settings_change_the_structure(changes: dict[str, Any]) -> None:
    assert tiny_configuration(changes).structure() != TINY.structure()
    assert replace(TINY, architecture="mult").structure() != TINY.structure()
    assert replace(TINY, modalities=("text",)).structure() != TINY.structure()


def test_pretraining_ignores_unused_settings() -> None:
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
        {"model": {"recurrent": {"text": True}}},
        {"model": {"dropout": {"output": 0.9}}},
        {"pretrain": {"lr": 0.5}},
        {"train": {"batch_size": 4}},
        {"train": {"seeds": (5,)}},
    ]
    for changes in other:
        assert tiny_configuration(changes).for_pretraining() != TINY.for_pretraining(), changes


def test_subsets_are_proper_and_few() -> None:
    assert subsets(("a",)) == []
    assert subsets(("a", "b", "c")) == [
        *[("a",), ("b",), ("c",)],
        *[("a", "b"), ("a", "c"), ("b", "c")],
    ]
    assert len(subsets(tuple("abcd"))) == 4 + 6 + 4
    # Of more than four modalities, only those of one and those without one.
    assert {len(subset) for subset in subsets(tuple("abcde"))} == {1, 4}
    assert len(subsets(tuple("abcde"))) == 5 + 5
