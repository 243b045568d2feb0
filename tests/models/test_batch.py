"""Batches without some modalities."""

from __future__ import annotations

import torch

from tests.models.batches import random_batch


def test_without_removes_modalities() -> None:
    batch = random_batch((3, 4), absent=0.2, padding_rows=0)
    before = [x.clone() for x in batch.features]
    absent = torch.zeros_like(batch.present_EMB)
    absent[0, 0] = True
    absent[1, 1, :3] = True
    reduced = batch.without(absent)
    assert reduced.present_EMB.equal(batch.present_EMB & ~absent)
    for m in range(2):
        absent_EB = absent[:, m]
        assert reduced.features[m][:, 0][absent_EB].eq(0).all()
        assert not reduced.masks[m][:, 0][absent_EB].any()
        assert reduced.features[m][:, 0][~absent_EB].equal(batch.features[m][:, 0][~absent_EB])
        assert reduced.masks[m][:, 0][~absent_EB].equal(batch.masks[m][:, 0][~absent_EB])
        assert batch.features[m].equal(before[m])
    assert reduced.weight_EB is batch.weight_EB
    assert reduced.labels_EB is batch.labels_EB
    assert reduced.teachers_EMBO is batch.teachers_EMBO
