"""Gated fusion against a plain version."""

from __future__ import annotations

import torch

from dhmd.models.stacked.fusion import Gate, GatedFusion, auxiliary_average
from tests.models.batches import random_batch
from tests.models.compare import assert_close
from tests.models.stacked.layers import linear_of, members, normal


def test_a_gate_scales_its_feature() -> None:
    gate = Gate(members(), 3, 4)
    h = normal(2, 3, 5, 4)
    for r in range(2):
        for m in range(3):
            own = linear_of(gate.gate, r, m)(h[r, m])
            expected = h[r, m] / (1 + torch.exp(-own))
            assert_close(gate(h)[r, m], expected)
    assert gate(torch.zeros_like(h)).eq(0).all()


def _fusion() -> GatedFusion:
    return GatedFusion(members(), 3, [4, 6], hidden=5, outputs=2, dropout=0.5).eval()


def test_fusion_is_gates_then_a_residual_mlp_then_the_head() -> None:
    fusion, present = _fusion(), random_batch((1, 1, 1)).present_EMB
    parts = [normal(2, 3, 6, 4), normal(2, 3, 6, 6, seed=1)]
    found = fusion(parts, present)
    assert found.shape == (2, 6, 2)
    for r in range(2):
        for b in range(6):
            joint = []
            for m in range(3):
                for part, gate, absent in zip(parts, fusion.gates, fusion.absent, strict=True):
                    h = part[r, m, b] if present[r, m, b] else absent[r, m, 0]
                    joint.append(h * torch.sigmoid(linear_of(gate.gate, r, m)(h)))
            x = torch.cat(joint)
            hidden = linear_of(fusion.narrow, r, 0)(x).relu()
            x = x + linear_of(fusion.widen, r, 0)(hidden)
            assert_close(found[r, b], linear_of(fusion.head, r, 0)(x))


def test_an_embedding_replaces_the_features_of_an_absent_modality() -> None:
    fusion, present = _fusion(), random_batch((1, 1, 1), absent=0.5).present_EMB
    parts = [normal(2, 3, 6, 4).requires_grad_(), normal(2, 3, 6, 6, seed=1).requires_grad_()]
    found = fusion(parts, present)
    spoiled = [torch.where(present.unsqueeze(-1), part, 99.0) for part in parts]
    assert fusion(spoiled, present).equal(found)
    found.square().sum().backward()
    for part, absent in zip(parts, fusion.absent, strict=True):
        assert part.grad[~present].eq(0).all()
        assert part.grad[present].ne(0).any(-1).all()
        ever_absent = (~present).any(-1)
        assert absent.grad[:, :, 0].ne(0).any(-1).equal(ever_absent)


def test_the_auxiliary_average_is_over_spaces_and_present_modalities_and_detached() -> None:
    present = random_batch((1, 1, 1), absent=0.5).present_EMB
    spaces = [normal(2, 3, 6, 2).requires_grad_(), normal(2, 3, 6, 2, seed=1).requires_grad_()]
    found = auxiliary_average(spaces, present)
    assert found.shape == (2, 6, 2)
    assert not found.requires_grad
    for r in range(2):
        for b in range(6):
            there = [m for m in range(3) if present[r, m, b]]
            said = [space[r, m, b].detach() for space in spaces for m in there]
            expected = torch.stack(said).mean(0) if said else torch.zeros(2)
            assert_close(found[r, b], expected)


def test_the_auxiliary_average_is_zero_without_modalities() -> None:
    nothing = torch.zeros(2, 3, 6, dtype=torch.bool)
    assert auxiliary_average([normal(2, 3, 6, 2)], nothing).eq(0).all()
