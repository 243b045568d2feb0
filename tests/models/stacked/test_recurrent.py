"""The GRU against torch's own on packed sequences."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from dhmd.models.stacked.recurrent import GRU
from tests.models.stacked.layers import masks, members, normal
from tests.oracle.compare import assert_close


def torch_gru(ours: GRU, member: int, inputs: int) -> nn.GRU:
    theirs = nn.GRU(inputs, ours.hidden, batch_first=True, bidirectional=True)
    own = dict(theirs.named_parameters())
    with torch.no_grad():
        for group, suffix in enumerate(("", "_reverse")):
            for part, name in ((ours.input, "ih"), (ours.state, "hh")):
                own[f"weight_{name}_l0{suffix}"].copy_(part.weight_EGIO[member, group].T)
                own[f"bias_{name}_l0{suffix}"].copy_(part.bias_EGO[member, group])
    return theirs


def test_a_gru_is_torchs_on_packed_sequences() -> None:
    ours = GRU(members(), 3, 4)
    mask = masks(2, 1, 5, steps=6)
    x = (normal(2, 1, 5, 6, 3) * mask.unsqueeze(-1)).requires_grad_()
    states = ours(x, mask)
    real = mask.expand(-1, 2, -1, -1).unsqueeze(-1)
    ((states * real) ** 2).sum().backward()
    for r in range(2):
        theirs = torch_gru(ours, r, 3)
        own = x[r, 0].detach().requires_grad_()
        lengths = mask[r, 0].sum(-1)
        packed = pack_padded_sequence(own, lengths, batch_first=True, enforce_sorted=False)
        expected, _ = pad_packed_sequence(theirs(packed)[0], batch_first=True, total_length=6)
        (expected**2).sum().backward()
        both = torch.cat(list(states[r]), dim=-1)
        assert_close(both * mask[r, 0].unsqueeze(-1), expected)
        assert_close(x.grad[r, 0], own.grad)
        grads = {name: p.grad for name, p in theirs.named_parameters()}
        for group, suffix in enumerate(("", "_reverse")):
            assert_close(ours.input.weight_EGIO.grad[r, group].T, grads[f"weight_ih_l0{suffix}"])
            assert_close(ours.state.weight_EGIO.grad[r, group].T, grads[f"weight_hh_l0{suffix}"])


def test_padding_further_changes_no_state() -> None:
    ours = GRU(members(), 3, 4)
    mask = masks(2, 1, 5, steps=6)
    x = normal(2, 1, 5, 6, 3) * mask.unsqueeze(-1)
    longer = ours(nn.functional.pad(x, (0, 0, 0, 3)), nn.functional.pad(mask, (0, 3)))
    real = mask.expand(-1, 2, -1, -1)
    assert_close(longer[:, :, :, :6][real], ours(x, mask)[real])
