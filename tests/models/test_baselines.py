"""The shipped baselines against plain versions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dhmd.base.errors import DhmdError
from dhmd.models.baselines.gru import GRU
from dhmd.models.baselines.late_fusion import LateFusion
from dhmd.models.baselines.mult import MulT
from tests.models.baselines.models import learner
from tests.models.batches import random_batch
from tests.models.compare import assert_close
from tests.models.stacked.layers import linear_of
from tests.models.stacked.settings import INPUTS
from tests.models.stacked.test_layers import torch_gru

WIDTHS = list(INPUTS.values())


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(DhmdError, match="there is no model 'lstm'; the models are dhmd, "):
        learner("lstm")


def test_late_fusion_equals_a_residual_mlp_on_pooled_features() -> None:
    model, batch = learner("late_fusion").eval(), random_batch(WIDTHS)
    assert isinstance(model, LateFusion)
    pooled = torch.zeros(2, 3, 6, 8)
    for m, encoder in enumerate(model.encoders):
        encoded = encoder(batch.features[m], batch.masks[m]).relu()
        for r in range(2):
            for b in range(6):
                if batch.present_EMB[r, m, b]:
                    pooled[r, m, b] = encoded[r, 0, b][batch.masks[m][r, 0, b]].mean(0)
    assert_close(model.predict(batch), model.fusion([pooled], batch.present_EMB))


def test_mult_equals_a_residual_mlp_on_cross_modal_features() -> None:
    model, batch = learner("mult").eval(), random_batch(WIDTHS)
    assert isinstance(model, MulT)
    columns = zip(model.encoders, batch.features, batch.masks, strict=True)
    encoded = [encoder(x, mask) for encoder, x, mask in columns]
    crossed = model.crossing(encoded, batch.masks)
    for r in range(2):
        for b in range(6):
            joint = torch.cat(
                [_mean(x[r, 0, b], k[r, 0, b]) for x, k in zip(crossed, batch.masks, strict=True)]
            )
            hidden = linear_of(model.narrow, r, 0)(joint).relu()
            joint = joint + linear_of(model.widen, r, 0)(hidden)
            assert_close(model.predict(batch)[r, b], linear_of(model.head, r, 0)(joint))


def _mean(x_TD: Tensor, mask_T: Tensor) -> Tensor:
    return x_TD[mask_T].mean(0) if mask_T.any() else torch.zeros(x_TD.shape[1])


def test_the_gru_reads_only_the_first_modality() -> None:
    model, batch = learner("gru").eval(), random_batch(WIDTHS)
    assert isinstance(model, GRU)
    for r in range(2):
        theirs = torch_gru(model.gru, r, 4)
        for b in range(6):
            real = batch.features[0][r, 0, b][batch.masks[0][r, 0, b]]
            pooled = theirs(real[None])[0][0].mean(0) if len(real) else torch.zeros(16)
            assert_close(model.predict(batch)[r, b], linear_of(model.head, r, 0)(pooled))
    others = torch.tensor([[[False], [True], [True]]]).expand(2, 3, 6)
    assert model.predict(batch.without(others)).equal(model.predict(batch))
