"""The pretraining model, self-attention and cross-modal attention."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from dhmd.models.stacked.encoders import (
    CrossModalAttention,
    SelfAttention,
    UnimodalModel,
)
from dhmd.models.task import Task
from tests.models.batches import padded, random_batch
from tests.models.compare import assert_close
from tests.models.stacked.layers import linear_of, masks, members, normal
from tests.models.stacked.settings import CLASSES, MODEL


def _model(task: Task) -> UnimodalModel:
    return UnimodalModel(members(), task, "text", 3, MODEL).eval()


def test_the_head_reads_the_mean_of_rectified_steps() -> None:
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


def test_the_loss_averages_over_utterances_with_the_modality() -> None:
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


NAMES = ("text", "audio", "vision")


def inputs(lengths: tuple[int, ...]) -> tuple[list[Tensor], list[Tensor]]:
    real = [masks(2, 1, 4, steps=n, seed=m) for m, n in enumerate(lengths)]
    steps = [normal(*mask.shape, 8, seed=m) * mask.unsqueeze(-1) for m, mask in enumerate(real)]
    return steps, real


def test_attention_dropout_has_the_rate_of_the_attended_modality() -> None:
    module = CrossModalAttention(members(), NAMES, 8, MODEL).eval()
    assert module.cross is not None
    rates = [layer.attention.dropout.rates_G for layer in module.cross.layers]
    assert rates == [(0.2, 0.0, 0.1, 0.0, 0.1, 0.2)]
    assert module.memory.layers[0].attention.dropout.rates_G == (0.1, 0.2, 0.0)


@pytest.mark.parametrize(
    ("names", "cross_modal", "width"),
    [(NAMES, True, 16), (NAMES, False, 8), (NAMES[:2], True, 8), (NAMES[:1], True, 8)],
)
def test_vertices_have_the_width_of_their_features(
    names: tuple[str, ...], cross_modal: bool, width: int
) -> None:
    module = CrossModalAttention(
        members(), names, 8, replace(MODEL, cross_modal=cross_modal)
    ).eval()
    assert module.width == width
    assert (module.cross is None) == (not cross_modal or len(names) == 1)
    steps, real = inputs((5,) * len(names))
    out = module(steps, real)
    assert [tuple(x.shape) for x in out] == [(2, 1, 4, 5, width)] * len(names)
    if module.cross is None:
        alone = SelfAttention(members(), names, 8, MODEL).eval()
        alone.encoder.load_state_dict(module.memory.state_dict())
        assert all(a.equal(b) for a, b in zip(out, alone(steps, real), strict=True))
