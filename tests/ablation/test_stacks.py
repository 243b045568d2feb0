"""Variants trained as one stack equal variants trained alone."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dhmd.ablation.config import AblateConfig
from dhmd.ablation.variants import chosen_variants
from dhmd.training.planning import group_by_structure
from tests.training.artefacts import TinyArtefacts, ablate, read_files, read_outputs, train
from tests.training.corpora import TINY, tiny_configuration
from tests.training.learners import Recorder

QUICK = tiny_configuration({"train": {"epochs": 2}})
TOGETHER = ("no_distillation", "shuffled_edges", "no_coarse", "no_matching")


def test_variants_with_the_same_structure_share_a_stack() -> None:
    variants = chosen_variants(AblateConfig(all=True), TINY)
    groups = group_by_structure(variants, 30)
    assert sorted(name for group in groups for name in group) == sorted(variants)
    loss_variants = {
        "no_distillation", "self_distillation", "uniform_edges", "mean_edges", "shuffled_edges",
        "prior_edges", "no_homogeneous_gd", "no_heterogeneous_gd", "no_coarse", "no_matching",
    }  # fmt: skip
    assert loss_variants in [set(group) for group in groups]
    assert len(groups) == 1 + len(variants) - len(loss_variants)
    for group in groups:
        structures = {json.dumps(variants[name].structure(), sort_keys=True) for name in group}
        assert len(structures) == 1
    for limit in (6, 5, 1):  # two seeds per variant
        smaller = group_by_structure(variants, limit)
        assert max(len(group) for group in smaller) == max(limit // 2, 1)
        assert [n for group in smaller for n in group] == [n for group in groups for n in group]


def test_a_stack_equals_its_variants_alone(tiny_artefacts: TinyArtefacts, tmp_path: Path) -> None:
    variants = chosen_variants(AblateConfig(variants=TOGETHER), QUICK)
    recorder = Recorder()
    aligned, pretrained, store = (
        tiny_artefacts.aligned(),
        tiny_artefacts.pretrained(),
        tmp_path / "s",
    )
    ablate(variants, aligned, pretrained, tmp_path / "a", store, recorder)
    names = [f"{name}/seed-{seed}" for name in TOGETHER for seed in (1, 2)]
    assert recorder.starts == [("ablate", tuple(names), 0)]
    assert set(recorder.epochs[0][1]) == set(names)
    outputs = {}
    for name, configuration in variants.items():
        train(configuration, aligned, pretrained, tmp_path / name, tmp_path / "alone")
        alone, outputs[name] = read_outputs(tmp_path / name), read_outputs(tmp_path / "a" / name)
        assert set(outputs[name]) == set(alone)
        for array in ("prediction", "vertex/homogeneous", "edges/heterogeneous"):
            difference = np.nanmax(np.abs(outputs[name][array] - alone[array]))
            assert difference < 2e-3, (name, array, difference)
        one, other = (
            json.loads((folder / name / "model.json").read_text())
            for folder in (tmp_path, tmp_path / "a")
        )
        assert one["configuration"] == other["configuration"]
        history = list(csv.DictReader((tmp_path / "a" / name / "history.csv").open()))
        assert {row["seed"] for row in history} == {"1", "2"}
        assert {row["name"] for row in history} >= {"train/total", "valid/mae", "selected"}
    first, *others = (value["prediction"] for value in outputs.values())
    assert all(np.abs(first - other).max() > 1e-3 for other in others)


def test_every_kind_of_variant_trains_and_is_written(
    tiny_artefacts: TinyArtefacts, tmp_path: Path
) -> None:
    names = ("uniform_edges", "no_dictionary", "no_decoupling", "only_text_vision", "mult", "gru")
    full = tiny_configuration({"train": {"epochs": 1, "seeds": (2,)}})
    variants = chosen_variants(AblateConfig(variants=names), full)
    aligned, pretrained = (
        tiny_artefacts.aligned("classification"),
        tiny_artefacts.pretrained("classification"),
    )
    ablate(variants, aligned, pretrained, tmp_path / "a", tmp_path / "s")
    assert {path.name for path in (tmp_path / "a").iterdir()} == set(names)
    for name in names:
        outputs = read_outputs(tmp_path / "a" / name)
        assert np.isfinite(outputs["prediction"]).all()
        assert list(outputs["attributes"]["seeds"]) == [2]
        assert ("codes/homogeneous" in outputs) == (
            name in ("uniform_edges", "no_decoupling", "only_text_vision")
        )
    assert json.loads(
        read_outputs(tmp_path / "a" / "only_text_vision")["attributes"]["modalities"]
    ) == ["text", "vision"]


def test_interrupted_ablations_resume(tiny_artefacts: TinyArtefacts, tmp_path: Path) -> None:
    names = ("no_distillation", "uniform_edges", "late_fusion")
    variants = chosen_variants(AblateConfig(variants=names), QUICK)
    aligned, pretrained = tiny_artefacts.aligned(), tiny_artefacts.pretrained()
    ablate(variants, aligned, pretrained, tmp_path / "a", tmp_path / "other")
    interrupted, resumed = (
        Recorder(stop_after=3),
        Recorder(),
    )  # one stack of two epochs, one of the other
    with pytest.raises(KeyboardInterrupt):
        ablate(variants, aligned, pretrained, tmp_path / "b", tmp_path / "s", interrupted)
    assert not (tmp_path / "b").exists()
    ablate(variants, aligned, pretrained, tmp_path / "b", tmp_path / "s", resumed)
    assert resumed.resumed_epoch == 1
    assert [(epoch, sorted(rows)) for epoch, rows in resumed.epochs] == [
        (2, ["late_fusion/seed-1", "late_fusion/seed-2"])
    ]
    assert read_files(tmp_path / "b") == read_files(tmp_path / "a")
    assert list((tmp_path / "s" / "tasks").iterdir()) == []


def test_no_variants_give_an_empty_folder(tiny_artefacts: TinyArtefacts, tmp_path: Path) -> None:
    ablate(
        {}, tiny_artefacts.aligned(), tiny_artefacts.pretrained(), tmp_path / "a", tmp_path / "s"
    )
    assert list((tmp_path / "a").iterdir()) == []


def test_one_modality_trains_its_variants_too(
    tiny_artefacts: TinyArtefacts, tmp_path: Path
) -> None:
    full = tiny_configuration({"train": {"epochs": 1, "seeds": (1,)}}, modalities=("audio",))
    variants = chosen_variants(AblateConfig(variants=("no_distillation", "no_dictionary")), full)
    ablate(
        variants,
        tiny_artefacts.aligned(),
        tiny_artefacts.pretrained(),
        tmp_path / "a",
        tmp_path / "s",
    )
    for name in variants:
        outputs = read_outputs(tmp_path / "a" / name)
        assert np.isfinite(outputs["prediction"]).all()
    assert (
        replace(full, architecture="gru")
        == chosen_variants(AblateConfig(variants=("gru",)), full)["gru"]
    )
