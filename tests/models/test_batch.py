"""Batches of one seed and of all members."""

from __future__ import annotations

import torch

from tests.models.batches import random_batch


def test_without_removes_modalities() -> None:
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
