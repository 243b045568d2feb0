"""Diverged seeds, constant predictions, and splits and classes that are almost empty."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from dhmd.base.errors import DhmdError
from dhmd.evaluation.config import EvaluateConfig
from dhmd.evaluation.job import evaluate_job
from tests.aligned_files import ragged
from tests.faults.conftest import Reference
from tests.faults.test_disk import check, run_stage
from tests.training.artefacts import pretrain, train
from tests.training.corpora import SEGMENTS, SPLITS, tiny_aligned, tiny_configuration, tiny_data

QUICK = {"train": {"epochs": 1}, "pretrain": {"epochs": 1, "folds": 2}}


def let_second_seed_diverge() -> None:
    """Make the second member's parameters infinite from the second epoch on."""
    from dhmd.training.trainer import Trainer

    original = Trainer._set_rates

    def set_rates_and_diverge(trainer: Trainer) -> None:
        original(trainer)
        if trainer.progress.epoch >= 2:
            values = trainer.optimiser.values_P
            values[trainer.optimiser.member_entries(_second(trainer.members.count))] = np.inf

    Trainer._set_rates = set_rates_and_diverge  # type: ignore[method-assign]


def _second(count: int):  # type: ignore[no-untyped-def]
    import torch

    return torch.arange(count) == 1


def test_a_seed_that_diverges_is_named_and_the_others_finish(
    reference: Reference, tmp_path: Path
) -> None:
    project = reference.copy_before(tmp_path / "project", "train")
    outcome = run_stage(project, "train", let_second_seed_diverge)
    assert check(outcome, "train") == "success"
    assert "seed-2 diverged in epoch 2 at learning rate 0.002" in outcome.printed
    assert "seed-1 diverged" not in outcome.printed
    own = project.folder / "models" / "demo"
    alone = reference.project.folder / "models" / "demo"
    weights = "seed-1.safetensors"
    assert (own / weights).read_bytes() == (alone / weights).read_bytes()
    refused = run_stage(project, "evaluate")
    assert check(refused, "evaluate") == "refused"
    assert "models/demo/outputs.h5, prediction: seeds that diverged: 2" in refused.printed
    assert project.contents("evaluate") == {}


@pytest.mark.slow
def test_all_seeds_that_diverge_are_named_and_not_evaluated(
    reference: Reference, tmp_path: Path
) -> None:
    def let_all_seeds_diverge() -> None:
        from dhmd.models.stacked.dhmd import DHMD

        original = DHMD.losses

        def nan_losses(learner, batch):  # type: ignore[no-untyped-def]
            losses = original(learner, batch)
            return losses | {"total": losses["total"] * float("nan")}

        DHMD.losses = nan_losses  # type: ignore[method-assign]

    project = reference.copy_before(tmp_path / "project", "train")
    outcome = run_stage(project, "train", let_all_seeds_diverge)
    assert check(outcome, "train") == "success"
    for seed in (1, 2):
        assert f"seed-{seed} diverged in epoch 1 at learning rate 0.002" in outcome.printed
    refused = run_stage(project, "evaluate")
    assert check(refused, "evaluate") == "refused"
    assert "seeds that diverged: 1, 2" in refused.printed


@pytest.mark.slow
def test_the_correlation_of_constant_predictions_is_undefined(
    reference: Reference, tmp_path: Path
) -> None:
    project = reference.copy_before(tmp_path / "project", "evaluate")
    models = project.folder / "models" / "demo"
    with h5py.File(models / "outputs.h5", "a") as file:
        file["prediction"][0] = 0.25
    assert check(run_stage(project, "evaluate"), "evaluate") == "success"
    metrics = json.loads((project.folder / "metrics/demo/details/summary.json").read_text())
    assert {"test.corr", "valid.corr"} <= set(metrics["undefined"])
    assert "corr" not in metrics["test"]
    assert check(run_stage(project, "report"), "report") == "success"
    text = project("dhmd", "table", "demo")
    assert "DHMD" in text


@pytest.mark.slow
def test_a_class_absent_from_training_is_evaluated(tmp_path: Path) -> None:
    data = tiny_data("classification")
    splits = np.repeat(SPLITS, SEGMENTS)
    labels = data.labels_N.copy()
    labels[(splits != "test") & (labels == 2)] = 1.0
    assert (labels[splits == "test"] == 2).any()
    metrics = run_pipeline(tmp_path, "classification", labels_N=labels)
    assert metrics["undefined"] == []
    assert 0 <= metrics["test"]["f1"]["mean"] <= 1


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_splits_and_batches_may_have_one_utterance(task: str, tmp_path: Path) -> None:
    data = tiny_data(task)
    keep = np.arange(2, len(SPLITS) * SEGMENTS, SEGMENTS)[[0, 1, 2, 6, 8]]
    present = np.ones((len(keep), 3), dtype=bool)
    metrics = run_pipeline(
        tmp_path,
        task,
        batch=1,
        ids=tuple(data.ids[row] for row in keep),
        videos=tuple(data.videos[row] for row in keep),
        features={
            name: ragged([own[row] + 1 for row in keep]) for name, own in data.features.items()
        },
        present_NM=present,
        labels_N=data.labels_N[keep],
        folds={"standard": np.array(["train", "train", "train", "valid", "test"])},
    )
    if task == "regression":
        assert "test.corr" in metrics["undefined"]
        assert np.isfinite(metrics["test"]["mae"]["mean"])


def run_pipeline(
    tmp_path: Path, task: str, *, batch: int = 8, **changes: object
) -> dict[str, dict]:  # type: ignore[type-arg]
    """Pretrain, train and evaluate a corpus; return metrics.json."""
    aligned = tiny_aligned(tmp_path / "c.h5", task, **changes)
    configuration = tiny_configuration(QUICK)
    configuration = replace(configuration, train=replace(configuration.train, batch_size=batch))
    pretrain(configuration, aligned, tmp_path / "p", tmp_path / "s")
    train(configuration, aligned, tmp_path / "p", tmp_path / "m", tmp_path / "s")
    evaluate_job(
        EvaluateConfig(resamples=100), aligned, tmp_path / "p", tmp_path / "m", None, tmp_path / "e"
    )
    metrics: dict[str, dict] = json.loads((tmp_path / "e/details/summary.json").read_text())  # type: ignore[type-arg]
    return metrics


def test_metrics_of_labels_of_one_value_are_undefined(tmp_path: Path) -> None:
    labels = np.zeros(len(SPLITS) * SEGMENTS, dtype=np.float32)
    metrics = run_pipeline(tmp_path, "regression", labels_N=labels)
    assert {"test.corr", "test.acc2_non0", "test.f1_non0"} <= set(metrics["undefined"])


def test_one_video_cannot_be_cross_fitted(tmp_path: Path) -> None:
    data = tiny_data()
    splits = np.array(["train"] * SEGMENTS + ["valid"] * SEGMENTS + ["test"] * SEGMENTS)
    rows = np.arange(3 * SEGMENTS)
    cache = tiny_aligned(
        tmp_path / "c.h5",
        ids=tuple(data.ids[row] for row in rows),
        videos=tuple(data.videos[row] for row in rows),
        features={name: ragged([own[row] for row in rows]) for name, own in data.features.items()},
        present_NM=data.present_NM[rows],
        labels_N=data.labels_N[rows],
        folds={"standard": splits},
    )
    with pytest.raises(DhmdError, match="fold"):
        pretrain(tiny_configuration(QUICK), cache, tmp_path / "p", tmp_path / "s")
