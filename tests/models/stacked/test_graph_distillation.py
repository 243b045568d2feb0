"""The GD-Unit against loops over utterances and edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dhmd.models.batch import EnsembleBatch
from dhmd.models.config import Edges, GraphConfig
from dhmd.models.members import Members
from dhmd.models.stacked.graph_distillation import (
    EDGE_SOURCES,
    Graph,
    GraphDistillationUnit,
    over_present,
)
from dhmd.models.task import Task
from tests.models import equations
from tests.models.batches import chosen, in_double, random_batch
from tests.models.compare import assert_close
from tests.models.stacked.layers import normal, scatter
from tests.models.stacked.settings import CLASSES, CPU

TASKS = {"regression": Task(), "classification": CLASSES}
NAMES = ("text", "audio", "vision")
WIDTH = 4


def unit_of(
    task: Task | None = None,
    names: Sequence[str] = NAMES,
    edges: Sequence[Edges] = ("learned", "learned"),
    **config: Any,
) -> GraphDistillationUnit:
    return GraphDistillationUnit(
        Members(range(len(edges)), CPU),
        task or Task(),
        tuple(names),
        WIDTH,
        config=GraphConfig(hidden=5, **config),
        edges=tuple(edges),
        output_dropout=0.0,
    ).double()


def graph_of(batch: EnsembleBatch, task: Task) -> Graph:
    """Leaves for everything a loss may read."""
    shape = batch.present_EMB.shape
    scores = normal(shape[0], shape[2], shape[1], shape[1], seed=11).double()
    learned = over_present(scores, batch.present_EMB)
    return Graph(
        vertices_EMBD=normal(*shape, WIDTH, seed=12).double().requires_grad_(),
        outputs_EMBO=normal(*shape, task.outputs, seed=13).double().requires_grad_(),
        learned_EBIJ=learned.requires_grad_(),
        edges_EBIJ=learned.flip(2).detach() * batch.present_EMB.transpose(1, 2).unsqueeze(-1),
    )


def same_in_value_and_gradient(found: Tensor, expected: Tensor, leaves: list[Tensor]) -> None:
    assert_close(found, expected)
    assert found.gt(0).all()
    given = torch.autograd.grad(found.sum(), leaves, allow_unused=True)
    wanted = torch.autograd.grad(expected.sum(), leaves, allow_unused=True)
    for mine, theirs, leaf in zip(given, wanted, leaves, strict=True):
        zero = torch.zeros_like(leaf)
        assert_close(zero if mine is None else mine, zero if theirs is None else theirs)


def batch_of(task: Task, seed: int = 3) -> EnsembleBatch:
    return in_double(random_batch((2, 2, 2), task=task, seed=seed, utterances=7))


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_each_present_vertex_pays_its_own_task_loss(task: Task) -> None:
    batch = batch_of(task)
    graph = graph_of(batch, task)
    found = unit_of(task).task_loss(graph, batch)
    expected = torch.stack(
        [
            equations.vertex_task(graph.outputs_EMBO[r].transpose(0, 1), batch.of_member(r), task)
            for r in range(2)
        ]
    )
    same_in_value_and_gradient(found, expected, [graph.outputs_EMBO])


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize("tau", [0.5, 2.0])
def test_distillation_is_its_equation_and_its_gradient_stops_at_the_student(
    task: Task, tau: float
) -> None:
    batch = batch_of(task)
    assert batch.teachers_EMBO is not None
    batch.teachers_EMBO.requires_grad_()
    graph = graph_of(batch, task)
    graph.edges_EBIJ.requires_grad_()
    found = unit_of(task, tau=tau).distillation_loss(
        replace(graph, edges_EBIJ=graph.edges_EBIJ.detach()), batch
    )
    expected = torch.stack(
        [
            equations.distillation(
                graph.edges_EBIJ[r],
                graph.outputs_EMBO[r].transpose(0, 1),
                batch.of_member(r),
                task,
                tau,
            )
            for r in range(2)
        ]
    )
    leaves = [graph.outputs_EMBO, graph.learned_EBIJ, graph.vertices_EMBD, batch.teachers_EMBO]
    same_in_value_and_gradient(found, expected, leaves)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize("kind", ["mixture", "kl"])
def test_the_edge_loss_is_its_equation(task: Task, kind: str) -> None:
    batch = batch_of(task)
    graph = graph_of(batch, task)
    found = unit_of(task, edge_loss=kind, tau=0.7).edge_loss(graph, batch)
    expected = []
    for r in range(2):
        own = batch.of_member(r)
        if kind == "mixture":
            expected.append(equations.edge_mixture(graph.learned_EBIJ[r], own, task))
        else:
            expected.append(equations.edge_kl(graph.learned_EBIJ[r], own, task, 0.7))
    leaves = [graph.learned_EBIJ, graph.outputs_EMBO, graph.vertices_EMBD]
    same_in_value_and_gradient(found, torch.stack(expected), leaves)


def test_the_representation_term_goes_through_a_projection_of_the_pair() -> None:
    batch, task = batch_of(Task()), Task()
    graph = graph_of(batch, task)
    with_term, without = unit_of(representation=0.5), unit_of()
    assert without.projection is None
    linear = with_term.projection
    assert linear is not None
    found = with_term.distillation_loss(graph, batch) - without.distillation_loss(graph, batch)
    pairs = [(i, j) for j in range(3) for i in range(3) if i != j]
    expected = []
    for r in range(2):

        def project(i: int, j: int, v: Tensor, r: int = r) -> Tensor:
            group = pairs.index((i, j))
            return v @ linear.weight_EGIO[r, group] + linear.bias_EGO[r, group]

        vertices = graph.vertices_EMBD[r].transpose(0, 1)
        term = equations.representation(graph.edges_EBIJ[r], vertices, project, batch.of_member(r))
        expected.append(0.5 * term)
    same_in_value_and_gradient(
        found, torch.stack(expected), [graph.vertices_EMBD, *linear.parameters()]
    )


def test_weights_are_a_softmax_over_present_sources() -> None:
    batch = batch_of(Task())
    scores = normal(2, 7, 3, 3).double()
    weights = over_present(scores, batch.present_EMB)
    for r in range(2):
        assert_close(weights[r], equations.edges(scores[r], batch.of_member(r)))
    assert_close(weights.sum(2), torch.ones(2, 7, 3).double())


def test_learned_edges_are_what_g_says_of_both_ends() -> None:
    batch, unit = batch_of(Task()), unit_of()
    scatter(unit, seed=4)
    vertices = normal(2, 3, 7, WIDTH).double()
    graph = unit(vertices, batch)
    for r in range(2):
        scores = torch.zeros(7, 3, 3).double()
        for b in range(7):
            for i in range(3):
                for j in range(3):
                    ends = []
                    for m, part in ((i, unit.edge_source), (j, unit.edge_target)):
                        v = vertices[r, m, b]
                        normal_v = (v - v.mean()) / (v.var(unbiased=False) + 1e-5).sqrt()
                        end = torch.cat([graph.outputs_EMBO[r, m, b], normal_v])
                        ends.append(end @ part.weight_EGIO[r, m] + part.bias_EGO[r, m])
                    hidden = (ends[0] + ends[1]).relu()
                    scores[b, i, j] = hidden @ unit.edge_score.weight_EGIO[r, 0, :, 0]
        assert_close(graph.learned_EBIJ[r], equations.edges(scores, batch.of_member(r)))


def test_edges_start_uniform_over_present_sources() -> None:
    batch, unit = batch_of(Task()), unit_of()
    graph = unit(normal(2, 3, 7, WIDTH).double(), batch)
    present = batch.present_EMB.transpose(1, 2).double().unsqueeze(-1).expand(-1, -1, -1, 3)
    assert_close(graph.learned_EBIJ, present / present.sum(2, keepdim=True))


def test_every_control_is_what_it_says_also_beside_others_in_one_stack() -> None:
    batch = in_double(random_batch((2, 2, 2), members=6, utterances=7, uncounted=2, seed=3))
    unit = unit_of(edges=EDGE_SOURCES)
    scatter(unit, seed=4)
    graph = unit(normal(6, 3, 7, WIDTH).double(), batch)
    assert not graph.edges_EBIJ.requires_grad
    for r, name in enumerate(EDGE_SOURCES):
        own = batch.of_member(r)
        expected = equations.control_edges(name, graph.learned_EBIJ[r].detach(), own, NAMES)
        assert_close(graph.edges_EBIJ[r], expected, what=name)
        alone = unit_of(edges=[name])
        alone.load_state_dict({k: v[r : r + 1] for k, v in unit.state_dict().items()})
        rest = {k: v[r : r + 1] for k, v in vars(batch).items() if isinstance(v, Tensor)}
        single = replace(batch, **rest)
        by_itself = alone(normal(6, 3, 7, WIDTH).double()[r : r + 1], single)
        assert_close(by_itself.edges_EBIJ[0], graph.edges_EBIJ[r])


def test_dmds_prior_favours_text_over_the_others_and_vision_over_audio() -> None:
    batch = in_double(random_batch((2, 2, 2), absent=0.0))
    unit = unit_of(edges=["prior", "prior"])
    weights = unit(normal(2, 3, 6, WIDTH).double(), batch).edges_EBIJ[0, 0]
    e = torch.tensor(4.0).exp().item()
    by_hand = {
        "text": (e / (e + 2), 1 / (e + 2), 1 / (e + 2)),
        "audio": (1 / 3, 1 / 3, 1 / 3),
        "vision": (e / (2 * e + 1), 1 / (2 * e + 1), e / (2 * e + 1)),
    }
    for j, target in enumerate(NAMES):
        assert weights[:, j].tolist() == pytest.approx(by_hand[target])


def reached(unit: GraphDistillationUnit) -> set[str]:
    """Names of the parts that a backward pass gave a gradient other than zero."""
    return {
        name.partition(".")[0]
        for name, p in unit.named_parameters()
        if p.grad is not None and p.grad.ne(0).any()
    }


@pytest.mark.parametrize("kind", ["mixture", "kl"])
def test_the_edge_loss_touches_g_only(kind: str) -> None:
    batch, unit = batch_of(Task()), unit_of(edge_loss=kind)
    scatter(unit, seed=4)
    vertices = normal(2, 3, 7, WIDTH).double().requires_grad_()
    unit.edge_loss(unit(vertices, batch), batch).sum().backward()
    assert vertices.grad is None
    assert reached(unit) == {"edge_source", "edge_target", "edge_score"}


def test_the_other_losses_touch_vertices_and_heads_only() -> None:
    batch, unit = batch_of(Task()), unit_of()
    scatter(unit, seed=4)
    for loss in (unit.distillation_loss, unit.task_loss):
        unit.zero_grad()
        vertices = normal(2, 3, 7, WIDTH).double().requires_grad_()
        loss(unit(vertices, batch), batch).sum().backward()
        assert vertices.grad is not None
        assert vertices.grad.ne(0).any()
        absent = ~batch.present_EMB
        assert vertices.grad[absent].eq(0).all()
        assert reached(unit) == {"hidden", "head"}


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_one_modality_has_nothing_to_distil(task: Task) -> None:
    batch = in_double(random_batch((2,), steps=(4,), task=task, absent=0.0))
    unit = unit_of(task, names=("audio",))
    graph = unit(normal(2, 1, 6, WIDTH).double(), batch)
    assert_close(graph.learned_EBIJ, torch.ones(2, 6, 1, 1).double())
    assert unit.distillation_loss(graph, batch).eq(0).all()
    assert unit.edge_loss(graph, batch).eq(0).all()
    assert unit.task_loss(graph, batch).gt(0).all()


def test_an_utterance_with_one_modality_has_nothing_to_distil_either() -> None:
    batch = in_double(random_batch((2, 2), absent=0.0, uncounted=0))
    batch.present_EMB[:, 1] = False
    unit = unit_of(names=("text", "audio"))
    graph = unit(normal(2, 2, 6, WIDTH).double(), batch)
    assert unit.distillation_loss(graph, batch).eq(0).all()
    assert unit.edge_loss(graph, batch).eq(0).all()


def test_with_two_modalities_a_target_may_still_choose_itself() -> None:
    batch = in_double(random_batch((2, 2), absent=0.0, uncounted=0))
    unit = unit_of(names=("text", "audio"))
    scatter(unit, seed=4)
    weights = unit(normal(2, 2, 6, WIDTH).double(), batch).learned_EBIJ
    assert weights.gt(0).all()
    assert weights.lt(1).all()
    assert weights.std() > 0.01


def test_each_utterance_adds_its_share() -> None:
    batch, task = batch_of(Task()), Task()
    graph, unit = graph_of(batch, task), unit_of()
    for loss in (unit.task_loss, unit.distillation_loss, unit.edge_loss):
        parts = []
        for rows in ((0, 1, 2), (3, 4, 5, 6)):
            some = Graph(
                graph.vertices_EMBD[:, :, rows],
                graph.outputs_EMBO[:, :, rows],
                graph.learned_EBIJ[:, rows],
                graph.edges_EBIJ[:, rows],
            )
            parts.append(loss(some, chosen(batch, rows)))
        assert_close(loss(graph, batch), parts[0] + parts[1])


def test_distillation_needs_teachers_and_takes_any_modality() -> None:
    batch, unit = batch_of(Task()), unit_of()
    bare = replace(batch, teachers_EMBO=None)
    graph = unit(normal(2, 3, 7, WIDTH).double(), bare)
    with pytest.raises(ValueError, match="out-of-fold teachers"):
        unit.distillation_loss(graph, bare)
    prior = unit_of(names=("text", "physio", "audio")).prior_IJ
    # DMD's prior favours text over audio; it does not know physio.
    assert prior.eq(4).tolist() == [[True, False, True], [False, True, False], [False, False, True]]
