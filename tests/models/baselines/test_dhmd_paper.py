"""The paper's form of DHMD: components of the framework figure, losses and options."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from dhmd.models.baselines.dhmd_paper import GDUnit, SharedDictionary, contrastive_loss
from tests.models.baselines.models import build_module, single_member_batch
from tests.models.compare import assert_close
from tests.models.stacked.settings import INPUTS

SPACES = ["homogeneous", "heterogeneous"]


def units(model: Any) -> list[GDUnit]:
    return [submodule for submodule in model.modules() if isinstance(submodule, GDUnit)]


def test_components_are_those_of_the_framework_figure() -> None:
    model, batch = build_module("dhmd_paper"), single_member_batch()
    directed = {(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)}
    assert [set(unit.edges) for unit in units(model)] == [directed] * 2
    assert [len(unit.edges) for unit in units(model)] == [6] * 2
    edges = [model.details(batch)[f"edges/{space}"] for space in SPACES]
    for edges_BIJ in edges:
        assert edges_BIJ.diagonal(dim1=1, dim2=2).eq(0).all()  # no self edge
        assert edges_BIJ.gt(0).sum((1, 2)).eq(6).all()
    dictionaries = [
        submodule for submodule in model.modules() if isinstance(submodule, SharedDictionary)
    ]
    assert len(dictionaries) == 2
    assert {tuple(submodule.codes_KF.shape) for submodule in dictionaries} == {(512, 8), (512, 16)}
    losses = model.losses(batch)
    assert {name for name in losses if name.startswith("ctr_")} == {f"ctr_{s}" for s in SPACES}
    assert not [name for name in losses if "mar" in name]
    assert {"rec", "cyc", "ort"} <= set(losses)
    run = model.outputs(batch)
    assert len(run.fused) == 6
    # GD features and dictionary features of a modality and space, concatenated.
    assert [x.shape[1] for x in run.fused] == [2 * 8] * 3 + [2 * 16] * 3
    assert not any("self_attention" in name for name, _ in model.named_modules())
    assert model.fusion.narrow.in_features == sum(x.shape[1] for x in run.fused)


def test_the_total_is_the_weighted_sum_of_its_parts() -> None:
    losses = build_module("dhmd_paper").losses(single_member_batch())
    expected = losses["task"] + 0.1 * (losses["rec"] + losses["cyc"] + 0.1 * losses["ort"])
    for space in SPACES:
        expected = expected + losses[f"heads_{space}"]
        expected = expected + 0.05 * losses[f"gd_{space}"] + 0.1 * losses[f"ctr_{space}"]
    assert_close(losses["total"], expected)


def test_live_teachers_are_the_heads_of_the_other_vertices() -> None:
    model, batch = build_module("dhmd_paper"), single_member_batch()
    graph = model.outputs(batch).spaces["homogeneous"].graph
    expected = torch.zeros(())
    for i, source in enumerate(INPUTS):
        for j, target in enumerate(INPUTS):
            distance_B = (graph.logits[source] - graph.logits[target]).abs()[:, 0]
            expected = expected + (graph.edges_BIJ[:, i, j] * distance_B * batch.weight_B).sum()
    assert_close(model.losses(batch)["gd_homogeneous"], expected)


def test_out_of_fold_teachers_come_from_the_batch() -> None:
    model, batch = (
        build_module("dhmd_paper", options={"teachers": "out_of_fold"}),
        single_member_batch(),
    )
    graph = model.outputs(batch).spaces["heterogeneous"].graph
    assert batch.teachers is not None
    expected = torch.zeros(())
    for i, source in enumerate(INPUTS):
        for j, target in enumerate(INPUTS):
            distance_B = (batch.teachers[source] - graph.logits[target]).abs()[:, 0]
            expected = expected + (graph.edges_BIJ[:, i, j] * distance_B * batch.weight_B).sum()
    assert_close(model.losses(batch)["gd_heterogeneous"], expected)


@pytest.mark.parametrize("absent", [0.0, 0.4])
def test_edges_are_normalised_over_all_or_per_target(absent: float) -> None:
    batch = single_member_batch(absent, seed=2)
    for softmax in ("all", "target"):
        model = build_module("dhmd_paper", options={"edge_softmax": softmax})
        edges_BIJ = model.details(batch)["edges/homogeneous"]
        edge_BIJ = batch.presence[:, :, None] & batch.presence[:, None, :]
        edge_BIJ = edge_BIJ & ~torch.eye(3, dtype=torch.bool)
        assert edges_BIJ[~edge_BIJ].eq(0).all()
        axis = (1, 2) if softmax == "all" else 1
        expected = edge_BIJ.any(1).any(1) if softmax == "all" else edge_BIJ.any(1)
        assert_close(edges_BIJ.sum(axis), expected.float())


def test_an_absent_modality_is_neither_teacher_nor_student() -> None:
    model, batch = build_module("dhmd_paper"), single_member_batch()
    absent = {**batch.present, "audio": torch.zeros(6, dtype=torch.bool)}
    without_audio = replace(
        batch,
        present=absent,
        features={**batch.features, "audio": torch.zeros_like(batch.features["audio"])},
        masks={**batch.masks, "audio": torch.zeros_like(batch.masks["audio"])},
    )
    model.losses(without_audio)["total"].backward()
    heads = dict(model.units["homogeneous"].heads.named_parameters())
    assert heads["audio.out.weight"].grad.abs().sum() == 0
    assert heads["text.out.weight"].grad.abs().sum() > 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_dictionary_features_are_sparse_mixtures_of_codes() -> None:
    """Use two orthogonal codes; scores are maxima over real steps of dot products / √F / 2."""
    dictionary = SharedDictionary(2, 4)
    with torch.no_grad():
        dictionary.codes_KF.copy_(torch.tensor([[2.0, 0, 0, 0], [0, 1.0, 0, 0]]))
    x_BTF = torch.zeros(2, 3, 4)
    x_BTF[0, 0, 0], x_BTF[0, 1, 1], x_BTF[0, 2, 1] = 1.0, 1.2, 99.0  # the last is padding
    mask_BT = torch.tensor([[True, True, False], [False] * 3])
    codes_BK, feature_BF = dictionary(x_BTF, mask_BT)
    # Scores .5 and .3; sparsemax keeps both: .6 and .4.
    assert_close(codes_BK, torch.tensor([[0.6, 0.4], [0.0, 0.0]]))
    norm = math.hypot(1.2, 0.4)
    assert_close(feature_BF[0, :2], torch.tensor([1.2 / norm, 0.4 / norm]))
    assert feature_BF[1].eq(0).all()


def test_contrastive_loss_equals_a_hand_computed_value() -> None:
    batch = replace(
        single_member_batch(),
        present={name: torch.ones(2, dtype=torch.bool) for name in ("text", "audio")},
        weight_B=torch.tensor([0.5, 0.5]),
    )
    text = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    audio = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    t = 1 / 0.07
    rows = [math.log(2), math.log(2)]  # scores (t, t) and (0, 0)
    columns = [math.log1p(math.exp(-t)), t + math.log1p(math.exp(-t))]
    expected = (sum(rows) / 2 + sum(columns) / 2) / 2
    assert float(contrastive_loss({"text": text, "audio": audio}, batch)) == pytest.approx(expected)
    assert float(contrastive_loss({"text": text}, batch)) == 0
