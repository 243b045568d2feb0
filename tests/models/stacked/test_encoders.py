"""Modality encoders and the model that pretrains one."""

from __future__ import annotations

import torch

from dhmd.models.stacked.encoders import ModalityEncoder, UnimodalModel
from dhmd.models.task import Task
from tests.models.stacked.layers import linear_of, members
from tests.models.stacked.settings import CLASSES
from tests.oracle.batches import padded, random_batch
from tests.oracle.compare import assert_close


def test_an_encoder_gives_zeros_on_padding_and_does_not_see_how_much_there_is() -> None:
    encoder = ModalityEncoder(members(), 3, 4, kernel=5, input_dropout=0.5)
    batch = random_batch((3,), steps=(5,))
    longer = padded(batch, (3,))
    y = encoder(batch.features[0], batch.masks[0])
    assert y[~batch.masks[0]].eq(0).all()
    stretched = encoder(longer.features[0], longer.masks[0])
    assert_close(stretched[:, :, :, :5], y)
    assert stretched[:, :, :, 5:].eq(0).all()


def _model(task: Task) -> UnimodalModel:
    return UnimodalModel(members(), task, 3, 4, kernel=3, input_dropout=0.5, output_dropout=0.5)


def test_its_head_sees_the_mean_of_rectified_steps() -> None:
    model, batch = _model(CLASSES), random_batch((3,), steps=(5,), task=CLASSES)
    output = model.predict(batch)
    assert output.shape == (2, 6, 3)
    encoded = model.encoder(batch.features[0], batch.masks[0])
    for r in range(2):
        for b in range(6):
            real = encoded[r, 0, b][batch.masks[0][r, 0, b]]
            hidden = linear_of(model.hidden, r, 0)(real.relu().mean(0)).relu()
            assert_close(output[r, b], linear_of(model.head, r, 0)(hidden))
    assert_close(model.predict(padded(batch, (4,))), output)


def test_its_loss_is_the_weighted_mean_over_utterances_that_have_the_modality() -> None:
    model, batch = _model(Task()), random_batch((3,), steps=(5,))
    batch = batch.without(torch.tensor([[[0, 1, 0, 0, 0, 0]], [[0, 0, 0, 1, 1, 0]]]).bool())
    output, losses = model.predict(batch)[..., 0], model.losses(batch)
    for r in range(2):
        expected = sum(
            batch.weight_EB[r, b] * (output[r, b] - batch.labels_EB[r, b]).abs()
            for b in range(6)
            if batch.present_EMB[r, 0, b]
        )
        assert_close(losses["task"][r], expected)
    assert losses["total"].equal(losses["task"])
