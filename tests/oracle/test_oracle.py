"""The plain model's vectorised losses are the equations' loops, so that both may be trusted."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dhmd.models.config import DecoupleConfig
from dhmd.models.task import Task
from tests.models.stacked.settings import CLASSES, INPUTS, MODEL, kd_with
from tests.oracle import equations
from tests.oracle.batches import PlainBatch, in_double, plain, random_batch
from tests.oracle.compare import assert_close
from tests.oracle.losses import losses
from tests.oracle.plain import SPACES, PlainDHMD, PlainPassed


def model_and_batch(task: Task, kind: str = "mixture") -> tuple[PlainDHMD, PlainBatch]:
    torch.manual_seed(0)
    kd = kd_with(graph={"edge_loss": kind, "representation": 0.2}, lambda_=0.4)
    model = PlainDHMD(task, INPUTS, model=MODEL, decouple=DecoupleConfig(), kd=kd).double()
    batch = random_batch(list(INPUTS.values()), task=task, steps=(3, 5, 4), aligned=False, seed=2)
    return model, plain(in_double(batch), 0)


def from_equations(model: PlainDHMD, passed: PlainPassed, batch: PlainBatch) -> dict[str, Tensor]:
    task, kd = model.task, model.kd
    decoded = [model.decoder[m](torch.cat([passed.com[m], passed.prt[m]], -1)) for m in range(3)]
    again = [model.private[m](decoded[m]) for m in range(3)]
    found = {
        "rec": equations.mean_square(passed.encoded, decoded, batch),
        "cyc": equations.mean_square(passed.prt, again, batch),
        "ort": equations.orthogonality(passed.com, passed.prt, batch),
        "mar": equations.margin(passed.pooled_com_BMD, batch, task, 0.15),
    }
    for space in SPACES:
        outputs, edges, graph = passed.outputs[space], passed.edges[space], model.graphs[space]

        def project(i: int, j: int, v: Tensor, graph: torch.nn.Module = graph) -> Tensor:
            return graph.projection[f"{i}-{j}"](v)

        distilled = equations.distillation(edges, outputs, batch, task, kd.graph.tau)
        term = equations.representation(edges, passed.vertices[space], project, batch)
        found[f"gd_{space}"] = distilled + 0.2 * term
        found[f"vertex_{space}"] = equations.vertex_task(outputs, batch, task)
        if kd.graph.edge_loss == "mixture":
            found[f"edge_{space}"] = equations.edge_mixture(edges, batch, task)
        else:
            found[f"edge_{space}"] = equations.edge_kl(edges, batch, task, kd.graph.tau)
        found[f"dm_{space}"] = equations.matching(
            passed.relevance[space],
            passed.activation[space],
            passed.feature[space],
            edges,
            batch,
            task,
            temperature=kd.dictionary.temperature,
            scale=kd.dictionary.scale,
            balance=kd.dictionary.balance,
        )
    return found


@pytest.mark.parametrize("task", [Task(), CLASSES], ids=["regression", "classification"])
@pytest.mark.parametrize("kind", ["mixture", "kl"])
def test_the_plain_losses_are_the_equations(task: Task, kind: str) -> None:
    model, batch = model_and_batch(task, kind)
    model.eval()
    passed = model(batch)
    found = losses(model, passed, batch)
    for name, value in from_equations(model, passed, batch).items():
        assert_close(found[name], value, what=name)


def test_the_plain_model_trains_with_its_dropout() -> None:
    model, batch = model_and_batch(Task())
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    first = None
    for _ in range(15):
        optimiser.zero_grad()
        loss = losses(model, model(batch), batch)["total"]
        loss.backward()
        optimiser.step()
        first = first or loss.item()
    assert loss.item() < first
    assert not torch.allclose(model(batch).output_BO, model(batch).output_BO)
