"""The training loop: schedules, early stopping, best weights, divergence, gradient accumulation."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from dhmd.data.aligned import Corpus
from dhmd.models.batch import EnsembleBatch
from dhmd.models.learner import Learner
from dhmd.models.members import Members
from dhmd.models.registry import CorpusInfo, build
from dhmd.models.stacked.encoders import UnimodalModel
from dhmd.models.task import Task
from dhmd.training.batches import PlannedBatch
from dhmd.training.checkpoint import CHECKPOINT
from dhmd.training.configuration import Configuration
from dhmd.training.device_corpus import DeviceCorpus, task_of
from dhmd.training.trainer import Progress, Trainer
from tests.models.batches import random_batch
from tests.models.compare import assert_close
from tests.models.stacked.settings import CLASSES, MODEL
from tests.training.corpora import tiny_configuration, tiny_corpus
from tests.training.learners import CPU, DriftingLearner, Recorder, train_config, trainer_of

# ---- schedules, with a learner whose only parameter moves by the learning rate per update --------


def test_a_member_keeps_its_best_weights_and_stops_early(tmp_path: Path) -> None:
    """One member moves towards 0.33 by 0.1 per epoch, best after three; the other gets worse."""
    learner, recorder = DriftingLearner([1.0, -1.0]), Recorder()
    progress = trainer_of(learner, 0.33, tmp_path / "s", recorder, plateau_patience=99).run()
    assert progress.best_epoch == [3, 1]
    assert progress.stopped == [True, True]
    assert progress.best == pytest.approx([0.03, 0.43], abs=1e-4)
    assert learner.position_E.tolist() == pytest.approx([0.3, -0.1], abs=1e-4)
    # Epoch 7 is the fourth without a better score for the first, epoch 5 for the second.
    assert progress.epoch == 7
    training = [set(rows) for _, rows in recorder.epochs]
    assert training == [{"seed-1", "seed-2"}] * 5 + [{"seed-1"}] * 2
    assert [epoch for epoch, _ in recorder.epochs] == list(range(1, 8))


def test_a_stopped_member_is_not_updated(tmp_path: Path) -> None:
    learner = DriftingLearner([1.0, -1.0])
    recorder, positions = Recorder(), []
    recorder.on_epoch = lambda *_: positions.append(learner.position_E.tolist())  # type: ignore[method-assign]
    settings = {"epochs": 9, "early_stop": 2, "plateau_patience": 99, "weight_decay": 0.1}
    trainer_of(learner, 9.0, tmp_path / "s", recorder, **settings).run()
    assert len({position for _, position in positions[2:]}) == 1
    assert len({position for position, _ in positions}) == 9


def test_the_learning_rate_falls_on_a_plateau(tmp_path: Path) -> None:
    recorder = Recorder()
    settings = {"epochs": 8, "early_stop": 99, "plateau_patience": 1, "plateau_factor": 0.5}
    trainer_of(DriftingLearner([-1.0, 1.0]), 2.0, tmp_path / "s", recorder, **settings).run()
    rates = [rows["seed-1"]["lr"] for _, rows in recorder.epochs]
    # Worse from epoch 2 on: two bad epochs are one more than the patience, and so on.
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.05, 0.05, 0.025, 0.025, 0.0125])
    assert {rows["seed-2"]["lr"] for _, rows in recorder.epochs} == {0.1}


def test_plateau_rule_equals_torch() -> None:
    scores = [1.0, 0.8, 0.9, 0.85, 0.81, 0.79, 0.8, 0.9, 0.95, 0.99, 1.0, 1.1]
    config = train_config(lr=1.0, plateau_patience=2, early_stop=99)
    progress = Progress.start(1, 1.0)
    weight = nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([weight], lr=1.0)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimiser, factor=0.5, patience=2, threshold=0.0
    )
    best = math.inf
    for epoch, score in enumerate(scores, 1):
        progress.epoch = epoch
        assert progress.update(0, score, config) == (score < best)
        best = min(best, score)
        plateau.step(score)
        assert progress.rates[0] == optimiser.param_groups[0]["lr"]
    assert progress.best_epoch == [6]
    assert progress.best == [0.79]


def test_averaged_weights_are_validated_and_kept(tmp_path: Path) -> None:
    learner, recorder = DriftingLearner([1.0]), Recorder()
    trainer_of(learner, 5.0, tmp_path / "s", recorder, epochs=4, average=0.75).run()
    position, average, expected = 0.0, 0.0, []
    for _ in range(4):
        position += 0.1
        average = 0.75 * average + 0.25 * position
        expected.append(5.0 - average)
    scores = [rows["seed-1"]["valid/mae"] for _, rows in recorder.epochs]
    assert scores == pytest.approx(expected, abs=1e-4)
    assert learner.position_E.item() == pytest.approx(average, abs=1e-4)


def test_the_history_has_means_over_updates(tmp_path: Path) -> None:
    recorder = Recorder()
    trainer = trainer_of(
        DriftingLearner([1.0]), 5.0, tmp_path / "s", recorder, epochs=2, batch_size=4
    )
    progress = trainer.run()
    # An epoch has four updates: the loss is −0, −0.1, −0.2, −0.3 in the first one.
    first, second = (rows["seed-1"] for _, rows in recorder.epochs)
    assert first["train/total"] == pytest.approx(-0.15, abs=1e-3)
    assert second["train/total"] == pytest.approx(-0.55, abs=1e-3)
    assert first["train/task"] == pytest.approx(-0.3, abs=2e-3)
    assert ("seed-1", 1, "train/total", first["train/total"]) in progress.history
    assert set(first) == {"train/total", "train/task", "valid/mae", "valid/corr", "lr"}
    assert first["valid/corr"] == 0.0  # undefined: all predictions are equal


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_diverged_member_does_not_change_the_others(tmp_path: Path, loss: float) -> None:
    def extra_loss(position_E: Tensor) -> Tensor:
        """Return an invalid loss of the second member once it exceeds 0.25."""
        diverging = (position_E > 0.25) & torch.tensor([False, True, False])
        return position_E * torch.where(diverging, loss, 0.0)

    three_members = DriftingLearner([1.0, 1.0, -1.0], extra_loss)
    settings, recorder = {"epochs": 6, "weight_decay": 0.1}, Recorder()
    progress = trainer_of(three_members, 2.0, tmp_path / "a", recorder, **settings).run()
    assert progress.diverged == [None, 4, None]
    assert "seed-2" in recorder.epochs[2][1]
    assert "seed-2" not in recorder.epochs[3][1]
    two_members = DriftingLearner([1.0, -1.0])
    expected = trainer_of(two_members, 2.0, tmp_path / "b", **settings).run()
    assert three_members.position_E[[0, 2]].equal(two_members.position_E.detach())
    assert [progress.best[0], progress.best[2]] == expected.best
    assert progress.history == [row for row in progress.history if row[0] != "seed-2" or row[1] < 4]
    assert three_members.position_E.isfinite().all()


# ---- the DHMD model ------------------------------------------------------------------------------


def dhmd_trainer(
    corpus: Corpus, configuration: Configuration, folder: Path
) -> tuple[Learner, Trainer]:
    """Build a trainer with teachers that depend only on seed and utterance."""
    seeds = configuration.train.seeds
    data, task = DeviceCorpus.of(corpus, configuration.modalities, CPU), task_of(corpus)
    count, outputs = len(corpus.ids), task.outputs
    teachers = []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        predictions = torch.randn(
            len(configuration.modalities), count, outputs, generator=generator
        )
        teachers.append(predictions.softmax(-1) if outputs > 1 else predictions)
    data.teachers_EMNO = torch.stack(teachers)
    members = Members(seeds, CPU)
    model = build(
        configuration.architecture,
        members,
        task,
        {name: len(corpus.feature_names[name]) for name in configuration.modalities},
        config=configuration.model,
        loss_weights=[(configuration.decouple, configuration.kd)] * len(seeds),
        corpus=CorpusInfo(len(corpus.index("train")), dict.fromkeys(configuration.modalities, 9)),
    )
    folder.mkdir()
    return model, Trainer(
        model,
        members,
        data,
        names=[f"seed-{seed}" for seed in seeds],
        train=configuration.train,
        train_rows=corpus.index("train"),
        valid_rows=corpus.index("valid"),
        checkpoint=folder / CHECKPOINT,
    )


def record_losses(model: Learner) -> list[dict[str, Tensor]]:
    """Record the losses of every step, `[E]` each."""
    steps: list[dict[str, Tensor]] = []
    losses = model.losses

    def losses_and_record(batch: EnsembleBatch) -> dict[str, Tensor]:
        values: dict[str, Tensor] = losses(batch)
        steps.append({name: value.detach().clone() for name, value in values.items()})
        return values

    model.losses = losses_and_record  # type: ignore[method-assign, assignment]
    return steps


def with_seeds(*seeds: int, **train: Any) -> Configuration:
    configuration = tiny_configuration()
    train = {"epochs": 2, "seeds": seeds, **train}
    return replace(configuration, train=replace(configuration.train, **train))


@pytest.mark.parametrize("alignment", ["word", "none"])
def test_a_seed_trained_alone_has_the_same_losses_as_with_others(
    tmp_path: Path, alignment: str
) -> None:
    """Train with dropout, modality dropout, several buckets and accumulation."""
    corpus = tiny_corpus(tmp_path / "c.h5", alignment=alignment)
    three_seeds, trainer = dhmd_trainer(corpus, with_seeds(3, 7, 9, accumulate=2), tmp_path / "a")
    losses_of_three = record_losses(three_seeds)
    trainer.run()
    one_seed, trainer = dhmd_trainer(corpus, with_seeds(7, accumulate=2), tmp_path / "b")
    losses_of_one = record_losses(one_seed)
    trainer.run()
    assert len(losses_of_one) == len(losses_of_three) == 2 * 3
    for number, (alone, together) in enumerate(zip(losses_of_one, losses_of_three, strict=True)):
        for name, value in alone.items():
            what = f"step {number}, {name}"
            assert_close(value[0], together[name][1], rtol=2e-4, atol=2e-5, what=what)
    assert (losses_of_three[-1]["total"][0] - losses_of_three[-1]["total"][1]).abs() > 1e-3
    parameters, expected = dict(one_seed.named_parameters()), dict(three_seeds.named_parameters())
    for name, value in parameters.items():
        assert_close(value[0].detach(), expected[name][1].detach(), atol=1e-3, what=name)


def without_dropout(configuration: Configuration) -> Configuration:
    """Return a configuration without any kind of dropout."""
    zero = {"text": 0.0, "audio": 0.0, "vision": 0.0}
    dropout = {"attention": zero, "layer": 0.0, "embedding": 0.0, "input": zero, "output": 0.0}
    changed = tiny_configuration({"model": {"dropout": dropout}})
    return replace(changed, train=replace(configuration.train, modality_dropout=0.0))


def accumulated(trainer: Trainer, batches: list[PlannedBatch]) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the gradients and the summed losses of an update."""
    trainer.optimiser.zero_grad()
    sums: dict[str, Tensor] = {}
    for planned in batches:
        for name, value in trainer.backward(planned).items():
            sums[name] = sums.get(name, 0) + value
    return trainer.optimiser.grads_P.clone(), sums


def test_accumulating_two_batches_equals_one_batch(tmp_path: Path) -> None:
    """This holds for every loss that is a mean over utterances.

    The margin loss and InfoNCE compare the utterances of a batch, and two batches of 8 have fewer
    triplets and negatives than one of 16. These losses differ and are not part of the total here
    (γ = 0, no matching).
    """
    corpus = tiny_corpus(tmp_path / "c.h5")
    configuration = without_dropout(with_seeds(1, 2, accumulate=2, buckets=1))
    configuration = replace(
        configuration,
        decouple=replace(configuration.decouple, gamma=0.0),
        kd=replace(
            configuration.kd, dictionary=replace(configuration.kd.dictionary, matching=False)
        ),
    )
    _, trainer = dhmd_trainer(corpus, configuration, tmp_path / "s")
    (first, second), *_ = trainer.planner.epoch(1)
    assert first.rows_EB.shape == (2, 8)
    joined = PlannedBatch(
        first.steps,
        np.concatenate([first.rows_EB, second.rows_EB], axis=1),
        np.concatenate([first.weight_EB, second.weight_EB], axis=1),
    )
    grads, losses = accumulated(trainer, [first, second])
    expected_grads, expected = accumulated(trainer, [joined])
    assert_close(grads, expected_grads, rtol=1e-4, atol=2e-6)
    compare_batches = {"mar", "dm_homogeneous", "dm_heterogeneous"}
    for name, value in expected.items():
        if name in compare_batches:
            assert (losses[name] - value).abs().max() > 1e-4, name
        else:
            assert_close(losses[name], value, rtol=1e-5, what=name)


def test_the_last_update_of_an_epoch_is_not_dropped(tmp_path: Path) -> None:
    """Train on 24 rows, three batches of 8, of which the third is a second update."""
    corpus = tiny_corpus(tmp_path / "c.h5")
    _, trainer = dhmd_trainer(corpus, with_seeds(1, accumulate=2, epochs=1), tmp_path / "s")
    trainer.run()
    assert trainer.optimiser.steps == 2


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_validation_scores_equal_those_of_the_predictions(tmp_path: Path, task: str) -> None:
    corpus = tiny_corpus(tmp_path / "c.h5", task)
    model, trainer = dhmd_trainer(corpus, with_seeds(1, 2), tmp_path / "s")
    rows = corpus.index("valid")
    scores = trainer.validation_scores()
    weight = torch.ones(2, len(rows))
    index = torch.from_numpy(rows).expand(2, -1)
    output = model.predict(trainer.corpus.batch(index, weight, (9, 9, 9))).detach().numpy()
    labels = corpus.labels_N[rows]
    for member in range(2):
        if task == "regression":
            assert list(scores) == ["mae", "corr"]
            error = np.abs(output[member, :, 0] - labels).mean()
            corr = np.corrcoef(output[member, :, 0], labels)[0, 1]
            assert scores["mae"][member] == pytest.approx(error, rel=1e-5)
            assert scores["corr"][member] == pytest.approx(corr, abs=1e-5)
        else:
            assert list(scores) == ["loss", "accuracy"]
            p = np.exp(output[member]) / np.exp(output[member]).sum(-1, keepdims=True)
            of_labels = p[np.arange(len(rows)), labels.astype(int)]
            assert scores["loss"][member] == pytest.approx(-np.log(of_labels).mean(), rel=1e-5)
            assert scores["accuracy"][member] == pytest.approx((p.argmax(-1) == labels).mean())


def test_modality_dropout_meets_its_rate_and_keeps_one_modality(tmp_path: Path) -> None:
    corpus = tiny_corpus(tmp_path / "c.h5")
    two_seeds = dhmd_trainer(corpus, with_seeds(1, 2, modality_dropout=0.6), tmp_path / "a")[1]
    one_seed = dhmd_trainer(corpus, with_seeds(2, modality_dropout=0.6), tmp_path / "b")[1]
    batch = random_batch((1, 1, 1), num_utterances=6000, absent=0.3)
    dropped = two_seeds._dropped_modalities(batch.present_EMB)
    remaining = batch.present_EMB & ~dropped
    assert remaining.any(1).all()
    complete = batch.present_EMB.all(1)
    # If all three are present, one is dropped with probability 0.6 unless all three would be.
    expected = 0.6 - 0.6**3
    for member in range(2):
        share = dropped[member, :, complete[member]].float().mean().item()
        assert share == pytest.approx(expected, abs=0.03)
    one_modality = batch.present_EMB.sum(1) == 1
    assert (remaining.sum(1)[one_modality] == 1).all()
    assert one_seed._dropped_modalities(batch.present_EMB[1:])[0].equal(dropped[1])
    assert not dropped[0].equal(dropped[1])


def test_modality_dropout_is_on_in_training_only(tmp_path: Path) -> None:
    corpus = tiny_corpus(tmp_path / "c.h5")
    configuration = without_dropout(with_seeds(1, epochs=1))
    configuration = replace(configuration, train=replace(configuration.train, modality_dropout=0.5))
    model, trainer = dhmd_trainer(corpus, configuration, tmp_path / "s")
    masks: list[Tensor] = []
    losses = model.losses
    model.losses = lambda batch: (masks.append(batch.present_EMB), losses(batch))[1]  # type: ignore[method-assign, assignment]
    trainer.run()
    planned = [b for update in trainer.planner.epoch(1) for b in update]
    dropped = sum((~present).sum() for present in masks)
    rows = torch.from_numpy(np.concatenate([b.rows_EB for b in planned], axis=1))
    absent = (~trainer.corpus.present_MN[:, rows[0]]).sum()
    assert dropped > absent + 5
    first, second = trainer.validation_scores(), trainer.validation_scores()
    assert first == second


@pytest.mark.parametrize("task", [Task(), CLASSES], ids=["regression", "classification"])
def test_utterances_with_weight_zero_change_nothing(task: Task) -> None:
    """Features and labels of utterances with weight 0 do not change any loss."""
    members = Members((1, 2), CPU)
    model = UnimodalModel(members, task, "audio", 3, MODEL).eval()
    batch = random_batch((3,), steps=(5,), task=task, absent=0.0, padding_rows=2)
    other = replace(batch, features=[batch.features[0].clone()], labels_EB=batch.labels_EB.clone())
    other.features[0][:, :, -2:] = 5.0
    other.labels_EB[:, -2:] = 0.0
    gradients = []
    for one_batch in (batch, other):
        model.zero_grad()
        model.losses(one_batch)["total"].sum().backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert all(a.equal(b) for a, b in zip(*gradients, strict=True))


# ---- precision -----------------------------------------------------------------------------------


def test_precision_changes_only_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Compare bfloat16 with float32 up to rounding; TF32 on a CPU only logs a warning."""
    corpus, steps, trained = tiny_corpus(tmp_path / "c.h5"), {}, {}
    for precision in ("float32", "tf32", "bfloat16"):
        configuration = with_seeds(1, 2, precision=precision, epochs=3)
        model, trainer = dhmd_trainer(corpus, configuration, tmp_path / precision)
        steps[precision] = record_losses(model)
        trainer.run()
        trained[precision] = trainer.best_P
    assert "train.precision is tf32" in caplog.text
    assert torch.equal(trained["tf32"], trained["float32"])
    first, other = (steps[name][0]["total"] for name in ("float32", "bfloat16"))
    assert not torch.equal(first, other)
    assert_close(other, first, rtol=0.02, atol=0, what="the first step's loss")
    last = [torch.stack([s["total"] for s in steps[n][-3:]]).mean() for n in steps]
    assert_close(last[2], last[0], rtol=0.1, atol=0, what="the last steps' loss")
    assert trained["bfloat16"].dtype == torch.float32
    assert not torch.equal(trained["bfloat16"], trained["float32"])
