"""Edge weights of the GD-Unit and its controls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from torch import Tensor

from dhmd.models.batch import EnsembleBatch
from dhmd.models.config import Edges, GraphConfig
from dhmd.models.members import Members
from dhmd.models.stacked.graph_distillation import (
    EDGE_SOURCES,
    GraphDistillationUnit,
)
from dhmd.models.task import Task
from tests.models import equations
from tests.models.batches import in_double, random_batch
from tests.models.compare import assert_close
from tests.models.stacked.layers import normal, randomise
from tests.models.stacked.settings import CPU

NAMES = ("text", "audio", "vision")
WIDTH = 4


def unit_of(
    names: Sequence[str] = NAMES,
    edges: Sequence[Edges] = ("learned", "learned"),
    **config: Any,
) -> GraphDistillationUnit:
    return GraphDistillationUnit(
        Members(range(len(edges)), CPU),
        Task(),
        tuple(names),
        WIDTH,
        config=GraphConfig(hidden=5, **config),
        edges=tuple(edges),
        output_dropout=0.0,
    ).double()


def single_member_batch(task: Task) -> EnsembleBatch:
    return in_double(random_batch((2, 2, 2), task=task, seed=3, num_utterances=7))


def test_edges_start_uniform_over_present_sources() -> None:
    batch, unit = single_member_batch(Task()), unit_of()
    graph = unit(normal(2, 3, 7, WIDTH).double(), batch)
    present = batch.present_EMB.transpose(1, 2).double().unsqueeze(-1).expand(-1, -1, -1, 3)
    assert_close(graph.learned_EBIJ, present / present.sum(2, keepdim=True))


def test_every_control_equals_its_equation_in_one_stack() -> None:
    batch = in_double(
        random_batch((2, 2, 2), num_members=6, num_utterances=7, padding_rows=2, seed=3)
    )
    unit = unit_of(edges=EDGE_SOURCES)
    randomise(unit, seed=4)
    graph = unit(normal(6, 3, 7, WIDTH).double(), batch)
    assert not graph.edges_EBIJ.requires_grad
    for r, name in enumerate(EDGE_SOURCES):
        member_batch = batch.of_member(r)
        expected = equations.control_edges(
            name, graph.learned_EBIJ[r].detach(), member_batch, NAMES
        )
        assert_close(graph.edges_EBIJ[r], expected, what=name)
        alone = unit_of(edges=[name])
        alone.load_state_dict({k: v[r : r + 1] for k, v in unit.state_dict().items()})
        fields = {k: v[r : r + 1] for k, v in vars(batch).items() if isinstance(v, Tensor)}
        single = replace(batch, **fields)
        by_itself = alone(normal(6, 3, 7, WIDTH).double()[r : r + 1], single)
        assert_close(by_itself.edges_EBIJ[0], graph.edges_EBIJ[r])


def test_distillation_needs_teachers() -> None:
    batch, unit = single_member_batch(Task()), unit_of()
    bare = replace(batch, teachers_EMBO=None)
    graph = unit(normal(2, 3, 7, WIDTH).double(), bare)
    with pytest.raises(ValueError, match="out-of-fold teachers"):
        unit.distillation_loss(graph, bare)
    prior = unit_of(names=("text", "physio", "audio")).prior_IJ
    # DMD's prior favours text over audio; it does not know physio.
    assert prior.eq(4).tolist() == [[True, False, True], [False, True, False], [False, False, True]]
