"""The losses of the plain model equal the equations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dhmd.models.batch import Batch
from dhmd.models.config import DecoupleConfig, DictionaryConfig
from dhmd.models.dhmd import DHMD, ModelOutputs
from dhmd.models.layers import initial_codes, sparsemax
from dhmd.models.losses import control_edges
from dhmd.models.task import Task
from tests.models import equations
from tests.models.batches import in_double, random_batch
from tests.models.compare import assert_close
from tests.models.stacked.settings import CLASSES, INPUTS, MODEL, MULTILABEL, kd_with


def model_and_batch(task: Task, kind: str = "mixture") -> tuple[DHMD, Batch]:
    torch.manual_seed(0)
    kd = kd_with(graph={"edge_loss": kind, "representation": 0.2}, lambda_=0.4)
    model = DHMD(INPUTS, task, MODEL, decouple=DecoupleConfig(), kd=kd).double()
    for graph in model.graphs.values():
        torch.nn.init.normal_(graph.edge_score.weight)  # away from uniform edges
    batch = random_batch(list(INPUTS.values()), task=task, steps=(3, 5, 4), aligned=False, seed=2)
    return model, in_double(batch).of_member(0)


def from_equations(model: DHMD, outputs: ModelOutputs, batch: Batch) -> dict[str, Tensor]:
    task, kd = model.task, model.kd
    assert model.decoupling is not None
    com, prt = outputs.com, outputs.prt
    decoder, private = model.decoupling.decoder, model.decoupling.private
    decoded = {m: decoder[m](torch.cat([com[m], prt[m]], -1)) for m in com}
    cycled = {m: private[m](decoded[m]) for m in com}

    def values(steps: dict[str, Tensor]) -> list[Tensor]:
        return list(steps.values())

    found = {
        "rec": equations.mean_square(values(outputs.encoded), values(decoded), batch),
        "cyc": equations.mean_square(values(prt), values(cycled), batch),
        "ort": equations.orthogonality(values(com), values(prt), batch),
        "mar": equations.margin(outputs.pooled_com_BMD, batch, task, 0.15),
    }
    names = list(INPUTS)
    for space, graph in outputs.graphs.items():
        projection = model.graphs[space].projection

        def project(i: int, j: int, v: Tensor, projection: torch.nn.Module = projection) -> Tensor:
            return projection[f"{names[i]}_to_{names[j]}"](v)

        edges, heads = graph.learned_BIJ, graph.outputs_BMO
        distilled = equations.distillation(edges, heads, batch, task, kd.graph.tau)
        term = equations.representation(edges, graph.vertices_BMW, project, batch)
        found[f"gd_{space}"] = distilled + 0.2 * term
        found[f"vertex_{space}"] = equations.vertex_task(heads, batch, task)
        if kd.graph.edge_loss == "mixture":
            found[f"edge_{space}"] = equations.edge_mixture(edges, batch, task)
        else:
            found[f"edge_{space}"] = equations.edge_kl(edges, batch, task, kd.graph.tau)
        dictionary = outputs.dictionaries[space]
        found[f"dm_{space}"] = equations.matching(
            dictionary.relevance_BMK,
            dictionary.activation_BMK,
            dictionary.feature_BMW,
            edges,
            batch,
            task,
            temperature=kd.dictionary.temperature,
            scale=kd.dictionary.scale,
            balance=kd.dictionary.balance,
        )
    return found


@pytest.mark.parametrize(
    "task", [Task(), CLASSES, MULTILABEL], ids=["regression", "classes", "sets"]
)
@pytest.mark.parametrize("kind", ["mixture", "kl"])
def test_losses_equal_the_equations(task: Task, kind: str) -> None:
    model, batch = model_and_batch(task, kind)
    model.eval()
    found = model.losses(batch)
    for name, value in from_equations(model, model.outputs(batch), batch).items():
        assert_close(found[name], value, what=name)


@pytest.mark.parametrize("kind", ["learned", "uniform", "prior", "mean", "shuffled", "self"])
def test_control_edges_equal_the_equations(kind: str) -> None:
    model, batch = model_and_batch(Task())
    learned = model.eval().outputs(batch).graphs["homogeneous"].learned_BIJ.detach()
    found = control_edges(kind, learned, batch, tuple(INPUTS))
    assert_close(found, equations.control_edges(kind, learned, batch, tuple(INPUTS)))


def test_the_model_learns_and_eval_switches_dropout_off() -> None:
    model, batch = model_and_batch(Task())
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    first = None
    for _ in range(15):
        optimiser.zero_grad()
        loss = model.losses(batch)["total"]
        loss.backward()
        optimiser.step()
        first = first or loss.item()
    assert loss.item() < first
    assert not torch.allclose(model(batch), model(batch))
    model.eval()
    assert model(batch).equal(model(batch))


def test_sparsemax_equals_the_equation() -> None:
    z = torch.randn(7, 9, generator=torch.Generator().manual_seed(0)).double()
    assert_close(sparsemax(z), equations.sparsemax(z))


def test_about_three_codes_are_active_at_the_start() -> None:
    torch.manual_seed(0)
    codes = initial_codes(16, DictionaryConfig(codes=128))
    queries = torch.nn.functional.normalize(torch.randn(200, 8, 16), dim=-1)
    active = (sparsemax((queries @ codes.T).amax(1) * 10.0) > 0).sum(-1).float().mean()
    assert 2 < active < 4
