"""The encoders that feed the vertices: which modality attends to which."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from dhmd.models.stacked.cross_modal import CrossModalAttention, SelfAttention, attention_rates
from tests.models.stacked.layers import masks, members, normal
from tests.models.stacked.settings import MODEL
from tests.oracle.compare import assert_close

NAMES = ("text", "audio", "vision")


def inputs(lengths: tuple[int, ...]) -> tuple[list[Tensor], list[Tensor]]:
    real = [masks(2, 1, 4, steps=n, seed=m) for m, n in enumerate(lengths)]
    steps = [normal(*mask.shape, 8, seed=m) * mask.unsqueeze(-1) for m, mask in enumerate(real)]
    return steps, real


@pytest.mark.parametrize("kind", [SelfAttention, CrossModalAttention])
def test_modalities_of_their_own_lengths_go_the_same_way_as_a_stack(kind: type) -> None:
    module = kind(members(), NAMES, 8, MODEL)
    steps, real = inputs((5, 5, 5))
    together = module(steps, real)
    longer = [nn.functional.pad(x, (0, 0, 0, m)) for m, x in enumerate(steps)]
    longer_masks = [nn.functional.pad(mask, (0, m)) for m, mask in enumerate(real)]
    apart = module(longer, longer_masks)
    for m in range(3):
        assert apart[m].shape[3] == 5 + m
        assert_close(apart[m][:, :, :, :5][real[m]], together[m][real[m]], rtol=1e-4, atol=1e-5)


def test_self_attention_keeps_modalities_apart() -> None:
    module = SelfAttention(members(), NAMES, 8, MODEL)
    steps, real = inputs((5, 5, 5))
    before = module(steps, real)
    steps[1] = steps[1] + 1
    after = module(steps, real)
    assert [a.equal(b) for a, b in zip(after, before, strict=True)] == [True, False, True]


def test_each_target_attends_to_every_other_modality_in_its_place() -> None:
    module = CrossModalAttention(members(), NAMES, 8, MODEL)
    assert module.width == 16
    assert module.pairs == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    caught: list[Tensor] = []
    module.memory.register_forward_pre_hook(lambda _, args: caught.append(args[0]))
    steps, real = inputs((5, 5, 5))
    module(steps, real)
    other = [x.clone() for x in steps]
    other[1] = other[1] + real[1].unsqueeze(-1) * normal(*steps[1].shape, seed=9)
    module(other, real)
    changed = (caught[0] - caught[1]).abs().amax(dim=(0, 2, 3)).view(3, 2, 8).amax(-1) > 1e-4
    # Targets text and vision change where they listen to audio, audio changes everywhere.
    assert changed.tolist() == [[True, False], [True, True], [False, True]]


def test_dropout_of_attention_is_that_of_the_modality_attended_to() -> None:
    assert attention_rates(NAMES, MODEL) == [0.3, 0.2, 0.0]
    module = CrossModalAttention(members(), NAMES, 8, MODEL)
    assert module.cross is not None
    rates = [layer.attention.dropout.rates_G for layer in module.cross.layers]
    assert rates == [(0.2, 0.0, 0.3, 0.0, 0.3, 0.2)]
    assert module.memory.layers[0].attention.dropout.rates_G == (0.3, 0.2, 0.0)


@pytest.mark.parametrize(
    ("names", "crossing", "width"),
    [(NAMES, True, 16), (NAMES, False, 8), (NAMES[:2], True, 8), (NAMES[:1], True, 8)],
)
def test_the_vertex_width_follows_from_modalities_and_crossing(
    names: tuple[str, ...], crossing: bool, width: int
) -> None:
    module = CrossModalAttention(members(), names, 8, replace(MODEL, cross_modal=crossing))
    assert module.width == width
    assert (module.cross is None) == (not crossing or len(names) == 1)
    steps, real = inputs((5,) * len(names))
    out = module(steps, real)
    assert [tuple(x.shape) for x in out] == [(2, 1, 4, 5, width)] * len(names)
    if module.cross is None:
        alone = SelfAttention(members(), names, 8, MODEL)
        alone.encoder.load_state_dict(module.memory.state_dict())
        assert all(a.equal(b) for a, b in zip(out, alone(steps, real), strict=True))


def test_an_absent_source_gives_finite_numbers_that_do_not_depend_on_its_padding() -> None:
    module = CrossModalAttention(members(), NAMES, 8, MODEL)
    steps, real = inputs((5, 5, 5))
    real[2] = torch.zeros_like(real[2])
    steps[2] = torch.zeros_like(steps[2])
    before = module(steps, real)
    steps[2], real[2] = steps[2].repeat(1, 1, 1, 3, 1), real[2].repeat(1, 1, 1, 3)
    after = module(steps, real)
    for m in (0, 1):
        assert after[m].isfinite().all()
        assert_close(after[m][real[m]], before[m][real[m]], rtol=1e-4, atol=1e-5)
