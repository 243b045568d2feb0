"""Any module trains over all seeds, together or in turn, with the results of single seeds."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from dhmd.base.errors import DhmdError
from dhmd.data.aligned import Corpus
from dhmd.models.batch import Batch
from dhmd.models.ensemble import Ensemble
from dhmd.models.members import Members
from dhmd.models.stacked.encoders import modality_encoders
from dhmd.models.task import Task
from dhmd.training.outputs import collect_details, missing_modality_predictions
from tests.models import small_models
from tests.models.compare import assert_close
from tests.models.small_models import ensemble, trainer_of
from tests.models.stacked.settings import CPU, MODEL
from tests.training.corpora import tiny_corpus
from tests.training.learners import Recorder

TOGETHER = [
    small_models.PooledModel,
    small_models.EncoderModel,
    small_models.BoundModel,
    small_models.PretrainingModel,
]
ONE_BY_ONE = [
    small_models.RecurrentModel,
    small_models.IndexingModel,
    small_models.BranchingModel,
    small_models.NoisyModel,
    small_models.BatchNormModel,
    small_models.CountingModel,
    small_models.UnimodalLabelModel,
    small_models.VideoModel,
]
EVERY = TOGETHER + ONE_BY_ONE


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return tiny_corpus(tmp_path_factory.mktemp("corpus") / "c.h5")


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)
def test_a_seed_trained_alone_gives_the_same_results_as_with_others(
    cls: type[nn.Module], corpus: Corpus, tmp_path: Path
) -> None:
    """Train with dropout, modality dropout, buckets, padding and averaging."""
    together = trainer_of(cls, corpus, tmp_path / "a", (3, 7, 9))
    alone = trainer_of(cls, corpus, tmp_path / "b", (7,))
    many, one = together.run(), alone.run()
    assert many.best[1] == pytest.approx(one.best[0], rel=1e-4)
    assert many.best[0] != many.best[1]
    complete = together.learner.member_tensors()
    for name, value in alone.learner.member_tensors().items():
        if cls in ONE_BY_ONE:
            assert value[0].equal(complete[name][1]), name
        else:
            assert_close(value[0], complete[name][1], what=name, rtol=1e-3, atol=1e-4)
    rows = np.arange(len(corpus.ids))
    actual = collect_details(alone.learner, alone.members, alone.corpus, rows)["prediction"][0]
    expected = collect_details(together.learner, together.members, together.corpus, rows)[
        "prediction"
    ][1]
    assert np.allclose(actual, expected, atol=1e-3)
    dropped = missing_modality_predictions(
        together.learner, together.members, together.corpus, rows
    )
    assert np.isfinite(dropped["text"]).all()


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)
def test_a_training_logs_its_mode_resumes_and_is_restored(
    cls: type[nn.Module], corpus: Corpus, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="dhmd"):
        complete = trainer_of(cls, corpus, tmp_path / "a", (1, 2), epochs=4)
        expected = complete.run()
    # The first batch decides.
    assert complete.learner.mode == ("vmap" if cls in TOGETHER else "loop")
    [message] = caplog.messages
    words = "all seeds train together" if cls in TOGETHER else "one after another, because"
    assert words in message

    with pytest.raises(KeyboardInterrupt):
        trainer_of(cls, corpus, tmp_path / "b", (1, 2), Recorder(stop_after=2), epochs=4).run()
    resumed = trainer_of(cls, corpus, tmp_path / "b", (1, 2), epochs=4)
    actual = resumed.run()
    assert actual.history == expected.history
    assert actual.best_epoch == expected.best_epoch
    saved = complete.learner.member_tensors()
    for name, value in saved.items():
        assert resumed.learner.member_tensors()[name].equal(value), name

    assert set(saved) == set(complete.learner._instances[0].state_dict())  # type: ignore[attr-defined]
    other, members, data = ensemble(cls, corpus, (1, 2))
    other.load_member_tensors(saved)
    rows = corpus.index("test")
    before = collect_details(complete.learner, complete.members, complete.corpus, rows)[
        "prediction"
    ]
    after = collect_details(other, members, data, rows)["prediction"]
    assert np.allclose(after[:, rows], before[:, rows], atol=1e-5)


def test_vmap_equals_single_modules(corpus: Corpus) -> None:
    learner, _, data = ensemble(small_models.PooledModel, corpus, (1, 2))
    learner.eval()
    rows = torch.from_numpy(corpus.index("train")[:5]).expand(2, -1)
    batch = data.batch(rows, torch.full((2, 5), 0.2), (7, 7, 7))
    actual, losses = learner.predict(batch), learner.losses(batch)
    losses["total"].sum().backward()
    assert learner.mode == "vmap"
    for index, module in enumerate(learner._instances):
        member_batch = batch.of_member(index)
        expected = module(member_batch)
        assert_close(actual[index], expected, rtol=1e-5)
        loss = (expected[:, 0] - member_batch.labels_B).abs().mean()
        assert_close(losses["total"][index], loss, rtol=1e-5)
        assert losses["task"].equal(losses["total"])
        parameters = list(module.parameters())
        grads = torch.autograd.grad(loss, parameters)
        stacked = [p.grad for p in learner.model.parameters()]
        for stacked_grad, grad in zip(stacked, grads, strict=True):
            assert_close(stacked_grad[index], grad, rtol=1e-4)


def test_eval_switches_dropout_off_in_both_modes(corpus: Corpus) -> None:
    for cls in (small_models.PooledModel, small_models.RecurrentModel):
        learner, _, data = ensemble(cls, corpus, (1, 2))
        rows = torch.from_numpy(corpus.index("train")[:5]).expand(2, -1)
        batch = data.batch(rows, torch.full((2, 5), 0.2), (7, 7, 7))
        learner.train()
        assert not learner.predict(batch).equal(learner.predict(batch))
        learner.eval()
        assert learner.predict(batch).equal(learner.predict(batch))


def test_pretrained_encoders_are_loaded_into_modality_encoders(corpus: Corpus) -> None:
    learner, _, _ = ensemble(small_models.EncoderModel, corpus, (1, 2))
    encoders: dict[str, dict[str, Tensor]] = {}
    for name, encoder in learner.model.encoders.items():
        members, outputs, inputs, kernel = encoder.convolution.weight.shape
        encoders[name] = {
            "convolution.weight_EIX": torch.randn(members, inputs, kernel * outputs),
            "convolution.bias_EO": torch.randn(members, outputs),
        }
    learner.load_encoders(encoders)
    for name, encoder in learner.model.encoders.items():
        weight = encoder.convolution.weight
        members, outputs, inputs, kernel = weight.shape
        for r, o, i, k in ((0, 0, 0, 0), (1, 3, 2, 1), (1, 7, 1, kernel - 1)):
            stacked = encoders[name]["convolution.weight_EIX"]
            assert weight[r, o, i, k] == stacked[r, i, k * outputs + o]
    encoders["text"]["convolution.weight_EIX"] = torch.zeros(2, 1, 8)
    with pytest.raises(ValueError, match="encoder of text does not fit"):
        learner.load_encoders(encoders)


def test_a_pretrained_gru_is_loaded_into_a_recurrent_encoder() -> None:
    sizes, config = {"text": 3}, replace(MODEL, recurrent={"text": True})
    (pretrained,) = modality_encoders(Members((1, 2), CPU), sizes, config)

    def create() -> nn.Module:
        return small_models.EncoderModel(sizes, Task(), config)

    learner = Ensemble(Members((3, 4), CPU), Task(), create, name="encoded")
    learner.load_encoders({"text": dict(pretrained.named_parameters())})
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    x = torch.randn(2, 4, 3)
    expected = pretrained.eval()(x.expand(2, 1, -1, -1, -1), mask.expand(2, 1, -1, -1))
    actual = learner.model.encoders["text"].eval()
    for r in range(2):
        member_batch = {name: p[r] for name, p in actual.named_parameters()}
        assert_close(functional_call(actual, member_batch, (x, mask)), expected[r, 0])


def test_state_per_utterance_is_updated_once_per_epoch(corpus: Corpus, tmp_path: Path) -> None:
    """Neither the check of the first batch nor padding rows update the state."""
    trainer = trainer_of(small_models.UnimodalLabelModel, corpus, tmp_path / "s", (1, 2))
    progress = trainer.run()
    calls = trainer.learner.member_tensors()["seen_N"]
    for member, best in enumerate(progress.best_epoch):
        assert calls[member].unique().tolist() == [best]


def test_a_parameter_group_sets_rate_and_weight_decay(corpus: Corpus, tmp_path: Path) -> None:
    trainer = trainer_of(small_models.UnimodalLabelModel, corpus, tmp_path / "s", (1,))
    group = trainer.learner.parameter_group("model.heads.text.weight")
    assert (group.learning_rate, group.weight_decay) == (0.1, 0.3)
    assert trainer.learner.parameter_group("model.mlp.0.weight").weight_decay is None


def test_phases_have_their_own_parameters_and_history(corpus: Corpus, tmp_path: Path) -> None:
    recorder = Recorder()
    trainer = trainer_of(small_models.BoundModel, corpus, tmp_path / "s", (1,), recorder, epochs=1)
    calls: list[str] = []
    step = trainer.optimiser.step
    trainer.optimiser.step = lambda phase=None: (calls.append(phase), step(phase))[0]  # type: ignore[method-assign]
    trainer.run()
    half = len(calls) // 2
    assert calls == ["bound"] * half + ["main"] * half
    names = set(recorder.epochs[0][1]["seed-1"])
    assert {"train/total", "train/task", "train/bound_total"} <= names


def test_phases_may_alternate_per_update(corpus: Corpus, tmp_path: Path) -> None:
    class Adversarial(small_models.BoundModel):
        alternate = "update"

    trainer = trainer_of(Adversarial, corpus, tmp_path / "s", (1,), epochs=1)
    calls: list[str] = []
    step = trainer.optimiser.step
    trainer.optimiser.step = lambda phase=None: (calls.append(phase), step(phase))[0]  # type: ignore[method-assign]
    trainer.run()
    assert calls == ["bound", "main"] * (len(calls) // 2)


def test_pretraining_epochs_come_first_and_are_not_selected(corpus: Corpus, tmp_path: Path) -> None:
    recorder = Recorder()
    trainer = trainer_of(
        small_models.PretrainingModel,
        corpus,
        tmp_path / "s",
        (1, 2),
        recorder,
        epochs=2,
        early_stop=1,
    )
    calls: list[tuple[str, int]] = []
    losses = trainer.learner.losses
    trainer.learner.losses = lambda batch: (  # type: ignore[method-assign]
        calls.append((batch.phase, batch.epoch)),
        losses(batch),
    )[1]
    progress = trainer.run()
    assert sorted(set(calls), key=calls.index)[:3] == [
        ("pretraining", 1),
        ("pretraining", 2),
        ("", 1),
    ]
    assert min(progress.best_epoch) > 2
    assert [epoch for epoch, _ in recorder.epochs][:3] == [1, 2, 3]
    assert "train/task" not in recorder.epochs[0][1]["seed-1"]


def test_a_diverged_seed_stops_and_the_others_finish(corpus: Corpus, tmp_path: Path) -> None:
    class Fragile(small_models.RecurrentModel):
        """Raises where a parameter is NaN, as torch.distributions does."""

        def losses(self, batch: Batch) -> dict[str, Tensor]:
            if self.head.weight.isnan().any():
                raise ValueError("parameter is NaN")
            total = batch.mean((self(batch)[:, 0] - batch.labels_B).abs())
            spoilt = torch.where(self.head.bias[0] > self.limit, torch.nan, 0.0)
            return {"total": total + spoilt}

        limit = 1e9

    trainer = trainer_of(Fragile, corpus, tmp_path / "s", (1, 2), epochs=4)
    trainer.learner._instances[1].limit = -1e9  # type: ignore[attr-defined]
    progress = trainer.run()
    assert progress.diverged == [None, 1]
    assert progress.epoch == 4
    rows = np.arange(len(corpus.ids))
    actual = collect_details(trainer.learner, trainer.members, trainer.corpus, rows)["prediction"]
    assert np.isfinite(actual).all()


class Flat(small_models.PooledModel):
    def forward(self, batch: Batch) -> Tensor:
        return super().forward(batch)[:, 0]


class NoTotal(small_models.PooledModel):
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        return {"loss": batch.mean(self(batch)[:, 0])}


class Broken(small_models.PooledModel):
    def forward(self, batch: Batch) -> Tensor:
        raise KeyError("smell")


@pytest.mark.parametrize(
    ("cls", "error", "message"),
    [
        (Flat, DhmdError, r"model: forward\(\) must return \[8, 1\] .* but returned \[8\]"),
        (NoTotal, DhmdError, r"model: losses\(\) must return a loss named 'total'"),
        (Broken, KeyError, "smell"),
    ],
)
def test_an_error_in_a_model_is_reported(
    cls: type[nn.Module], error: type[Exception], message: str, corpus: Corpus, tmp_path: Path
) -> None:
    trainer = trainer_of(cls, corpus, tmp_path / "s", (1, 2))
    with pytest.raises(error, match=message):
        trainer.validation_scores() if cls is Flat else trainer.run()
