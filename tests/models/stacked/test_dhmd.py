"""The stacked DHMD equals the plain one; properties of the total loss."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dhmd.models import dhmd as plain_engine
from dhmd.models.batch import EnsembleBatch
from dhmd.models.config import DecoupleConfig
from dhmd.models.stacked.dhmd import DHMD
from dhmd.models.stacked.export import plain_state
from dhmd.models.task import Task
from tests.models.batches import chosen, member_of, padded, random_batch
from tests.models.compare import assert_close
from tests.models.stacked.layers import normal
from tests.models.stacked.settings import (
    CLASSES,
    INPUTS,
    KD,
    MODEL,
    MULTILABEL,
    kd_with,
    small_model,
)

PAIR, ONE = {"text": 4, "vision": 5}, {"audio": 3}
FOUR = {**INPUTS, "physio": 2}


def per_modality(value: Any) -> Any:
    return dict.fromkeys(FOUR, value)


CASES: dict[str, dict[str, Any]] = {
    "regression": {},
    "classification": {"task": CLASSES},
    "multilabel": {"task": MULTILABEL},
    "multilabel, edges by KL": {"kd": kd_with(graph={"edge_loss": "kl"}), "task": MULTILABEL},
    "own lengths": {"steps": (4, 7, 6), "aligned": False},
    "own lengths, classification": {"steps": (6, 3, 5), "aligned": False, "task": CLASSES},
    "recurrent": {"config": replace(MODEL, recurrent={"text": True, "vision": True})},
    "recurrent, own lengths": {
        "config": replace(MODEL, recurrent={"audio": True}),
        "steps": (4, 7, 6),
        "aligned": False,
    },
    "two layers": {"config": replace(MODEL, layers=2)},
    "two modalities": {"inputs": PAIR},
    "one modality": {"inputs": ONE, "absent": 0.0},
    "four modalities": {
        "inputs": FOUR,
        "steps": (5, 4, 5, 6),
        "aligned": False,
        "config": replace(
            MODEL,
            kernels=per_modality(3),
            dropout=replace(MODEL.dropout, attention=per_modality(0.1), input=per_modality(0.1)),
        ),
    },
    "nothing absent": {"absent": 0.0, "padding_rows": 0},
    "no decoupling": {"decouple": DecoupleConfig(enabled=False)},
    "other decoupling": {"decouple": DecoupleConfig(weight=0.7, gamma=0.4, margin=0.3)},
    "no cross-modal attention": {"config": replace(MODEL, cross_modal=False)},
    "no auxiliary average": {"config": replace(MODEL, auxiliary_average=False)},
    "no dictionaries": {"kd": kd_with(dictionary={"homogeneous": False, "heterogeneous": False})},
    "one dictionary": {"kd": kd_with(dictionary={"heterogeneous": False})},
    "no matching": {"kd": kd_with(dictionary={"matching": False})},
    "no HomoGD": {"kd": kd_with(graph={"homogeneous": False})},
    "no HeteroGD": {"kd": kd_with(graph={"heterogeneous": False}, lambda_=1.0)},
    "edges by KL": {"kd": kd_with(graph={"edge_loss": "kl", "tau": 0.8})},
    "edges by KL, classification": {"kd": kd_with(graph={"edge_loss": "kl"}), "task": CLASSES},
    "representation": {"kd": kd_with(graph={"representation": 0.4}, aux=0.6)},
    "no distillation": {"kd": kd_with(lambda_=0.0)},
    **{
        f"{edges} edges": {"kd": kd_with(graph={"edges": edges})}
        for edges in ("uniform", "prior", "mean", "shuffled", "self")
    },
}


def _case(
    *,
    task: Task | None = None,
    inputs: dict[str, int] = INPUTS,
    steps: tuple[int, ...] = (5, 5, 5),
    **options: Any,
) -> tuple[DHMD, EnsembleBatch, dict[str, Any]]:
    build = {k: options.pop(k) for k in ("config", "decouple", "kd") if k in options}
    build = {"config": MODEL, "decouple": DecoupleConfig(), "kd": KD, **build}
    fast = small_model(task=task, inputs=inputs, **build)
    widths = list(inputs.values())
    batch = random_batch(
        widths, modalities=tuple(inputs), task=task, steps=steps, seed=21, **options
    )
    return fast, batch, {"inputs": inputs, "task": task or Task(), **build}


@pytest.mark.parametrize("name", CASES)
def test_the_stacked_model_equals_the_plain_one(name: str) -> None:
    """Compare outputs, losses and gradients. Losses of the plain model alone must have weight 0."""
    fast, batch, built = _case(**CASES[name])
    outputs, losses = fast(batch), fast.losses(batch)
    losses["total"].sum().backward()
    names = tuple(built["inputs"])
    values = dict(fast.named_parameters())
    grads = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in values.items()}
    for r in range(2):
        plain = plain_engine.DHMD(
            built["inputs"],
            built["task"],
            built["config"],
            decouple=built["decouple"],
            kd=built["kd"],
        ).eval()
        plain.load_state_dict(plain_state({n: v.detach()[r] for n, v in values.items()}, names))
        row = batch.of_member(r)
        expected = plain.outputs(row)
        assert_close(outputs.output_EBO[r], expected.output_BO, what="output")
        present = row.presence
        for space, graph in outputs.graphs.items():
            expected_graph = expected.graphs[space]
            vertex = graph.outputs_EMBO[r].transpose(0, 1)
            assert_close(
                vertex[present], expected_graph.outputs_BMO[present], what="vertex outputs"
            )
            vertices = graph.vertices_EMBD[r].transpose(0, 1)
            assert_close(vertices[present], expected_graph.vertices_BMW[present], what="vertices")
            assert_close(graph.learned_EBIJ[r], expected_graph.learned_BIJ, what="edges")
            assert_close(
                graph.edges_EBIJ[r], expected_graph.edges_BIJ, what="edges of distillation"
            )
        for space, dictionary in outputs.dictionaries.items():
            codes = dictionary.activation_EMBK[r].transpose(0, 1)
            wanted_codes = expected.dictionaries[space].activation_BMK
            assert_close(codes, wanted_codes, what="codes", atol=5e-5)
        details, expected_details = fast.details(batch), plain.details(row)
        assert set(details) == {"prediction", *expected_details}
        for key, value in expected_details.items():
            assert_close(details[key][r].nan_to_num(), value.nan_to_num(), what=key, atol=5e-5)
        expected_losses = plain.losses(row)
        for part, value in losses.items():
            assert_close(value[r], expected_losses[part], what=part, rtol=1e-5)
        expected_losses["total"].backward()
        member_values = plain_state({n: g[r] for n, g in grads.items()}, names)
        for part, parameter in plain.named_parameters():
            grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            assert_close(member_values[part], grad, what=part, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(
    "name", ["regression", "recurrent", "own lengths", "classification", "one modality"]
)
def test_more_padding_does_not_change_the_outputs(name: str) -> None:
    fast, batch, built = _case(**CASES[name])
    count = len(built["inputs"])
    before, losses = fast.predict(batch), fast.losses(batch)
    for more in ((3,) * count, tuple(range(1, count + 1))):
        longer = padded(batch, more)
        assert_close(fast.predict(longer), before, atol=2e-5)
        for part, value in fast.losses(longer).items():
            assert_close(value, losses[part], what=part, atol=2e-5, rtol=1e-5)


def test_outputs_do_not_depend_on_the_rest_of_the_batch() -> None:
    fast, batch, _ = _case()
    output = fast.predict(batch)
    assert_close(fast.predict(chosen(batch, (4, 1))), output[:, [4, 1]])
    graph, alone = fast(batch).graphs, fast(chosen(batch, (3,))).graphs
    for space in graph:
        assert_close(alone[space].learned_EBIJ[:, 0], graph[space].learned_EBIJ[:, 3])


def test_members_do_not_depend_on_each_other() -> None:
    fast, batch, _ = _case()
    losses = fast.losses(batch)
    losses["total"].sum().backward()
    grads = {name: p.grad[1].clone() for name, p in fast.named_parameters()}
    with torch.no_grad():
        for parameter in fast.parameters():
            parameter[0] = torch.nan
    fast.zero_grad()
    repeated = fast.losses(batch)
    assert repeated["total"][0].isnan()
    repeated["total"].sum().backward()
    for name, value in repeated.items():
        assert value[1].equal(losses[name][1]), name
    for name, parameter in fast.named_parameters():
        assert parameter.grad[1].equal(grads[name]), name


def test_a_seed_alone_has_the_same_dropout_and_losses_as_with_others() -> None:
    together_model, alone = small_model(seeds=(5, 6, 7)), small_model(seeds=(6,))
    batch = random_batch(list(INPUTS.values()), num_members=3)
    for model in (together_model, alone):
        model.train()
    together, single = together_model.losses(batch), alone.losses(member_of(batch, 1))
    for name, value in single.items():
        assert_close(value[0], together[name][1], what=name)
    together_model.eval()
    assert not torch.allclose(together_model.losses(batch)["total"], together["total"])
    assert together_model.predict(batch).equal(together_model.predict(batch))


# ---- the total loss ------------------------------------------------------------------------------

SPACES = ("homogeneous", "heterogeneous")


def test_the_total_has_the_loss_weights_of_each_member() -> None:
    kds = [
        kd_with(lambda_=0.0),
        kd_with(lambda_=0.4, aux=0.7, dictionary={"weight": 0.9}),
        kd_with(lambda_=1.0, graph={"homogeneous": False}),
        kd_with(lambda_=0.5, dictionary={"matching": False}),
    ]
    fast = small_model(seeds=(1, 2, 3, 4), kd=kds, decouple=DecoupleConfig(weight=0.3))
    losses = fast.losses(random_batch(list(INPUTS.values()), num_members=4))
    for r, kd in enumerate(kds):
        member_values = {name: value[r].item() for name, value in losses.items()}
        graph, dictionary = kd.graph, kd.dictionary
        on = {"homogeneous": graph.homogeneous, "heterogeneous": graph.heterogeneous}
        vertices = sum(member_values[f"vertex_{space}"] for space in SPACES)
        distilled = sum(member_values[f"gd_{space}"] * on[space] for space in SPACES)
        edges = sum(member_values[f"edge_{space}"] for space in SPACES)
        matching_sum = sum(member_values[f"dm_{space}"] for space in SPACES) * dictionary.matching
        expected = (
            member_values["task"]
            + kd.aux * ((1 - kd.lambda_) * vertices + kd.lambda_ * distilled)
            + 0.3 * member_values["dec"]
            + kd.lambda_ * dictionary.weight * matching_sum
            + edges
        )
        assert member_values["total"] == pytest.approx(expected, rel=1e-5)


def _gradients(fast: DHMD, batch: EnsembleBatch) -> dict[str, Tensor]:
    fast.zero_grad()
    fast.losses(batch)["total"].sum().backward()
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for name, p in fast.named_parameters()
    }


def test_lambda_zero_removes_every_distillation_loss() -> None:
    """With λ = 0, teachers change only the edge networks, through L_edge."""
    batch = random_batch(list(INPUTS.values()))
    assert batch.teachers_EMBO is not None
    other_teachers = replace(batch, teachers_EMBO=batch.teachers_EMBO * -3)

    def changed_gradients(kd: Any) -> set[str]:
        before = _gradients(small_model(kd=kd), batch)
        heavier = replace(kd, dictionary=replace(kd.dictionary, weight=5.0))
        after = _gradients(small_model(kd=heavier), other_teachers)
        return {name for name in before if not before[name].equal(after[name])}

    changed = changed_gradients(kd_with(lambda_=0.0))
    assert changed
    assert all(".edge_" in name for name in changed)
    assert any("query" in name for name in changed_gradients(kd_with(lambda_=0.3)))


def test_only_the_edge_loss_trains_the_edge_network() -> None:
    """All other losses use detached edge weights."""
    fast, batch, _ = _case()
    losses = fast.losses(batch)
    other_losses = losses["total"] - sum(losses[f"edge_{space}"] for space in SPACES)
    other_losses.sum().backward()
    for name, parameter in fast.named_parameters():
        is_zero = parameter.grad is None or parameter.grad.abs().max() < 1e-6
        assert is_zero == (".edge_" in name), name


def test_one_modality_has_no_distillation_losses() -> None:
    fast, batch, _ = _case(**CASES["one modality"])
    losses = fast.losses(batch)
    for space in SPACES:
        for kind in ("gd", "edge", "dm"):
            assert losses[f"{kind}_{space}"].eq(0).all()
        assert losses[f"vertex_{space}"].gt(0).all()
    assert losses["mar"].eq(0).all()


def test_an_utterance_without_modalities_has_finite_outputs() -> None:
    fast, batch, _ = _case(absent=0.0)
    nothing = batch.without(torch.ones_like(batch.present_EMB))
    output = fast.predict(nothing)
    assert output.isfinite().all()
    # All utterances look the same.
    assert_close(output, output[:, :1].expand_as(output))
    losses = fast.losses(nothing)
    assert all(value.isfinite().all() for value in losses.values())
    losses["total"].sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in fast.parameters())


def test_a_dropped_modality_equals_an_absent_one() -> None:
    fast, batch, _ = _case(absent=0.0)
    absent = torch.zeros_like(batch.present_EMB)
    absent[:, 1] = True
    dropped = fast.predict(batch.without(absent))
    noisy = replace(
        batch, features=[batch.features[0], normal(*batch.features[1].shape), batch.features[2]]
    )
    assert fast.predict(noisy.without(absent)).equal(dropped)
    assert not torch.allclose(dropped, fast.predict(batch))


def test_only_dictionaries_have_their_own_learning_rate() -> None:
    fast, _, _ = _case(kd=kd_with(dictionary={"lr_factor": 7.0}))
    for name, _ in fast.named_parameters():
        expected = 7.0 if name.startswith("dictionaries.") else 1.0
        assert fast.parameter_group(name).learning_rate == expected, name


def test_pretrained_encoders_are_loaded() -> None:
    fast, batch, _ = _case()
    before = fast.predict(batch)
    encoders = {
        modality: {n: torch.full_like(p, index) for n, p in encoder.named_parameters()}
        for index, (modality, encoder) in enumerate(zip(INPUTS, fast.encoders, strict=True))
    }
    fast.load_encoders(encoders)
    for index, encoder in enumerate(fast.encoders):
        assert all(p.eq(index).all() for p in encoder.parameters())
    assert not torch.allclose(fast.predict(batch), before)
    encoders["audio"]["convolution.bias_EO"] = torch.zeros(2, 9)
    with pytest.raises(ValueError, match="audio"):
        fast.load_encoders(encoders)
