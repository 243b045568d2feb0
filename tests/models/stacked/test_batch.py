"""Batches, and running groups at once or one by one."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dhmd.models.batch import by_group
from dhmd.models.stacked.linear import Linear
from tests.models.stacked.layers import members, normal
from tests.oracle.batches import random_batch
from tests.oracle.compare import assert_close


class Counting(nn.Module):
    """A linear map that tells how often it ran."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = Linear(members(), 3, 4, 5)
        self.runs = 0

    def forward(self, x: Tensor, select: slice = slice(None)) -> Tensor:
        self.runs += 1
        return self.linear(x, select)


def test_groups_of_one_shape_run_at_once_and_others_one_by_one_alike() -> None:
    module = Counting()
    same = [normal(2, 1, 6, 3, 4, seed=m) for m in range(3)]
    together = by_group(module, same)
    assert module.runs == 1
    ragged = [same[0], torch.nn.functional.pad(same[1], (0, 0, 0, 2)), same[2]]
    apart = by_group(module, ragged)
    assert module.runs == 4
    for one, other in zip(together, apart, strict=True):
        assert one.shape[1] == 1
        assert_close(one, other[:, :, :, :3])


def test_without_takes_modalities_away_and_leaves_the_rest_as_it_was() -> None:
    batch = random_batch((3, 4), absent=0.2, uncounted=0)
    before = [x.clone() for x in batch.features]
    away = torch.zeros_like(batch.present_EMB)
    away[0, 0] = True
    away[1, 1, :3] = True
    less = batch.without(away)
    assert less.present_EMB.equal(batch.present_EMB & ~away)
    for m in range(2):
        gone = away[:, m]
        assert less.features[m][:, 0][gone].eq(0).all()
        assert not less.masks[m][:, 0][gone].any()
        assert less.features[m][:, 0][~gone].equal(batch.features[m][:, 0][~gone])
        assert less.masks[m][:, 0][~gone].equal(batch.masks[m][:, 0][~gone])
        assert batch.features[m].equal(before[m])
    assert less.weight_EB is batch.weight_EB
    assert less.labels_EB is batch.labels_EB
    assert less.teachers_EMBO is batch.teachers_EMBO
