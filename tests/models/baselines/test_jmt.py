"""JMT's sequences, pairs and layers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dhmd.base.errors import DhmdError
from dhmd.models.baselines.jmt import Layer
from tests.models.baselines.models import CERTAIN, module
from tests.models.batches import random_batch
from tests.models.compare import assert_close
from tests.models.stacked.settings import INPUTS


def test_modalities_and_joint_representation_attend_to_each_other() -> None:
    """Two modalities: the six pairs of the paper."""
    model = module("jmt", {"audio": 3, "vision": 5})
    assert sorted(model.pairs) == [
        ("audio", "joint"),
        ("audio", "vision"),
        ("joint", "audio"),
        ("joint", "vision"),
        ("vision", "audio"),
        ("vision", "joint"),
    ]
    assert model.fusion.in_features == 6 * 8
    assert len(module("jmt").pairs) == 12


def test_a_layer_is_torchs_post_norm_layer() -> None:
    layer = Layer(CERTAIN).eval()
    theirs = nn.TransformerEncoderLayer(8, 2, dim_feedforward=32, dropout=0.0, batch_first=True)
    ours = layer.attention
    with torch.no_grad():
        parts = (ours.query, ours.key, ours.value)
        theirs.self_attn.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.self_attn.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    theirs.self_attn.out_proj.load_state_dict(ours.out.state_dict())
    theirs.linear1.load_state_dict(layer.feed_forward[0].state_dict())
    theirs.linear2.load_state_dict(layer.feed_forward[2].state_dict())
    x_BTD = torch.randn(2, 5, 8)
    mask_BT = torch.arange(5) < torch.tensor([[5], [3]])
    expected = theirs(x_BTD, src_key_padding_mask=~mask_BT)
    assert_close(layer(x_BTD, mask_BT)[mask_BT], expected[mask_BT])


def test_sequences_of_different_lengths_are_refused() -> None:
    batch = random_batch(list(INPUTS.values()), members=1, steps=(5, 7, 9)).of_member(0)
    with pytest.raises(DhmdError, match="jmt needs word-aligned sequences"):
        module("jmt")(batch)
