"""Properties of all baselines: tasks, modalities, padding, learning, mode of training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dhmd.base.errors import DhmdError
from dhmd.config.schema import load_section
from dhmd.config.yaml12 import load_yaml
from dhmd.models.catalogue import baseline_names, model_info
from dhmd.models.config import ModelConfig
from dhmd.models.ensemble import Ensemble
from dhmd.models.task import Task
from dhmd.training.configuration import overlay
from tests.models.baselines.models import build_learner
from tests.models.batches import padded, random_batch
from tests.models.compare import assert_close
from tests.models.stacked.settings import CLASSES, INPUTS, MULTILABEL
from tests.training.corpora import TINY

MODELS = baseline_names()
ROOT = Path(__file__).parents[3]
# docs/models.md: name, paper, filled in, parameters, modalities, seeds train.
PAGE = {
    cells[0].strip("`"): cells
    for line in (ROOT / "docs" / "models.md").read_text(encoding="utf-8").splitlines()
    if len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 6
}
REGRESSION_ONLY = {name for name, cells in PAGE.items() if "regression only" in cells[4]}
WIDTHS = {"text": 4, "audio": 3, "vision": 5, "physio": 2}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "task", [Task(), CLASSES, MULTILABEL], ids=["regression", "classes", "sets"]
)
def test_a_model_predicts_and_has_finite_gradients(name: str, task: Task) -> None:
    """Cover absent modalities and utterances of weight 0; check the mode in docs/models.md."""
    if name in REGRESSION_ONLY and task.classes:
        with pytest.raises(DhmdError, match="but the task has classes"):
            build_learner(name, task=task)
        return
    model, batch = build_learner(name, task=task), random_batch(list(INPUTS.values()), task=task)
    assert model.predict(batch).shape == (2, 6, task.outputs)
    losses = model.losses(replace(batch, epoch=1))
    losses["total"].sum().backward()
    assert losses["total"].isfinite().all()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert sum(float(gradient.abs().sum()) for gradient in gradients) > 0
    together = "together" if model.mode == "vmap" else "in turn"
    assert PAGE[name][5] == (together if isinstance(model, Ensemble) else "together, own engine")


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_model_runs_with_any_number_of_modalities_or_is_refused(name: str, count: int) -> None:
    inputs = dict(list(WIDTHS.items())[:count])
    if count < model_info(name).min_modalities:
        with pytest.raises(DhmdError, match=f"{name} needs .* modalities, but there is only text"):
            build_learner(name, inputs)
        return
    names = tuple(inputs)
    batch = random_batch(
        list(inputs.values()), modalities=names, steps=(5,) * count, absent=0.2, seed=3
    )
    model = build_learner(name, inputs)
    model.losses(replace(batch, epoch=1))["total"].sum().backward()
    assert model.predict(batch).isfinite().all()


@pytest.mark.parametrize("name", MODELS)
def test_padding_has_no_effect(name: str) -> None:
    """DMD pads to a fixed length, and its mask is an option."""
    options = {"masked": True, "summary": "mean", "heads": "mean"} if name == "dmd" else None
    model = build_learner(name, options=options, num_steps=9).eval()
    batch = random_batch(list(INPUTS.values()), absent=0.4, seed=2)
    assert_close(model.predict(padded(batch, (4, 4, 4))), model.predict(batch))


@pytest.mark.parametrize("name", MODELS)
def test_a_model_overfits_16_utterances(name: str) -> None:
    """Each phase updates its own parameters, as in the trainer."""
    torch.manual_seed(0)
    model = build_learner(name, seeds=(1,), num_utterances=16)
    batch = random_batch(
        list(INPUTS.values()), num_members=1, num_utterances=16, absent=0.0, padding_rows=0, seed=4
    )
    batch.labels_EB.clamp_(-2.8, 2.8)
    optimisers = {
        phase: torch.optim.Adam(
            [
                p
                for key, p in model.named_parameters()
                if (model.parameter_group(key).phase or model.phases[-1]) == phase
            ],
            lr=0.01,
        )
        for phase in model.phases
        if any(
            (model.parameter_group(key).phase or model.phases[-1]) == phase
            for key, _ in model.named_parameters()
        )
    }

    def error() -> float:
        with torch.no_grad():
            return float((model.eval().predict(batch)[..., 0] - batch.labels_EB).abs().mean())

    before = error()
    model.train()
    for step in range(250):
        for phase, optimiser in optimisers.items():
            model.zero_grad(set_to_none=False)
            epoch = 1 + step // 50
            model.losses(replace(batch, epoch=epoch, phase=phase))["total"].sum().backward()
            optimiser.step()
        if step % 10 == 9 and error() < 0.25 * before:
            break
        model.train()
    assert error() < 0.25 * before


@pytest.mark.parametrize("name", MODELS)
def test_the_models_page_lists_the_number_of_parameters(name: str) -> None:
    recipe = load_yaml(ROOT / "recipes" / "demo.yaml")
    assert isinstance(recipe, dict)
    settings = load_section(ModelConfig, {}, recipe=recipe["model"], where="model")
    model = build_learner(
        name, {"text": 20, "audio": 36, "vision": 28}, seeds=(1,), config=settings, num_steps=12
    )
    assert PAGE[name][3] == f"{sum(p.numel() for p in model.parameters()):,}"
    if "two or more" in PAGE[name][4]:
        assert model_info(name).min_modalities == 2


def test_a_model_without_options_refuses_them() -> None:
    with pytest.raises(DhmdError, match=r"model\.options\.tfn is set, but tfn has no options"):
        build_learner("tfn", options={"rank": 3})


def test_options_of_an_unknown_model_are_refused() -> None:
    with pytest.raises(DhmdError, match=r"options\.dmx: no such baseline; use one of cm2, "):
        load_section(ModelConfig, {"options": {"dmx": {"gate": "multiply"}}}, where="model")


def test_options_of_another_model_do_not_change_the_configuration() -> None:
    changed = overlay(TINY, {"model": {"options": {"dmd": {"gate": "multiply"}}}})
    assert changed.as_json() == TINY.as_json()
    options = replace(changed, architecture="dmd").as_json()["model"]["options"]
    assert options == {"dmd": {"gate": "multiply"}}
